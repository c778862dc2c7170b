"""The audit log: every change by hand, in its own transaction, and nothing that is secret."""

from decimal import Decimal
from typing import Any

import psycopg
import pytest
from api_client import ADMIN_KEY, Api, Books, Team, call
from psycopg import errors

from litellm_credits.engine import Engine
from litellm_credits.tenancy.audit import fingerprint
from litellm_credits.tenancy.keys import key_hash


async def _entries(admin: Api, query: str = "") -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (await admin.ok("GET", f"/audit?{query}"))["entries"]
    return entries


async def test_a_change_has_an_entry_that_says_who_what_and_from_where(admin: Api, team: Team) -> None:
    await admin.ok("PUT", "/teams/alpha", {"team_alias": "A", "rpm_limit": 7})
    entry = (await _entries(admin))[0]
    assert entry["actor"] == "admin"
    assert entry["actor_key"] == fingerprint(ADMIN_KEY)
    assert entry["actor_key"] not in ADMIN_KEY
    assert entry["client_address"] == "127.0.0.1"
    assert entry["action"] == "PUT /teams/{team_id}"
    assert (entry["organization_id"], entry["team_id"]) == ("acme", "alpha")
    assert (entry["subject"], entry["subject_id"], entry["change"]) == ("teams", "alpha", "update")
    assert entry["before"] == {"team_alias": None, "rpm_limit": None}
    assert entry["after"] == {"team_alias": "A", "rpm_limit": 7}


async def test_all_entries_of_one_request_belong_together(admin: Api, organization: str) -> None:
    body = {"organization_id": "acme", "team_id": "zeta", "access_groups": ["test-chat-fast"], "credits_allocated": 5}
    await admin.ok("POST", "/teams/create", body)
    entries = await _entries(admin, "team_id=zeta")
    assert {entry["request_id"] for entry in entries} == {entries[0]["request_id"]}
    assert {entry["subject"] for entry in entries} == {
        "teams",
        "team_access_groups",
        "virtual_keys",
        "credit_grants",
        "credit_transactions",
    }
    assert await _entries(admin, f"request_id={entries[0]['request_id']}") == entries
    [granted] = await _entries(admin, "team_id=zeta&subject=credit_transactions")
    assert granted["after"]["credits_amount"] == 5


@pytest.mark.parametrize(
    ("method", "path", "body", "subject"),
    [
        ("PUT", "/organizations/acme/suspend", None, "organizations"),
        ("PUT", "/teams/alpha/suspend", None, "teams"),
        ("PUT", "/teams/alpha/pause", None, "teams"),
        ("PUT", "/teams/alpha/access-groups", [], "team_access_groups"),
        ("POST", "/teams/alpha/keys", {"name": "x"}, "virtual_keys"),
        ("DELETE", "/teams/alpha", None, "teams"),
        ("POST", "/models/aliases/create", {"model_alias": "a", "provider": "p", "actual_model": "m"}, "model_aliases"),
        ("PUT", "/models/aliases/gpt-3.5-turbo", {"pricing_input": 1}, "model_aliases"),
        ("DELETE", "/models/aliases/gpt-3.5-turbo", None, "model_aliases"),
        ("POST", "/model-access-groups/create", {"group_name": "g"}, "model_access_groups"),
        ("PUT", "/model-access-groups/test-chat-fast/models", {"model_aliases": []}, "model_alias_access_groups"),
        ("POST", "/credits/teams/alpha/add", {"credits": 1}, "credit_transactions"),
        ("POST", "/credits/teams/alpha/adjust", {"credits": -1, "reason": "r"}, "credit_transactions"),
        ("POST", "/credits/teams/alpha/grants", {"credits": 1, "priority": 5}, "credit_grants"),
        ("POST", "/credits/teams/alpha/grants/{grant}/void", {"reason": "r"}, "credit_grants"),
        ("PUT", "/credits/teams/alpha/refill", {"threshold": 200, "target": 300}, "refills"),
        ("POST", "/credits/refund", {"job_id": "{job}", "reason": "r"}, "credit_transactions"),
        ("PUT", "/teams/alpha/keys/{key}", {"credit_limit": 5}, "virtual_keys"),
        ("POST", "/teams/alpha/keys/{key}/rotate", {"overlap_seconds": 60}, "virtual_keys"),
        ("DELETE", "/teams/alpha/keys/{key}", None, "virtual_keys"),
        ("PUT", "/teams/alpha", {"plan": {"minimum_charge": 1}}, "teams"),
        ("POST", "/jobs/create", {"team_id": "alpha", "job_type": "t"}, "jobs"),
    ],
)
async def test_every_kind_of_change_is_in_the_log(
    admin: Api, team: Team, engine: Engine, method: str, path: str, body: Any, subject: str
) -> None:
    job = (await team.api.ok("POST", "/jobs/create", {"job_type": "t"}))["job_id"]
    await call(engine, team, job_id=job)
    [grant] = (await admin.ok("GET", "/credits/teams/alpha/grants"))["grants"]
    [key] = (await admin.ok("GET", "/teams/alpha/keys"))["keys"]
    path = path.format(grant=grant["grant_id"], key=key["key_id"])
    if isinstance(body, dict) and "job_id" in body:
        body = body | {"job_id": job}
    before = len(await _entries(admin, "limit=200"))
    await admin.ok(method, path, body)
    new = (await _entries(admin, "limit=200"))[: -before or None]
    assert subject in {entry["subject"] for entry in new}
    assert {entry["actor"] for entry in new} == {"admin"}


async def test_what_was_refused_is_not_in_the_log(admin: Api, team: Team) -> None:
    before = await _entries(admin)
    await admin.refused(404, "not_found", "PUT", "/teams/alpha", {"team_alias": "A", "access_groups": ["none"]})
    await admin.refused(409, "balance_too_low", "POST", "/credits/teams/alpha/adjust", {"credits": -999, "reason": "r"})
    assert await _entries(admin) == before


async def test_what_changes_nothing_is_not_in_the_log(admin: Api, team: Team) -> None:
    before = await _entries(admin)
    await admin.ok("PUT", "/teams/alpha/resume")
    await admin.ok("PUT", "/teams/alpha/access-groups", ["test-chat-fast"])
    assert await _entries(admin) == before


async def test_calls_and_a_teams_own_work_are_not_in_the_log(admin: Api, team: Team, engine: Engine) -> None:
    before = await _entries(admin)
    job = await team.api.ok("POST", "/jobs/create", {"job_type": "test"})
    await call(engine, team, job_id=job["job_id"])
    await team.api.ok("POST", f"/jobs/{job['job_id']}/complete", {"status": "completed"})
    assert await _entries(admin) == before


async def test_a_team_that_pauses_itself_is_in_the_log(admin: Api, team: Team) -> None:
    await team.api.ok("PUT", "/teams/alpha/pause")
    [entry] = await _entries(admin, "actor=team")
    assert (entry["actor_key"], entry["after"]) == (fingerprint(team.key), {"status": "paused"})


async def test_a_change_behind_the_api_is_in_the_log_too(admin: Api, team: Team, books: Books) -> None:
    books.rows("UPDATE credits.teams SET status = 'suspended'")
    [entry] = await _entries(admin, "actor=database")
    assert (entry["actor_key"], entry["action"], entry["request_id"]) == ("postgres", "SQL", None)
    assert (entry["before"], entry["after"]) == ({"status": "active"}, {"status": "suspended"})


async def test_no_secret_is_in_the_log(admin: Api, team: Team, books: Books) -> None:
    new = await admin.ok("POST", "/teams/alpha/keys")
    await admin.ok("DELETE", f"/teams/alpha/keys/{new['key_id']}")
    text = str(books.rows("SELECT a::text FROM credits.audit_log a"))
    for secret in (ADMIN_KEY, new["virtual_key"], key_hash(new["virtual_key"]), key_hash(team.key)):
        assert secret not in text


async def test_entries_come_in_pages_newest_first(admin: Api, team: Team) -> None:
    whole = await _entries(admin, "limit=200")
    assert [entry["audit_id"] for entry in whole] == sorted((entry["audit_id"] for entry in whole), reverse=True)
    seen: list[dict[str, Any]] = []
    query = "limit=2"
    while True:
        page = await admin.ok("GET", f"/audit?{query}")
        seen += page["entries"]
        if page["next_cursor"] is None:
            break
        query = f"limit=2&before={page['next_cursor']}"
    assert seen == whole


async def test_entries_are_filtered(admin: Api, team: Team, other_team: Team) -> None:
    assert {entry["team_id"] for entry in await _entries(admin, "team_id=beta")} == {"beta"}
    [made] = await _entries(admin, "subject=teams&subject_id=alpha")
    assert made["change"] == "insert"
    assert await _entries(admin, f"end={made['created_at']}&subject=teams") == []
    assert len(await _entries(admin, f"start={made['created_at']}&subject=teams")) == 2
    assert await _entries(admin, "organization_id=other") == []
    await admin.refused(422, "invalid_input", "GET", "/audit?actor=nobody")


@pytest.mark.parametrize("statement", ["UPDATE %s SET action = ''", "DELETE FROM %s", "TRUNCATE %s"])
async def test_the_log_is_append_only(team: Team, books: Books, statement: str) -> None:
    with pytest.raises(errors.RestrictViolation, match="the audit log is append-only"):
        books.rows(statement % "credits.audit_log")


async def test_an_entry_is_lost_only_with_its_change(admin: Api, team: Team, database_url: str, books: Books) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE credits.teams SET team_alias = 'x'")
        assert connection.execute("SELECT after FROM credits.audit_log ORDER BY audit_id DESC").fetchone() == (
            {"team_alias": "x"},
        )
        connection.rollback()
    assert (await admin.ok("GET", "/teams/alpha"))["team_alias"] is None
    assert not [entry for entry in await _entries(admin) if entry["actor"] == "database"]


async def test_amounts_in_the_log_are_exact(admin: Api, team: Team) -> None:
    await admin.ok("POST", "/credits/teams/alpha/add", {"credits": Decimal("1E-10")})
    entry = (await _entries(admin, "subject=credit_transactions"))[0]
    assert entry["after"]["credits_amount"] == Decimal("1E-10")
