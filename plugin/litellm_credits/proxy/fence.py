"""What of a virtual key's requests never reaches LiteLLM: closed routes, and headers that set what a body may not.

LiteLLM asks for a key on most of its routes, not on all (pages, discovery, log-in), and has keys of other kinds on some. The
table is kept here whatever LiteLLM asks for.
"""

from starlette.types import Receive, Scope

from litellm_credits.errors import CreditsError
from litellm_credits.proxy.auth import why_closed
from litellm_credits.proxy.call import Call
from litellm_credits.proxy.routes import Access
from litellm_credits.tenancy.principals import Admin, Authenticator, Principal

_LITELLMS = b"x-litellm-"
_KEPT = frozenset(
    {
        b"x-litellm-api-key",
        b"x-litellm-call-id",
        b"x-litellm-customer-id",
        b"x-litellm-end-user-id",
        b"x-litellm-session-id",
        b"x-litellm-trace-id",
    }
)
"""The key, and names that only end up in the operator's logs. Of the others (timeouts, retries, tags, ...) some choose a
deployment, some multiply a call, and LiteLLM fails on what is no number."""


class Fence:
    """Refuses what is closed to virtual keys, and takes LiteLLM's headers off what is open. The admin's requests pass."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    @staticmethod
    def takes(call: Call) -> bool:
        """Whether the request is for a route of LiteLLM's that is not free."""
        if call.match is None:
            return not call.path.startswith("/api/")
        return call.match.route.access is not Access.FREE

    async def rewrite(self, call: Call, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """The same request without headers that are LiteLLM's.

        Raises:
            RouteNotMetered: the route is not open to the virtual key that the request brings.
        """
        try:
            call.caller = await self._authenticator.caller(call.key)
        except CreditsError:
            call.caller = None  # LiteLLM asks again, where it asks at all
        if isinstance(call.caller, Admin):
            return scope, receive
        closed = why_closed(call)
        if closed is not None:
            if isinstance(call.caller, Principal):
                raise closed
            return scope, receive
        headers = [(name, value) for name, value in scope["headers"] if not name.startswith(_LITELLMS) or name in _KEPT]
        return {**scope, "headers": headers}, receive
