"""LiteLLM behind a path prefix (SERVER_ROOT_PATH): what is metered, free and refused is the same under it."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from .conftest import running_gateway
from .gateway import PROMPT, Gateway, Team, credits_for, wait_until

USED = credits_for(15, 8)
CHAT = {"model": "ok", "messages": [{"role": "user", "content": PROMPT}]}


@pytest.fixture(scope="module")
def prefixed(
    session_database_url: str, provider_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A proxy of one worker under /llm."""
    folder, env = tmp_path_factory.mktemp("prefixed"), {"SERVER_ROOT_PATH": "/llm"}
    with running_gateway(folder, session_database_url, provider_url, workers=1, env=env) as gateway:
        assert gateway.base_url.endswith("/llm")
        yield gateway


@pytest.fixture
def team(prefixed: Gateway) -> Team:
    """A new team with 100 credits, which may also call what the operator has opened."""
    opened = "/partner/find"
    prefixed.create(
        "/api/models/aliases/create", {"model_alias": opened, "provider": "pass-through", "actual_model": opened}
    )
    prefixed.create("/api/model-access-groups/create", {"group_name": "opened", "model_aliases": [opened]})
    return prefixed.team(groups=[prefixed.group, "opened"])


def test_a_call_under_the_prefix_is_charged(team: Team) -> None:
    team.chat("ok")
    assert team.ended_call()["credits_charged"] == USED
    team.stream("ok")
    assert [(row["status"], row["endpoint"]) for row in team.calls()] == [("settled", "/v1/chat/completions")] * 2
    assert [model.id for model in team.client().models.list()].count("ok") == 1
    team.check_books()


def test_other_ways_to_call_under_the_prefix(team: Team) -> None:
    job_id = team.job()
    with team.http() as http:
        called = http.post(f"/api/jobs/{job_id}/llm-call", json=CHAT)
        made = http.post("/api/jobs/create-and-call", json=CHAT | {"job_type": "t"})
        deployed = http.post("/openai/deployments/ok/chat/completions", json=CHAT)
        quoted = http.post("/api/quote", json=CHAT)
        passed = http.post("/partner/find", json={"query": "credits"})
    for answer in (called, made, deployed):
        assert answer.json()["choices"], answer.text
    assert quoted.json()["fits"] is True
    assert passed.json() == {"found": 3}
    wait_until(lambda: all(row["status"] == "settled" for row in team.calls()), what="the settles")
    assert [row["credits_charged"] for row in team.calls()] == [USED, USED, USED, Decimal("0.1")]
    team.check_books()


def test_done_once_under_the_prefix(team: Team) -> None:
    once = {"idempotency-key": "one"}
    with team.http() as http:
        first, second = (http.post("/v1/chat/completions", json=CHAT, headers=once) for _ in range(2))
    assert first.content == second.content
    assert second.headers["idempotent-replayed"] == "true"
    assert len(team.calls()) == 1


@pytest.mark.parametrize("path", ["/v1/batches", "/key/generate", "/nowhere", "/llm/v1/chat/completions"])
def test_what_is_refused_is_refused_under_the_prefix(team: Team, path: str) -> None:
    with team.http() as http:
        answer = http.post(path, json={})
        admins = http.get("/api/teams")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "route_not_metered")
    assert (admins.status_code, admins.json()["error"]["code"]) == (403, "admin_only")
    assert team.calls() == []
