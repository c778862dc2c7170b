"""POST /api/quote: what a request would hold, and at which prices, before it is sent.

The body is the request itself; `?path=` names the route that it is meant for, chat completions by default. A job may be named as
for the call. The ring answers, since only this room knows deployments and their limits.
"""

from typing import Any
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from litellm_credits.api.asgi import answer
from litellm_credits.api.bodies import parse
from litellm_credits.endpoints.endpoint import Endpoint
from litellm_credits.endpoints.table import PRICED
from litellm_credits.engine import Engine
from litellm_credits.errors import BadInput, TeamOnly
from litellm_credits.money import dumps
from litellm_credits.proxy.admission import Admissions, Quote
from litellm_credits.proxy.bodies import whole_body
from litellm_credits.proxy.call import Call
from litellm_credits.proxy.routes import Access, Match, Table
from litellm_credits.tenancy.principals import Principal

_PATH = "/api/quote"
_CHAT = "/v1/chat/completions"


class Quotes:
    """Answers requests for quotes."""

    def __init__(self, engine: Engine, admissions: Admissions, table: Table) -> None:
        self._engine = engine
        self._admissions = admissions
        self._table = table

    @staticmethod
    def takes(call: Call) -> bool:
        """Whether this request is one."""
        return call.method == "POST" and call.path == _PATH

    async def answer(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it.

        Raises:
            CreditsError: 400, 401, 403, 404, 422, 429 or 503, as the call itself would get.
        """
        caller = await self._engine.authenticator.caller(call.key)
        if not isinstance(caller, Principal):
            raise TeamOnly(method=call.method, path=call.path)
        await self._engine.authenticator.may_call(caller)
        path = parse_qs(scope["query_string"].decode("latin-1")).get("path", [_CHAT])[-1]
        match, endpoint = self._priced(path)
        body = parse(await whole_body(receive))
        if not isinstance(body, dict):
            raise BadInput(problem="The request body must be a JSON object.")
        name = match.model or body.get("model") or endpoint.default_model if endpoint.routed else path
        quote = await self._admissions.quote(call, caller, endpoint, name, body)
        await answer(send, 200, [(b"content-type", b"application/json")], dumps(_shown(path, quote)))

    def _priced(self, path: str) -> tuple[Match, Endpoint]:
        match = self._table.find("POST", path)
        if match is None or match.route.access is not Access.PRICED:
            raise BadInput(problem=f"'{path[:200]}' is no priced route; docs/endpoints.md lists them.", param="path")
        endpoint = PRICED[match.route.endpoint]
        if endpoint.form:
            raise BadInput(problem="There are no quotes for forms: what they hold depends on the files.", param="path")
        return match, endpoint


def _shown(path: str, quote: Quote) -> dict[str, Any]:
    admission = quote.admission
    return {
        "path": path,
        "requested_model": admission.requested,
        "model_group_used": admission.group,
        "fits": quote.credits <= quote.available,
        "required": quote.credits,
        "available": quote.available,
        "affordable_max_tokens": quote.affordable,
        "max_tokens": admission.max_tokens,
        "most": {
            "prompt_tokens": admission.prompt_tokens,
            "completion_tokens": admission.output_tokens * admission.choices,
            "units": {str(unit): count for unit, count in admission.units.items()},
        },
        "prices": [
            {
                "model_alias": one.alias.name,
                "pricing_input": one.price.input,
                "pricing_output": one.price.output,
                "pricing_rates": one.price.rates(),
            }
            for one in admission.candidates
        ],
    }
