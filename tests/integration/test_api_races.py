"""Two at once: one wins, nothing is done twice, nothing answers 500."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from decimal import Decimal
from typing import Any

import httpx
import pytest
from api_client import Api, Books, Team, call, hold, make_team

from litellm_credits.engine import Engine
from litellm_credits.errors import CreditsError

MANY = 8


async def _statuses(requests: list[Awaitable[httpx.Response]]) -> Counter[int]:
    return Counter(response.status_code for response in await asyncio.gather(*requests))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/organizations/create", {"organization_id": "zeta", "name": "Z"}),
        ("/teams/create", {"organization_id": "acme", "team_id": "zeta", "access_groups": ["test-chat-fast"]}),
        ("/models/aliases/create", {"model_alias": "zeta", "provider": "p", "actual_model": "m"}),
        ("/model-access-groups/create", {"group_name": "zeta", "model_aliases": ["gpt-3.5-turbo"]}),
    ],
)
async def test_of_many_creations_one_succeeds(admin: Api, organization: str, path: str, body: Any) -> None:
    assert await _statuses([admin.send("POST", path, body) for _ in range(MANY)]) == {200: 1, 409: MANY - 1}


async def test_a_team_created_many_times_at_once_has_one_balance_and_one_key(
    admin: Api, organization: str, books: Books
) -> None:
    body = {"organization_id": "acme", "team_id": "zeta", "access_groups": [], "credits_allocated": 5}
    await asyncio.gather(*(admin.send("POST", "/teams/create", body) for _ in range(MANY)))
    assert len(books.ledger("zeta")) == 1
    assert books.contents()["virtual_keys"] == 1


@pytest.mark.parametrize("path", ["add", "adjust"])
async def test_an_addition_sent_many_times_at_once_adds_once(admin: Api, team: Team, books: Books, path: str) -> None:
    body = {"credits": 5, "reason": "r", "idempotency_key": "k"}
    requests = [admin.ok("POST", f"/credits/teams/alpha/{path}", body) for _ in range(MANY)]
    answers = await asyncio.gather(*requests)
    assert all(answer == answers[0] for answer in answers)
    assert [amount for _, amount, _ in books.ledger("alpha")] == [100, 5]


async def test_additions_at_once_all_count(admin: Api, team: Team, books: Books) -> None:
    await asyncio.gather(*(admin.ok("POST", "/credits/teams/alpha/add", {"credits": n}) for n in range(1, MANY + 1)))
    entries = books.ledger("alpha")
    assert len(entries) == MANY + 1
    assert entries[-1][2] == 100 + sum(range(1, MANY + 1))


async def test_completing_at_once_with_one_status_gives_one_answer(team: Team, engine: Engine) -> None:
    job = await team.api.ok("POST", "/jobs/create", {"job_type": "test"})
    await call(engine, team, job_id=job["job_id"])
    path = f"/jobs/{job['job_id']}/complete"
    answers = await asyncio.gather(*(team.api.ok("POST", path, {"status": "completed"}) for _ in range(MANY)))
    assert all(answer == answers[0] for answer in answers)


async def test_completing_at_once_with_two_statuses_is_won_by_one(team: Team) -> None:
    job = await team.api.ok("POST", "/jobs/create", {"job_type": "test"})
    path = f"/jobs/{job['job_id']}/complete"
    statuses = ["completed", "failed"]
    responses = await asyncio.gather(*(team.api.send("POST", path, {"status": status}) for status in statuses))
    assert sorted(response.status_code for response in responses) == [200, 409]
    [won] = [response.json()["status"] for response in responses if response.status_code == 200]
    assert (await team.api.ok("GET", f"/jobs/{job['job_id']}"))["status"] == won


async def test_merges_at_once_all_count(team: Team) -> None:
    job = await team.api.ok("POST", "/jobs/create", {"job_type": "test"})
    path = f"/jobs/{job['job_id']}/metadata"
    await asyncio.gather(*(team.api.ok("PATCH", path, {"metadata": {str(n): n}}) for n in range(MANY)))
    stored = (await team.api.ok("GET", f"/jobs/{job['job_id']}"))["metadata"]
    assert stored == {str(n): n for n in range(MANY)}


async def test_changes_of_a_plan_at_once_all_count(admin: Api, team: Team) -> None:
    changes: list[dict[str, Any]] = [
        {"require_job": True},
        {"fit_to_balance": True},
        {"fit_min_tokens": 7},
        {"tokens_per_credit": 9},
    ]
    await asyncio.gather(*(admin.ok("PUT", "/teams/alpha", {"plan": change}) for change in changes))
    plan = (await admin.ok("GET", "/teams/alpha"))["plan"]
    for change in changes:
        assert plan.items() >= change.items()


async def test_groups_set_at_once_are_one_of_the_wishes(admin: Api, team: Team) -> None:
    for name in ("a", "b", "c"):
        await admin.ok("POST", "/model-access-groups/create", {"group_name": name})
    wishes = [["a", "b"], ["b", "c"], ["c", "a"], []]
    await asyncio.gather(*(admin.ok("PUT", "/teams/alpha/access-groups", wish) for wish in wishes))
    assert (await admin.ok("GET", "/teams/alpha"))["access_groups"] in wishes


async def test_a_key_rotated_at_once_is_rotated_once(admin: Api, team: Team, books: Books) -> None:
    [key] = (await admin.ok("GET", "/teams/alpha/keys"))["keys"]
    path = f"/teams/alpha/keys/{key['key_id']}/rotate"
    assert await _statuses([admin.send("POST", path) for _ in range(MANY)]) == {200: 1, 404: MANY - 1}
    active = books.rows("SELECT key_id FROM credits.virtual_keys WHERE status = 'active'")
    assert len(active) == 1


async def test_a_group_is_not_deleted_from_under_a_new_team(admin: Api, organization: str) -> None:
    await admin.ok("POST", "/model-access-groups/create", {"group_name": "g"})
    for number in range(MANY):
        body = {"organization_id": "acme", "team_id": f"t{number}", "access_groups": ["g"]}
        made, deleted = await asyncio.gather(
            admin.send("POST", "/teams/create", body), admin.send("DELETE", "/model-access-groups/g")
        )
        assert (made.status_code, deleted.status_code) in {(200, 409), (404, 200)}
        if made.status_code == 200:
            assert (await admin.ok("GET", f"/teams/t{number}"))["access_groups"] == ["g"]
            await admin.ok("DELETE", f"/teams/t{number}")
        else:
            await admin.ok("POST", "/model-access-groups/create", {"group_name": "g"})


@pytest.mark.parametrize("what", ["job", "team", "organization"])
async def test_deleting_while_calls_begin_and_end_leaks_nothing(
    admin: Api, organization: str, engine: Engine, books: Books, what: str
) -> None:
    team = await make_team(admin, "alpha")
    job = await team.api.ok("POST", "/jobs/create", {"job_type": "test"})
    paths = {"job": f"/jobs/{job['job_id']}", "team": "/teams/alpha", "organization": "/organizations/acme"}

    async def calls() -> None:
        for _ in range(20):
            try:
                await call(engine, team, job_id=job["job_id"])
            except (CreditsError, AssertionError):  # the job or team has gone
                return

    async def delete() -> None:
        await asyncio.sleep(0.02)
        await admin.ok("DELETE", paths[what])

    await asyncio.gather(*(calls() for _ in range(4)), delete())
    await engine.ledger.drain()
    entries = books.ledger("alpha")
    if what == "job":
        [balance] = books.rows("SELECT * FROM credits.team_credits")
        assert balance["credits_held"] == 0
        assert balance["credits_remaining"] == sum(amount for _, amount, _ in entries)
    else:
        assert entries[-1][0] == "closure"
        assert sum((amount for _, amount, _ in entries), Decimal(0)) == 0
    assert books.contents()["llm_calls"] == 0


async def test_deleting_twice_at_once_closes_once(admin: Api, team: Team, engine: Engine, books: Books) -> None:
    await hold(engine, team)
    assert await _statuses([admin.send("DELETE", "/teams/alpha") for _ in range(MANY)]) == {200: 1, 404: MANY - 1}
    assert [type for type, _, _ in books.ledger("alpha")] == ["allocation", "closure"]
