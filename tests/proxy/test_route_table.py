"""The route table against the installed LiteLLM: nothing unnamed, nothing stale, and both route alike."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import compile_path

from litellm_credits.proxy.routes import ENDPOINTS, TABLE, Access, Route

from .gateway import Team

HTTP = ("GET", "POST", "PUT", "PATCH", "DELETE")
FILLINGS = (
    "x",
    "models",
    "x/chat",
    "x/chat/completions",
    "engines/x/embeddings",
    "openai/deployments/x/images/edits",
    "x:generateContent",
    "x:countTokens",
    "..",
    "token",
    "mcp",
)
"""What parameters are filled with, to make paths that more than one route could take."""


@pytest.fixture(scope="module")
def walked() -> dict[str, list[dict[str, Any]]]:
    """The application's routes, walked by a process of its own."""
    walk = subprocess.run(
        [sys.executable, "-m", "tests.proxy.walk"],
        env={"PATH": os.environ["PATH"], "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert walk.returncode == 0, walk.stderr[-2000:]
    return json.loads(walk.stdout)


def _filled(template: str, filling: str) -> str:
    return re.sub(r"\{[^}]*\}", filling, template)


def _requests(routes: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Method and template of every route; a mount takes all methods."""
    for route in routes:
        for method in route["methods"] or HTTP:
            yield method, route["path"]


def _named(method: str, template: str) -> Route | None:
    """The line of the table that names this route of the application."""
    match = TABLE.find(method, _filled(template, "x"))
    if match is None or (match.route.access is not Access.REFUSED and match.route.path != template):
        return None
    return match.route


def test_every_route_of_litellm_is_named(walked: dict[str, list[dict[str, Any]]]) -> None:
    requests = list(_requests(walked["routes"]))
    named = {request: _named(*request) for request in requests}

    assert [request for request, route in named.items() if route is None] == []
    counts = Counter(str(route.access) for route in named.values() if route is not None)
    print(f"\n{len(walked['routes'])} routes of LiteLLM, {len(named)} with their methods: {dict(counts)}")
    assert counts["refused"] > 700, "the walk must have seen LiteLLM's management routes too"


def test_a_new_route_of_litellm_is_noticed(walked: dict[str, list[dict[str, Any]]]) -> None:
    added = list(_requests(walked["added"]))

    assert {template for _, template in added} == {
        "/v9/brand-new",
        "/v1/chat/completions",
        "/v1/brand-new/live",
        "/brand-new-mount/{path:path}",
        "/included/brand-new",
    }
    assert [request for request in added if _named(*request) is not None] == []


def test_no_line_of_the_table_is_stale(walked: dict[str, list[dict[str, Any]]]) -> None:
    requests = set(_requests(walked["routes"]))
    open_to_keys = {(method, route.path) for route in TABLE.routes for method in route.methods}
    deciding = {_named(*request) for request in requests}

    assert open_to_keys - requests == set()
    assert [route.path for route in TABLE.routes if route.access is Access.REFUSED and route not in deciding] == []


def test_litellm_serves_no_variations_and_no_translations(walked: dict[str, list[dict[str, Any]]]) -> None:
    """As docs/endpoints.md says; a LiteLLM that does has another endpoint to price."""
    assert [route["path"] for route in walked["routes"] if re.search("variations|translations", route["path"])] == []


def test_open_routes_ask_for_a_key(walked: dict[str, list[dict[str, Any]]]) -> None:
    asking = {route["path"] for route in walked["routes"] if route["asks_for_a_key"]}
    open_to_keys = {route for route in TABLE.routes if route.access is not Access.REFUSED}

    assert {route.endpoint for route in open_to_keys if route.path not in asking} == {"health"}
    assert ENDPOINTS["health"].access is Access.FREE


def test_an_open_path_goes_where_the_table_says(walked: dict[str, list[dict[str, Any]]]) -> None:
    app = [(compile_path(route["path"])[0], route["methods"], route["path"]) for route in walked["routes"]]

    def taken_by(method: str, path: str) -> str | None:
        return next((at for regex, takes, at in app if (not takes or method in takes) and regex.match(path)), None)

    templates = {route["path"] for route in walked["routes"]}
    templates |= {f"/{path}" for path in templates} | {f"{path}/" for path in templates}
    reached = set()
    paths = {_filled(template, filling) for template in templates for filling in FILLINGS}
    for path, method in product(paths, HTTP):
        match = TABLE.find(method, path)
        if match is not None and match.route.access is not Access.REFUSED:
            assert (method, path, taken_by(method, path)) == (method, path, match.route.path)
            reached.add(match.route)
    assert reached == {route for route in TABLE.routes if route.access is not Access.REFUSED}


UNKNOWN = (
    ("POST", "/v9/brand-new"),
    ("GET", "/v1/chat/completions"),
    ("PUT", "/v1/messages"),
    ("POST", "/v1/audio/translations"),
    ("POST", "/v1/images/variations"),
    ("POST", "/v1/chat/completions/"),
    ("GET", "/nowhere"),
)


def test_a_running_proxy_refuses_to_a_virtual_key_whatever_the_table_refuses(
    walked: dict[str, list[dict[str, Any]]], team: Team
) -> None:
    """Also where LiteLLM asks for no key, or for one of another kind."""
    named = {request: _named(*request) for request in _requests(walked["routes"])}
    closed = {
        (method, _filled(template, "x"))
        for (method, template), route in named.items()
        if method not in ("WEBSOCKET", "HEAD") and route is not None and route.access is Access.REFUSED
    }
    requests = [*sorted(closed), *UNKNOWN]
    with team.http() as http, ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda request: http.request(*request), requests)
        told = {request: (answer.status_code, answer.text) for request, answer in zip(requests, answers, strict=True)}

    assert len(told) > 1000
    assert {
        request: answer
        for request, answer in told.items()
        if answer[0] != 403 or "route_not_metered" not in answer[1].lower()
    } == {}
    assert team.calls() == []
