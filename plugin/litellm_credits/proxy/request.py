"""What a client's request says, and what it may not say."""

import asyncio
from io import BytesIO
from typing import Any
from uuid import UUID

from litellm.types.utils import all_litellm_params
from starlette.datastructures import UploadFile

from litellm_credits.endpoints.audio import bytes_a_second, is_flac, seconds_of
from litellm_credits.endpoints.endpoint import Endpoint
from litellm_credits.errors import BadInput, NotFound, ParameterNotAllowed
from litellm_credits.proxy.call import Call

_LITELLMS = frozenset(
    {"api_version", "litellm_call_id", "litellm_logging_obj", "metadata", "proxy_server_request", "secret_fields"}
)
"""What LiteLLM itself has put into a form by now, over whatever a client sent under these names."""

_OPERATORS = frozenset(all_litellm_params) - {"metadata"} | {
    "base_url",
    "content_policy_fallbacks",
    "context_window_fallbacks",
    "disable_fallbacks",
    "disable_global_guardrail",
    "disable_global_guardrails",
    "extra_body",
    "extra_headers",
    "litellm_params",
    "model_id",
    "opted_out_global_guardrails",
    "organization",
    "router_settings_override",
    "specific_deployment",
    "timeout",
    "user_config",
}
"""Parameters that choose a deployment or a price, switch logging off, or multiply a call: the operator's to set."""

_FILES = ("file", "image", "mask")

_LONGEST_PURPOSE = 200
_LONGEST_ID = 255


async def client_body(call: Call, endpoint: Endpoint, request: dict[str, Any]) -> dict[str, Any]:
    """The body as the client sent it, before LiteLLM added to it. Of a form's files, only how large they are (and how long).

    Raises:
        BadInput: a form has a file in the place of a text.
        ParameterNotAllowed: a form names LiteLLM's own log of the call.
    """
    return await _form(request) if endpoint.form else call.body


async def _form(request: dict[str, Any]) -> dict[str, Any]:
    taken = request["proxy_server_request"]["body"]
    if isinstance(request.get("litellm_logging_obj"), str):  # LiteLLM keeps what it finds there
        raise ParameterNotAllowed(name="litellm_logging_obj", param="litellm_logging_obj")
    body = {name: value for name, value in taken.items() if name not in (*_LITELLMS, *_FILES)}
    for name, value in body.items():
        if isinstance(value, UploadFile):
            raise BadInput(problem=f"'{name[:64]}' must be text, not a file.", param=name[:64])
    for name in _FILES:
        given = request.get(name)
        if isinstance(given, list):
            body[name] = [_size(file) for file in given]
        elif isinstance(given, BytesIO):
            body[name] = _size(given)
            if name == "file":
                sound = given.getvalue()
                body[name]["bytes_a_second"] = bytes_a_second(sound)
                body[name]["flac"] = is_flac(sound)
                body[name]["seconds"] = await asyncio.to_thread(seconds_of, sound)
    return body


def _size(file: BytesIO) -> dict[str, Any]:
    head = file.getbuffer()
    return {"filename": str(getattr(file, "name", "")), "bytes": head.nbytes}


def refuse_overrides(body: dict[str, Any], endpoint: Endpoint) -> None:
    """Refuse what would let the request choose a deployment or a price, or not be counted, and what the endpoint does not know.

    Raises:
        ParameterNotAllowed: naming the field.
    """
    for name in body:
        if name not in endpoint.fields or name in _OPERATORS or name.startswith(("mock_", "_")):
            raise ParameterNotAllowed(name=name, param=name)


def check_stream(body: dict[str, Any]) -> None:
    """Whether the request streams must be certain.

    Raises:
        BadInput: it is not.
    """
    if not isinstance(body.get("stream"), bool | None):
        raise BadInput(problem="'stream' must be true or false.", param="stream")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise BadInput(problem="'stream_options' must be an object.", param="stream_options")


def read_labels(call: Call, request: dict[str, Any], body: dict[str, Any]) -> None:
    """Note on `call` its job and purpose, from our own headers, else from the body's metadata, and LiteLLM's id of it.

    Raises:
        NotFound, BadInput: for what can be neither.
    """
    litellm_call_id = request.get("litellm_call_id")
    call.litellm_call_id = None if litellm_call_id is None else str(litellm_call_id)[:_LONGEST_ID]
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
