"""Prints every route of the installed LiteLLM application as JSON. A process of its own, since walking changes the application.

`{"routes": [...], "added": [...]}`: all routes in the order in which they are matched, with what loads lazily or by a switch of
the configuration; and those that the same walk finds besides after more were added.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from litellm.integrations.prometheus import PrometheusLogger
from litellm.proxy import _lazy_features
from litellm.proxy.proxy_server import app
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute


def routes() -> Iterator[dict[str, Any]]:
    """Every route: its path, its methods (none: all of them) and whether LiteLLM asks for a key before it answers."""
    for route in iter_route_contexts(app.routes):
        original = route.original_route
        path = str(route.path)
        methods = sorted(route.methods or ())
        if isinstance(original, Mount):
            path += "/{path:path}"
        elif isinstance(original, WebSocketRoute):
            methods = ["WEBSOCKET"]
        dependant = getattr(route, "dependant", None)
        asks = dependant is not None and "user_api_key_auth" in set(_names(dependant))
        yield {"path": path, "methods": methods, "asks_for_a_key": asks}


def _names(dependant: Dependant) -> Iterator[str]:
    yield getattr(dependant.call, "__name__", "")
    for inner in dependant.dependencies:
        yield from _names(inner)


def main() -> None:
    # The order of a running proxy: what the configuration switches on first, then features with their first request.
    PrometheusLogger._mount_metrics_endpoint()
    _lazy_features.register_all_features(app)
    failed = {feature.module_path for feature in _lazy_features.LAZY_FEATURES} - set(app.state.lazy_routes)
    assert not failed, f"LiteLLM could not load {failed}"
    assert not getattr(app.router, "_low_priority_routes", []), "a kind of route that this walk does not know"

    found = list(routes())
    app.add_api_route("/v9/brand-new", lambda: None, methods=["POST"])
    app.add_api_route("/v1/chat/completions", lambda: None, methods=["GET"])
    app.add_api_websocket_route("/v1/brand-new/live", lambda websocket: None)
    app.mount("/brand-new-mount", Starlette())
    included = APIRouter(prefix="/included")
    included.add_api_route("/brand-new", lambda: None, methods=["GET"])
    app.include_router(included)
    added = [route for route in routes() if route not in found]
    json.dump({"routes": found, "added": added}, sys.stdout)


if __name__ == "__main__":
    main()
