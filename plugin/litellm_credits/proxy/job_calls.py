"""POST /api/jobs/{job_id}/llm-call and /llm-call-stream: a chat completion that belongs to a job.

They are answered by LiteLLM's own chat route: the request is rewritten before LiteLLM sees it, so there is no second HTTP
hop, no buffering, and one way through auth, admission and settlement.
"""

import re
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from starlette.types import Receive, Scope

from litellm_credits.api.bodies import parse, replayed
from litellm_credits.errors import BadInput, TeamOnly
from litellm_credits.money import dumps
from litellm_credits.proxy.bodies import redirected, whole_body
from litellm_credits.proxy.call import Call
from litellm_credits.proxy.request import parse_job_id, parse_purpose
from litellm_credits.proxy.routes import TABLE
from litellm_credits.tenancy.principals import Admin, Authenticator

_PATH = re.compile(r"/api/jobs/(?P<job_id>[^/]+)/llm-call(?P<stream>-stream)?")
_CHAT_PATH = "/v1/chat/completions"
_FIELDS = (frozenset(CompletionCreateParamsBase.__annotations__) - {"stream"}) | {"purpose", "call_metadata"}
"""What OpenAI's chat completions take, and ours. Whether to stream is the path's to say."""


class JobCalls:
    """Turns job calls into chat completions."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    @staticmethod
    def takes(call: Call) -> bool:
        """Whether this request is one of the two routes."""
        return call.method == "POST" and _PATH.fullmatch(call.path) is not None

    async def rewrite(self, call: Call, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """The chat completion that this request stands for. Its job and purpose are noted on `call`.

        Raises:
            CreditsError: 401, 403 or 422, naming the field; the job itself is checked by the hold.
        """
        match = _PATH.fullmatch(call.path)
        assert match is not None
        if isinstance(await self._authenticator.caller(call.key), Admin):
            raise TeamOnly(method=call.method, path=call.path)
        call.job_id = parse_job_id(match["job_id"])
        call.path = f"/api/jobs/{{job_id}}/llm-call{match['stream'] or ''}"
        request = check_call(parse_call(await whole_body(receive)))
        if request.get("purpose") is not None:
            call.purpose = parse_purpose(request["purpose"])
        for name in ("purpose", "call_metadata"):
            request.pop(name, None)
        request["stream"] = match["stream"] is not None
        body = dumps(request)
        call.body = request
        call.match = TABLE.find("POST", _CHAT_PATH)
        return redirected(scope, body, path=_CHAT_PATH), replayed(body, receive)


def parse_call(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        MalformedJson, BadInput: it is none.
    """
    request = parse(body)
    if not isinstance(request, dict):
        raise BadInput(problem="The request body must be a JSON object.")
    return request


def check_call(request: dict[str, Any]) -> dict[str, Any]:
    """The same request, whose fields are those of a job call.

    Raises:
        BadInput: naming the field.
    """
    for name in request:
        if name not in _FIELDS:
            raise BadInput(problem=f"'{name[:64]}' is not a field of this route.", param=name[:64])
    for name in ("model", "messages"):
        if name not in request:
            raise BadInput(problem=f"'{name}' is required.", param=name)
    if not isinstance(request["model"], str):
        raise BadInput(problem="'model' must be the name of a model alias or of an access group.", param="model")
    return request
