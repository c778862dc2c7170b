"""What teams and the admin see of jobs, calls and usage: filters, pages, parts, and parents."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from api_client import Api, Team, call, hold, settle

from litellm_credits.engine import Engine


async def _job(team: Team, **more: Any) -> str:
    return str((await team.api.ok("POST", "/jobs/create", {"job_type": "test"} | more))["job_id"])


async def test_a_job_may_be_part_of_another_of_its_team(team: Team, other_team: Team) -> None:
    parent = await _job(team)
    part = await _job(team, parent_job_id=parent)
    assert (await team.api.ok("GET", f"/jobs/{part}"))["parent_job_id"] == parent
    foreign = {"job_type": "test", "parent_job_id": parent}
    await other_team.api.refused(403, "job_not_yours", "POST", "/jobs/create", foreign)
    unknown = {"job_type": "test", "parent_job_id": "91cfa4d6-454a-4ecc-964c-bd186e5d62b5"}
    await team.api.refused(404, "not_found", "POST", "/jobs/create", unknown)
    await team.api.ok("DELETE", f"/jobs/{parent}")
    assert (await team.api.ok("GET", f"/jobs/{part}"))["parent_job_id"] is None


async def test_a_parent_deleted_while_parts_are_made_leaves_no_part_without_one(team: Team) -> None:
    for _ in range(5):
        parent = await _job(team)
        made, deleted = await asyncio.gather(
            team.api.send("POST", "/jobs/create", {"job_type": "test", "parent_job_id": parent}),
            team.api.send("DELETE", f"/jobs/{parent}"),
        )
        assert deleted.status_code == 200
        assert made.status_code in (200, 404)
        if made.status_code == 200:
            assert (await team.api.ok("GET", f"/jobs/{made.json()['job_id']}"))["parent_job_id"] is None


async def test_jobs_are_filtered(admin: Api, team: Team, other_team: Team) -> None:
    plain = await _job(team)
    marked = await _job(team, job_type="special", user_id="u1", external_task_id="t1", parent_job_id=plain)
    await team.api.ok("POST", f"/jobs/{marked}/complete", {"status": "failed"})
    await _job(other_team, external_task_id="t1")
    filters = ["job_type=special", "user_id=u1", "external_task_id=t1", f"parent_job_id={plain}", "status=failed"]
    for path in ("/jobs", "/teams/alpha/jobs"):
        for query in [*filters, "&".join(filters)]:
            page = await team.api.ok("GET", f"{path}?{query}")
            assert [job["job_id"] for job in page["jobs"]] == [marked], query
            assert page["team_id"] == "alpha"
    assert (await team.api.ok("GET", "/jobs?user_id=u2"))["jobs"] == []
    assert (await team.api.ok("GET", "/jobs?end=2020-01-01"))["jobs"] == []
    assert len((await admin.ok("GET", "/organizations/acme/jobs?external_task_id=t1"))["jobs"]) == 2
    await team.api.refused(422, "invalid_input", "GET", "/jobs?parent_job_id=x")


async def test_jobs_come_in_pages_with_a_filter_too(team: Team) -> None:
    wanted = [await _job(team, user_id="u1") for _ in range(5)]
    await _job(team, user_id="u2")
    seen: list[str] = []
    query = "user_id=u1&limit=2"
    while True:
        page = await team.api.ok("GET", f"/jobs?{query}")
        seen += [job["job_id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            break
        query = f"user_id=u1&limit=2&before={page['next_cursor']}"
    assert seen == wanted[::-1]


async def test_calls_are_filtered(admin: Api, team: Team, other_team: Team, engine: Engine) -> None:
    await call(engine, team)
    await call(engine, team, basis=None, credits=Decimal(0), flags=["needs_reconciliation"])
    await call(engine, other_team)
    [key] = (await admin.ok("GET", "/teams/alpha/keys"))["keys"]
    counts = {
        "status=settled": 1,
        "flag=needs_reconciliation": 1,
        "model_alias=gpt-3.5-turbo": 2,
        "model_alias=gpt-4": 0,
        "purpose=page_1": 2,
        "purpose=page_2": 0,
        f"key_id={key['key_id']}": 2,
        "start=2100-01-01": 0,
    }
    for query, count in counts.items():
        assert len((await team.api.ok("GET", f"/teams/alpha/calls?{query}"))["calls"]) == count, query
    assert len((await admin.ok("GET", "/organizations/acme/calls"))["calls"]) == 3
    page = await admin.ok("GET", "/organizations/acme/calls?limit=2")
    rest = await admin.ok("GET", f"/organizations/acme/calls?limit=2&before={page['next_cursor']}")
    assert (len(rest["calls"]), rest["next_cursor"]) == (1, None)


@pytest.mark.parametrize("what", ["jobs", "calls"])
async def test_an_unknown_organization_has_no_lists(admin: Api, what: str) -> None:
    await admin.refused(404, "not_found", "GET", f"/organizations/none/{what}")


async def test_usage_is_told_by_day_alias_job_type_and_purpose(
    admin: Api, team: Team, other_team: Team, engine: Engine
) -> None:
    job_id = await _job(team)
    await call(engine, team, job_id=job_id)
    await call(engine, other_team)
    one = {"cost_usd": Decimal("0.0000195"), "credits_charged": Decimal("0.000195")}
    used = await team.api.ok("GET", "/teams/alpha/usage")
    calls = {"count": 1, "total_tokens": 23, **one}
    assert used["models"] == {"gpt-3.5-turbo": calls}
    assert used["purposes"] == {"page_1": calls}
    assert used["job_types"] == {"test": {"count": 1, **one}}
    [(day, of_day)] = used["days"].items()
    assert (of_day, len(day)) == (calls, 10)
    whole = await admin.ok("GET", "/organizations/acme/usage")
    both = {"count": 2, "total_tokens": 46, **{name: 2 * amount for name, amount in one.items()}}
    assert whole["models"] == {"gpt-3.5-turbo": both}
    assert whole["days"] == {day: both}
    assert set(whole["teams"]) == {"alpha", "beta"}


async def test_a_jobs_costs_are_told_by_model_and_purpose(team: Team, engine: Engine) -> None:
    job_id = await _job(team)
    for _ in range(2):
        await call(engine, team, job_id=job_id)
    await settle(engine, team, await hold(engine, team, job_id=job_id), prompt_tokens=1, completion_tokens=1)
    costs = (await team.api.ok("GET", f"/jobs/{job_id}/costs"))["costs"]
    part = {
        "count": 3,
        "prompt_tokens": 31,
        "completion_tokens": 17,
        "cost_usd": Decimal("0.0000585"),
        "credits_charged": Decimal("0.000585"),
    }
    assert costs["by_model"] == {"gpt-3.5-turbo": part}
    assert costs["by_purpose"] == {"page_1": part}
    assert costs["credits_charged"] == part["credits_charged"]
