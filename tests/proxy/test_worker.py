"""What the plugin costs a worker besides time: memory. And what its routes are to LiteLLM's."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import HERE, running_gateway
from .gateway import Gateway, Team, wait_until

CALLS, FEW = 30, 10
"""A few are held by what LiteLLM and the server keep of their tasks: their first ones, and an idle connection's last."""


@pytest.fixture(scope="module")
def gateway(
    session_database_url: str, provider_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One worker, with a witness in it."""
    folder = tmp_path_factory.mktemp("witnessed")
    shutil.copy(HERE / "witness.py", folder)
    callbacks = {"callbacks": ["witness.witness", "litellm_credits.proxy.plugin.credits"]}
    with running_gateway(folder, session_database_url, provider_url, workers=1, litellm_settings=callbacks) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, 200),
        ({"stream": True}, 200),
        ({"model": "unknown"}, 403),
        ({"max_tokens": 10_000_000}, 402),
    ],
    ids=["whole", "stream", "not-allowed", "too-expensive"],
)
def test_a_call_that_is_over_is_not_left_to_the_garbage_collector(
    gateway: Gateway, team: Team, more: dict[str, Any], status: int
) -> None:
    body = {"model": "ok", "messages": [{"role": "user", "content": "one two three"}]} | more
    with team.http() as http:
        for _ in range(CALLS):
            assert http.post("/v1/chat/completions", json=body).status_code == status

    wait_until(lambda: gateway.call("GET", "/witness")["calls"] < FEW, seconds=10, what="the end of most calls")


def test_our_routes_are_asked_before_litellms(gateway: Gateway, team: Team) -> None:
    """FastAPI builds LiteLLM's routes as it compares requests with them, and all of them take 15 MB."""
    gateway.call("GET", "/api/health")
    gateway.call("GET", f"/api/teams/{team.team_id}")
    assert gateway.admin.get("/api/nowhere").json()["error"]["code"] == "route_not_found"
    assert gateway.admin.get("/nowhere").status_code == 404

    passed_by = gateway.call("GET", "/witness")["passed_by"]
    assert "/nowhere" in passed_by
    assert [path for path in passed_by if path.startswith("/api/")] == []


def test_litellms_own_routes_under_api_are_litellms(gateway: Gateway, team: Team) -> None:
    assert gateway.call("GET", "/api/plugins") == []
    assert gateway.admin.post("/api/event_logging/batch", json={}).status_code == 200
    with team.http() as http:
        assert http.get("/api/plugins").json()["error"]["code"] == "route_not_metered"
