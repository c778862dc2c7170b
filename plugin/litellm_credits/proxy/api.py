"""Where the application under /api hangs in LiteLLM's."""

from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Scope

from litellm_credits.api.asgi import route_path
from litellm_credits.proxy.routes import Table


class Api(Mount):
    """Goes before LiteLLM's routes: FastAPI builds them as it compares requests with them, and all of them take 15 MB.

    Those of LiteLLM's own that are under /api too, as the table says, it leaves to LiteLLM.
    """

    def __init__(self, app: ASGIApp, table: Table) -> None:
        super().__init__("/api", app)
        self._table = table

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this request is for us."""
        match, child_scope = super().matches(scope)
        if match is Match.NONE or self._table.find(scope.get("method", "WEBSOCKET"), route_path(scope)) is not None:
            return Match.NONE, {}
        return match, child_scope
