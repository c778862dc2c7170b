"""Who may do what: a walk over every route, so that none can be forgotten, and teams kept apart."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from api_client import ADMIN_KEY, Api, Team, call
from fastapi import FastAPI
from fastapi.routing import APIRoute

from litellm_credits.api.app import KEYED_ROUTERS
from litellm_credits.engine import Engine

FOR_TEAMS = {
    ("GET", "/credits/teams/{team_id}/balance"),
    ("GET", "/credits/teams/{team_id}/transactions"),
    ("GET", "/credits/teams/{team_id}/grants"),
    ("GET", "/credits/teams/{team_id}/refill"),
    ("GET", "/credits/teams/{team_id}/refill-requests"),
    ("GET", "/teams/{team_id}/calls"),
    ("GET", "/teams/{team_id}/jobs"),
    ("GET", "/teams/{team_id}/usage"),
    ("PUT", "/teams/{team_id}/pause"),
    ("PUT", "/teams/{team_id}/resume"),
    ("POST", "/jobs/create"),
    ("GET", "/jobs"),
    ("GET", "/jobs/{job_id}"),
    ("PATCH", "/jobs/{job_id}/metadata"),
    ("POST", "/jobs/{job_id}/complete"),
    ("GET", "/jobs/{job_id}/costs"),
    ("GET", "/jobs/{job_id}/calls"),
    ("DELETE", "/jobs/{job_id}"),
}
"""The only routes that a team's key opens. All others are the admin's."""


def _routes() -> Iterator[APIRoute]:
    for router in KEYED_ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield route


def _shown(path: str) -> str:
    return path.replace(":path}", "}")


def _filled(path: str) -> str:
    return re.sub(r"{\w+}", "x", path)


ROUTES = sorted((method, _shown(route.path)) for route in _routes() for method in route.methods or ())


def test_the_walk_sees_every_route_there_is(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    assert {(method.upper(), path) for path in paths for method in paths[path]} == {*ROUTES, ("GET", "/health")}
    undocumented = {_shown(route.path) for route in app.routes if hasattr(route, "path")} - set(paths)
    assert undocumented == {"/openapi.json", "/docs", "/docs/oauth2-redirect"}
    assert set(ROUTES) >= FOR_TEAMS


async def test_every_route_needs_a_key_that_is_known(anyone: Api) -> None:
    for method, path in ROUTES:
        await anyone.refused(401, "missing_api_key", method, _filled(path))
        await anyone.holding("sk-unknown").refused(401, "invalid_api_key", method, _filled(path))


async def test_every_route_is_the_admins_unless_it_is_a_teams(team: Team) -> None:
    for method, path in ROUTES:
        if (method, path) in FOR_TEAMS:
            response = await team.api.send(method, _filled(path))
            assert response.json().get("error", {}).get("code") != "admin_only", path
        else:
            await team.api.refused(403, "admin_only", method, _filled(path))


async def test_a_team_is_not_told_what_its_admin_routes_would_take(team: Team) -> None:
    await team.api.refused(403, "admin_only", "POST", "/teams/create", {"nonsense": 1})


async def test_health_needs_no_key(anyone: Api) -> None:
    assert await anyone.ok("GET", "/health") == {"status": "healthy", "database": "up"}


async def test_health_says_when_the_database_is_gone(anyone: Api, engine: Engine) -> None:
    await engine.db.close()
    response = await anyone.send("GET", "/health")
    assert response.status_code == 503
    assert response.json() == {"status": "unhealthy", "database": "down"}


async def test_without_the_database_requests_are_refused_with_503(admin: Api, engine: Engine) -> None:
    await engine.db.close()
    await admin.refused(503, "ledger_unavailable", "GET", "/organizations")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_case_insensitive(anyone: Api, scheme: str) -> None:
    await anyone.ok("GET", "/organizations", headers={"authorization": f"{scheme} {ADMIN_KEY}"})


@pytest.mark.parametrize("header", ["authorization: Basic x", f"x-api-key: {ADMIN_KEY}", "authorization: Bearer"])
async def test_nothing_but_a_bearer_token_is_a_key(anyone: Api, header: str) -> None:
    name, _, value = header.partition(": ")
    await anyone.refused(401, "missing_api_key", "GET", "/organizations", headers={name: value})


async def test_the_key_is_looked_at_before_the_body(anyone: Api, team: Team) -> None:
    await anyone.refused(401, "missing_api_key", "POST", "/jobs/create", content=b"{")
    await anyone.refused(401, "missing_api_key", "POST", "/jobs/create", content=b"x" * 300_000)


async def test_a_team_reads_its_own(team: Team, engine: Engine) -> None:
    job = await team.api.ok("POST", "/jobs/create", {"job_type": "test"})
    await call(engine, team, job_id=job["job_id"])
    assert (await team.api.ok("GET", "/credits/teams/alpha/balance"))["team_id"] == "alpha"
    assert len((await team.api.ok("GET", "/credits/teams/alpha/transactions"))["transactions"]) == 2
    assert [found["job_id"] for found in (await team.api.ok("GET", "/teams/alpha/jobs"))["jobs"]] == [job["job_id"]]
    assert [found["job_id"] for found in (await team.api.ok("GET", "/teams/alpha/calls"))["calls"]] == [job["job_id"]]
    assert (await team.api.ok("GET", "/teams/alpha/usage"))["summary"]["total_calls"] == 1


@pytest.mark.parametrize(("method", "path"), sorted(route for route in FOR_TEAMS if "{team_id}" in route[1]))
async def test_a_team_cannot_touch_another_team(team: Team, other_team: Team, method: str, path: str) -> None:
    error = await other_team.api.refused(403, "forbidden", method, path.replace("{team_id}", "alpha"))
    assert error["param"] == "team_id"
    unknown = await other_team.api.refused(403, "forbidden", method, path.replace("{team_id}", "gamma"))
    assert unknown["message"].replace("gamma", "alpha") == error["message"], "tells whether a team exists"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/jobs/{job_id}", None),
        ("PATCH", "/jobs/{job_id}/metadata", {"metadata": {"stolen": True}}),
        ("POST", "/jobs/{job_id}/complete", {"status": "failed", "metadata": {"stolen": True}}),
        ("GET", "/jobs/{job_id}/costs", None),
        ("GET", "/jobs/{job_id}/calls", None),
        ("DELETE", "/jobs/{job_id}", None),
    ],
)
async def test_a_team_cannot_touch_another_teams_job(
    team: Team, other_team: Team, engine: Engine, method: str, path: str, body: Any
) -> None:
    job = await team.api.ok("POST", "/jobs/create", {"job_type": "test"})
    await call(engine, team, job_id=job["job_id"])
    before = await team.api.ok("GET", f"/jobs/{job['job_id']}")
    await other_team.api.refused(403, "job_not_yours", method, path.replace("{job_id}", job["job_id"]), body)
    assert await team.api.ok("GET", f"/jobs/{job['job_id']}") == before


def test_every_job_route_is_in_the_isolation_test() -> None:
    tested = {mark.args[1][i][:2] for mark in test_a_team_cannot_touch_another_teams_job.pytestmark for i in range(6)}
    assert tested == {route for route in FOR_TEAMS if "{job_id}" in route[1]}


async def test_a_team_cannot_open_a_job_for_another_team(team: Team, other_team: Team) -> None:
    body = {"team_id": "alpha", "job_type": "test"}
    error = await other_team.api.refused(403, "forbidden", "POST", "/jobs/create", body)
    assert error["param"] == "team_id"
    assert (await team.api.ok("GET", "/jobs"))["jobs"] == []


async def test_the_list_of_jobs_is_the_teams_own(admin: Api, team: Team, other_team: Team) -> None:
    await team.api.ok("POST", "/jobs/create", {"job_type": "test"})
    assert (await other_team.api.ok("GET", "/jobs"))["jobs"] == []
    await admin.refused(403, "team_only", "GET", "/jobs")


@pytest.mark.parametrize(("method", "path"), sorted(route for route in FOR_TEAMS if "{team_id}" in route[1]))
async def test_the_admin_may_do_so_for_any_team_that_exists(admin: Api, team: Team, method: str, path: str) -> None:
    await admin.ok(method, path.replace("{team_id}", "alpha"))
    await admin.refused(404, "not_found", method, path.replace("{team_id}", "gamma"))


async def test_suspending_refuses_the_teams_keys_within_a_second(admin: Api, team: Team) -> None:
    await team.api.ok("GET", "/jobs")
    assert (await admin.ok("PUT", "/teams/alpha/suspend"))["status"] == "suspended"
    await _soon(team.api, 403, "team_suspended")
    assert (await admin.ok("PUT", "/teams/alpha/resume"))["status"] == "active"
    await team.api.ok("GET", "/jobs")


async def test_a_revoked_key_is_refused_within_a_second(admin: Api, team: Team) -> None:
    await team.api.ok("GET", "/jobs")
    [key] = (await admin.ok("GET", "/teams/alpha/keys"))["keys"]
    await admin.ok("DELETE", f"/teams/alpha/keys/{key['key_id']}")
    await _soon(team.api, 401, "api_key_revoked")


async def _soon(api: Api, status: int, code: str) -> None:
    for _ in range(50):
        if (await api.send("GET", "/jobs")).status_code != 200:
            break
        await asyncio.sleep(0.02)
    await api.refused(status, code, "GET", "/jobs")
