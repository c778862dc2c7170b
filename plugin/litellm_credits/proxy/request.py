"""What a client's request says, and what it may not say."""

from typing import Any
from uuid import UUID

from litellm.types.utils import all_litellm_params

from litellm_credits.errors import BadInput, NotFound, ParameterNotAllowed
from litellm_credits.proxy.call import Call

_LITELLMS = frozenset({"litellm_call_id", "litellm_logging_obj", "metadata", "proxy_server_request", "secret_fields"})
"""What LiteLLM itself has put into every request by now, over whatever a client sent under these names."""

_OPERATORS = frozenset(all_litellm_params) - {"metadata"} | {
    "base_url",
    "best_of",
    "content_policy_fallbacks",
    "context_window_fallbacks",
    "disable_fallbacks",
    "extra_body",
    "extra_headers",
    "router_settings_override",
    "specific_deployment",
    "timeout",
    "user_config",
}
"""Parameters that choose a deployment or a price, switch logging off, or multiply a call: the operator's to set."""

_LONGEST_PURPOSE = 200
_LONGEST_ID = 255


def sent_by_client(request: dict[str, Any]) -> dict[str, Any]:
    """The body as the client sent it: LiteLLM's snapshot of it, without what LiteLLM had put into that already."""
    taken = request["proxy_server_request"]
    body = {name: value for name, value in taken["body"].items() if name not in _LITELLMS}
    body |= dict.fromkeys(taken.get("credential_fields", ()))  # whose values LiteLLM keeps out of the snapshot
    stated = (request.get("metadata") or {}).get("requester_metadata")
    return body | {"metadata": stated} if stated else body


def refuse_overrides(body: dict[str, Any]) -> None:
    """Refuse what would let the request choose a deployment or a price, or not be counted.

    Raises:
        ParameterNotAllowed, BadInput: naming the field.
    """
    for name in body:
        if name in _OPERATORS or name.startswith(("mock_", "_")):
            raise ParameterNotAllowed(name=name, param=name)
    if body.get("stream") not in (None, True, False):
        raise BadInput(problem="'stream' must be true or false.", param="stream")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise BadInput(problem="'stream_options' must be an object.", param="stream_options")


def read_labels(call: Call, request: dict[str, Any], body: dict[str, Any]) -> None:
    """Note on `call` its job and purpose, from our own headers, else from the body's metadata, and LiteLLM's id of it.

    Raises:
        NotFound, BadInput: for what can be neither.
    """
    call.litellm_call_id = str(request.get("litellm_call_id"))[:_LONGEST_ID]
    metadata = body.get("metadata")
    labels = metadata if isinstance(metadata, dict) else {}
    if call.job_id is None:
        job_id = call.headers.get("x-job-id") or labels.get("job_id")
        if job_id is not None:
            call.job_id = parse_job_id(job_id)
    if call.purpose is None:
        purpose = call.headers.get("x-purpose") or labels.get("purpose")
        if purpose is not None:
            call.purpose = parse_purpose(purpose)


def parse_job_id(value: object) -> UUID:
    """A job id as given by a client.

    Raises:
        NotFound: for what cannot be the id of a job.
    """
    try:
        return UUID(str(value))
    except ValueError:
        raise NotFound(what="job", id=str(value)[:64], param="job_id") from None


def parse_purpose(value: object) -> str:
    """A purpose as given by a client.

    Raises:
        BadInput: when it is not text, too long, or holds NUL.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_PURPOSE or "\x00" in value:
        raise BadInput(
            problem=f"'purpose' must be text of at most {_LONGEST_PURPOSE} characters, without NUL.", param="purpose"
        )
    return value
