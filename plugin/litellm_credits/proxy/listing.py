"""GET /v1/models and model info for a virtual key: exactly the names that it may call, and nothing of the operator's deployments.

LiteLLM's own listing knows deployments, not aliases, and its hook can only narrow it; so the ring answers instead.
"""

from typing import Any

from starlette.types import Send

from litellm_credits.catalog.catalog import Catalog
from litellm_credits.engine import Engine
from litellm_credits.errors import NotFound
from litellm_credits.money import TOKENS_PER_PRICE, dumps
from litellm_credits.pricing.usage import Unit
from litellm_credits.proxy.call import Call
from litellm_credits.tenancy.principals import Principal

_UNIT_FIELDS = {
    Unit.REQUEST: "input_cost_per_request",
    Unit.IMAGE: "output_cost_per_image",
    Unit.SECOND: "input_cost_per_second",
    Unit.CHARACTER: "input_cost_per_character",
    Unit.QUERY: "input_cost_per_query",
    Unit.PAGE: "ocr_cost_per_page",
}
"""What LiteLLM calls the price of a unit."""


class ModelListing:
    """Answers model listings of virtual keys."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def answered(self, call: Call, send: Send) -> bool:
        """Answer, if this is a listing by a virtual key; the admin's are LiteLLM's to answer.

        Raises:
            CreditsError: 401, 403, 404 or 503.
        """
        if call.match is None or call.match.route.endpoint not in ("models", "model_info"):
            return False
        caller = await self._engine.authenticator.caller(call.key)
        if not isinstance(caller, Principal):
            return False
        catalog = await self._engine.catalog.current()
        names = catalog.names_for(caller.access_groups, caller.allowed_aliases)
        if call.match.route.endpoint == "model_info":
            body: dict[str, Any] = {"data": [_info(name, catalog) for name in names]}
        else:
            models = [
                {"id": name, "object": "model", "created": 0, "owned_by": caller.organization_id} for name in names
            ]
            body = {"object": "list", "data": models}
            wanted = call.match.model
            if wanted is not None:
                if wanted not in names:
                    raise NotFound(what="model", id=wanted, param="model")
                body = models[names.index(wanted)]
        content = dumps(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        return True


def _info(name: str, catalog: Catalog) -> dict[str, Any]:
    """An alias, or a group, in LiteLLM's shape of model info: what the alias itself states, in LiteLLM's units."""
    info: dict[str, Any] = {"id": name}
    alias = catalog.aliases.get(name)
    if alias is not None:
        info["max_output_tokens"] = alias.max_output_tokens
        if alias.price is not None:
            if alias.price.tokens:
                info["input_cost_per_token"] = alias.price.input / TOKENS_PER_PRICE
                info["output_cost_per_token"] = alias.price.output / TOKENS_PER_PRICE
            info |= {_UNIT_FIELDS[unit]: rate for unit, rate in alias.price.units.items()}
    return {"model_name": name, "litellm_params": {"model": name}, "model_info": info}
