"""GET /v1/models for a virtual key: exactly the names that it may call, and nothing of the operator's deployments.

LiteLLM's own listing knows deployments, not aliases, and its hook can only narrow it; so the ring answers instead.
"""

from starlette.types import Send

from litellm_credits.engine import Engine
from litellm_credits.money import dumps
from litellm_credits.proxy.call import Call
from litellm_credits.proxy.routes import LISTINGS
from litellm_credits.tenancy.keys import bearer_key
from litellm_credits.tenancy.principals import Principal


class ModelListing:
    """Answers model listings of virtual keys."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def answered(self, call: Call, send: Send) -> bool:
        """Answer, if this is a listing by a virtual key; the admin's are LiteLLM's to answer.

        Raises:
            CreditsError: 401, 403 or 503.
        """
        if call.method != "GET" or call.path not in LISTINGS:
            return False
        caller = await self._engine.authenticator.caller(bearer_key(call.headers.get("authorization", "")))
        if not isinstance(caller, Principal):
            return False
        names = (await self._engine.catalog.current()).names_for(caller.access_groups, caller.allowed_aliases)
        body = dumps(
            {
                "object": "list",
                "data": [
                    {"id": name, "object": "model", "created": 0, "owned_by": caller.organization_id} for name in names
                ],
            }
        )
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return True
