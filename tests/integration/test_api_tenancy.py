"""Organizations, teams and keys."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from api_client import Api, Books, Team, call, make_team

from litellm_credits.engine import Engine
from litellm_credits.tenancy.keys import key_hash

Times = {"created_at", "updated_at"}


async def test_an_organization_is_created_shown_and_listed(admin: Api) -> None:
    body = {"organization_id": "acme", "name": "ACME", "metadata": {"tier": 1.50, "tags": ["a"]}}
    made = await admin.ok("POST", "/organizations/create", body)
    assert {name: made[name] for name in made if name not in Times} == {
        **body,
        "metadata": {"tier": Decimal("1.5"), "tags": ["a"]},
        "status": "active",
    }
    assert made["created_at"].endswith("Z")
    assert datetime.now(UTC) - datetime.fromisoformat(made["created_at"]) < timedelta(minutes=1)
    assert await admin.ok("GET", "/organizations/acme") == made
    assert await admin.ok("GET", "/organizations") == [made]


async def test_an_organization_id_is_taken_once(admin: Api, organization: str) -> None:
    body = {"organization_id": "acme", "name": "Another"}
    error = await admin.refused(409, "already_exists", "POST", "/organizations/create", body)
    assert error["param"] == "organization_id"
    assert (await admin.ok("GET", "/organizations/acme"))["name"] == "ACME"


async def test_lists_come_in_pages(admin: Api) -> None:
    for letter in "dbeac":
        await admin.ok("POST", "/organizations/create", {"organization_id": letter, "name": letter})
    seen: list[str] = []
    while page := await admin.ok("GET", f"/organizations?limit=2&after={seen[-1] if seen else ''}"):
        assert len(page) <= 2
        seen += [found["organization_id"] for found in page]
    assert seen == list("abcde")


@pytest.mark.parametrize("path", ["", "/teams", "/usage"])
async def test_an_unknown_organization_is_not_found(admin: Api, path: str) -> None:
    await admin.refused(404, "not_found", "GET", f"/organizations/none{path}")
    await admin.refused(404, "not_found", "DELETE", "/organizations/none")


async def test_a_team_is_created_with_groups_credits_and_a_key(admin: Api, organization: str, books: Books) -> None:
    made = await admin.ok(
        "POST",
        "/teams/create",
        {
            "organization_id": "acme",
            "team_id": "alpha",
            "team_alias": "Alpha",
            "access_groups": ["test-chat-fast"],
            "credits_allocated": 12.5,
            "metadata": {"cost_centre": 7},
            "credits_per_dollar": 20,
            "plan": {"require_job": True},
        },
    )
    key = made.pop("virtual_key")
    assert key.startswith("sk-")
    assert len(key) > 40
    del made["key_id"]
    assert made == await admin.ok("GET", "/teams/alpha")
    assert made["allowed_model_aliases"] == ["gpt-3.5-turbo"]
    assert made["access_groups"] == ["test-chat-fast"]
    assert (made["team_alias"], made["status"], made["metadata"]) == ("Alpha", "active", {"cost_centre": 7})
    assert (made["credits_allocated"], made["credits_remaining"]) == (Decimal("12.5"), Decimal("12.5"))
    assert (made["credits_used"], made["credits_held"]) == (0, 0)
    assert (made["credits_per_dollar"], made["budget_mode"]) == (20, "consumption_usd")
    assert made["plan"]["require_job"] is True
    assert books.ledger("alpha") == [("allocation", Decimal("12.5"), Decimal("12.5"))]
    assert (await admin.holding(key).ok("GET", "/jobs"))["team_id"] == "alpha"


async def test_a_team_without_credits_has_no_ledger_entry(admin: Api, organization: str, books: Books) -> None:
    await make_team(admin, "alpha", credits=0)
    assert books.ledger("alpha") == []
    assert (await admin.ok("GET", "/teams/alpha"))["credits_remaining"] == 0


async def test_clear_keys_are_nowhere_but_in_their_first_answer(admin: Api, team: Team, books: Books) -> None:
    rows = books.rows("SELECT k::text AS row, key_hash FROM credits.virtual_keys k")
    assert [row["key_hash"] for row in rows] == [key_hash(team.key)]
    assert team.key not in rows[0]["row"]
    for path in ("/teams", "/teams/alpha", "/teams/alpha/keys", "/organizations/acme/teams"):
        text = (await admin.send("GET", path)).text
        assert team.key not in text
        assert key_hash(team.key) not in text


@pytest.mark.parametrize(
    ("change", "param", "what"),
    [
        ({"organization_id": "none"}, "organization_id", "organization"),
        ({"access_groups": ["none"]}, "access_groups", "group"),
    ],
)
async def test_a_team_needs_what_it_names(
    admin: Api, organization: str, books: Books, change: dict[str, Any], param: str, what: str
) -> None:
    before = books.contents()
    body = {"organization_id": "acme", "team_id": "alpha", "access_groups": [], "credits_allocated": 5} | change
    error = await admin.refused(404, "not_found", "POST", "/teams/create", body)
    assert error["param"] == param
    assert what in error["message"]
    assert books.contents() == before, "part of the team was stored"


async def test_updating_a_team_changes_what_is_sent(admin: Api, team: Team) -> None:
    before = await admin.ok("GET", "/teams/alpha")
    after = await admin.ok("PUT", "/teams/alpha", {"team_alias": "A", "plan": {"fit_to_balance": True}})
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"team_alias", "plan", "updated_at"}
    again = await admin.ok("PUT", "/teams/alpha", {"tokens_per_credit": 500, "metadata": {"a": 1}})
    assert again["plan"]["fit_to_balance"] is True, "a change of the plan forgot an earlier one"
    assert (again["tokens_per_credit"], again["plan"]["tokens_per_credit"]) == (500, 500)
    assert (again["team_alias"], again["metadata"]) == ("A", {"a": 1})
    assert (await admin.ok("PUT", "/teams/alpha", {"team_alias": None}))["team_alias"] is None


@pytest.mark.parametrize("field", ["credits_allocated", "credits_used", "credits_remaining", "status"])
async def test_updating_a_team_never_touches_its_balance(admin: Api, team: Team, field: str) -> None:
    error = await admin.refused(422, "invalid_input", "PUT", "/teams/alpha", {field: 5})
    assert error["param"] == field


@pytest.mark.parametrize("wrapped", [True, False])
async def test_access_groups_are_replaced_in_order(admin: Api, team: Team, wrapped: bool) -> None:
    alias = {"model_alias": "gpt-4", "provider": "openai", "actual_model": "gpt-4", "access_groups": []}
    await admin.ok("POST", "/models/aliases/create", alias)
    await admin.ok("POST", "/model-access-groups/create", {"group_name": "best", "model_aliases": ["gpt-4"]})
    names = ["best", "test-chat-fast", "best"]
    after = await admin.ok("PUT", "/teams/alpha/access-groups", {"access_groups": names} if wrapped else names)
    assert after["access_groups"] == ["best", "test-chat-fast"]
    assert after["allowed_model_aliases"] == ["gpt-4", "gpt-3.5-turbo"]
    await admin.refused(404, "not_found", "PUT", "/teams/alpha/access-groups", ["none"])
    assert (await admin.ok("GET", "/teams/alpha"))["access_groups"] == ["best", "test-chat-fast"]
    assert (await admin.ok("PUT", "/teams/alpha/access-groups", []))["allowed_model_aliases"] == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PUT", "", {}),
        ("DELETE", "", None),
        ("PUT", "/suspend", None),
        ("PUT", "/resume", None),
        ("PUT", "/access-groups", []),
        ("POST", "/keys", {}),
        ("GET", "/keys", None),
    ],
)
async def test_an_unknown_team_is_not_found(admin: Api, organization: str, method: str, path: str, body: Any) -> None:
    await admin.refused(404, "not_found", method, f"/teams/none{path}", body)


async def test_an_organizations_teams(admin: Api, team: Team, other_team: Team) -> None:
    await admin.ok("POST", "/organizations/create", {"organization_id": "zeta", "name": "Z"})
    found = await admin.ok("GET", "/organizations/acme/teams?limit=1")
    assert (found["organization_id"], found["team_count"]) == ("acme", 2)
    assert found["teams"] == [await admin.ok("GET", "/teams/alpha")]
    [second] = (await admin.ok("GET", "/organizations/acme/teams?after=alpha"))["teams"]
    assert second["team_id"] == "beta"
    assert (await admin.ok("GET", "/organizations/zeta/teams"))["teams"] == []
    assert [one["team_id"] for one in await admin.ok("GET", "/teams?limit=1&after=alpha")] == ["beta"]


async def test_a_team_may_have_several_keys(admin: Api, team: Team) -> None:
    expiry = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    made = await admin.ok("POST", "/teams/alpha/keys", {"name": "ci", "expires_at": expiry.isoformat()})
    assert (await admin.holding(made["virtual_key"]).ok("GET", "/jobs"))["team_id"] == "alpha"
    await team.api.ok("GET", "/jobs")
    keys = (await admin.ok("GET", "/teams/alpha/keys"))["keys"]
    assert [key["name"] for key in keys] == ["ci", None]
    assert datetime.fromisoformat(keys[0]["expires_at"]) == expiry
    assert made["virtual_key"].startswith(keys[0]["key_prefix"])
    page = await admin.ok("GET", "/teams/alpha/keys?limit=1")
    rest = await admin.ok("GET", f"/teams/alpha/keys?before={page['next_cursor']}")
    assert (page["keys"], rest["keys"], rest["next_cursor"]) == ([keys[0]], [keys[1]], None)


async def test_revoking_a_key_twice_keeps_the_first_time(admin: Api, team: Team) -> None:
    made = await admin.ok("POST", "/teams/alpha/keys")
    path = f"/teams/alpha/keys/{made['key_id']}"
    revoked = await admin.ok("DELETE", path)
    assert revoked["status"] == "revoked"
    assert await admin.ok("DELETE", path) == revoked
    await admin.holding(made["virtual_key"]).refused(401, "api_key_revoked", "GET", "/jobs")
    await team.api.ok("GET", "/jobs")


async def test_rotating_a_key_puts_another_in_its_place(admin: Api, team: Team) -> None:
    old = await admin.ok("POST", "/teams/alpha/keys", {"name": "ci", "expires_at": "2100-01-01"})
    new = await admin.ok("POST", f"/teams/alpha/keys/{old['key_id']}/rotate")
    assert (new["name"], new["expires_at"]) == ("ci", "2100-01-01T00:00:00Z")
    assert new["virtual_key"] != old["virtual_key"]
    await admin.holding(new["virtual_key"]).ok("GET", "/jobs")
    await admin.holding(old["virtual_key"]).refused(401, "api_key_revoked", "GET", "/jobs")
    await admin.refused(404, "not_found", "POST", f"/teams/alpha/keys/{old['key_id']}/rotate")


@pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("POST", "/rotate")])
async def test_another_teams_key_is_not_found(admin: Api, team: Team, other_team: Team, method: str, path: str) -> None:
    [key] = (await admin.ok("GET", "/teams/beta/keys"))["keys"]
    await admin.refused(404, "not_found", method, f"/teams/alpha/keys/{key['key_id']}{path}")
    await admin.refused(404, "not_found", method, f"/teams/alpha/keys/not-a-uuid{path}")
    await other_team.api.ok("GET", "/jobs")


async def test_usage_is_counted_from_jobs_and_calls(admin: Api, team: Team, other_team: Team, engine: Engine) -> None:
    job = await team.api.ok("POST", "/jobs/create", {"job_type": "analysis"})
    await call(engine, team, job_id=job["job_id"])
    await call(engine, team, job_id=job["job_id"], basis=None, credits=Decimal(0), cost_usd=None, total_tokens=None)
    await call(engine, other_team)
    await team.api.ok("POST", f"/jobs/{job['job_id']}/complete", {"status": "completed"})
    alpha = {
        "total_jobs": 1,
        "completed_jobs": 1,
        "failed_jobs": 0,
        "cancelled_jobs": 0,
        "total_calls": 2,
        "successful_calls": 1,
        "failed_calls": 1,
        "total_tokens": 23,
        "total_cost_usd": Decimal("0.0000195"),
        "credits_charged": Decimal("0.000195"),
    }
    used = await team.api.ok("GET", "/teams/alpha/usage")
    assert used["summary"] == alpha
    cost = {"cost_usd": Decimal("0.0000195"), "credits_charged": Decimal("0.000195")}
    assert used["job_types"] == {"analysis": {"count": 1, **cost}}
    assert used["models"] == {"gpt-3.5-turbo": {"count": 2, "total_tokens": 23, **cost}}

    whole = await admin.ok("GET", "/organizations/acme/usage")
    assert whole["teams"]["alpha"] == alpha
    assert whole["summary"]["total_calls"] == 3
    assert whole["summary"]["total_cost_usd"] == Decimal("0.000039")

    past = await admin.ok("GET", "/organizations/acme/usage?start=2020-01-01T00:00:00Z&end=2020-02-01")
    assert (past["start"], past["end"]) == ("2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z")
    assert set(past["summary"].values()) == {0}
