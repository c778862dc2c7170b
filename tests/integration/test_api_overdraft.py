"""A team's overdraft limit: set by the admin alone, never below what is used of it, whatever races, and kept in the audit log."""

import asyncio
from decimal import Decimal

import pytest
from api_client import Api, Books, Team, hold, make_team, settle

from litellm_credits.engine import Engine
from litellm_credits.errors import CreditsError
from litellm_credits.ledger.verify import verify


@pytest.fixture(autouse=True)
def _clean_books(database_url: str) -> object:
    yield
    assert verify(database_url, grace_seconds=120).clean


async def test_an_overdraft_is_given_at_creation_and_used(admin: Api, organization: str, engine: Engine) -> None:
    team = await make_team(admin, "zeta", credits=1, overdraft_limit=2.5)
    assert (await admin.ok("GET", "/teams/zeta"))["overdraft_limit"] == Decimal("2.5")
    balance = await team.api.ok("GET", "/credits/teams/zeta/balance")
    assert (balance["overdraft_limit"], balance["credits_available"]) == (Decimal("2.5"), Decimal("3.5"))
    await settle(engine, team, await hold(engine, team, credits="3.5"), credits=Decimal(3))
    assert (await team.api.ok("GET", "/credits/teams/zeta/balance"))["credits_remaining"] == -2


async def test_a_limit_is_changed_and_the_log_says_so(admin: Api, team: Team) -> None:
    await admin.ok("PUT", "/teams/alpha", {"overdraft_limit": 7})
    changed = await admin.ok("PUT", "/teams/alpha", {"overdraft_limit": 2, "team_alias": "A"})
    assert (changed["overdraft_limit"], changed["team_alias"]) == (2, "A")
    await admin.ok("PUT", "/teams/alpha", {"overdraft_limit": 2})
    entries = (await admin.ok("GET", "/audit?subject=team_credits"))["entries"]
    assert [(one["before"], one["after"]) for one in entries] == [
        ({"overdraft_limit": 7}, {"overdraft_limit": 2}),
        ({"overdraft_limit": 0}, {"overdraft_limit": 7}),
    ]
    facts = ("actor", "client_address", "action", "organization_id", "team_id", "subject_id", "change")
    assert [entries[0][name] for name in facts] == [
        "admin",
        "127.0.0.1",
        "PUT /teams/{team_id}",
        "acme",
        "alpha",
        "alpha",
        "update",
    ]
    (other,) = (await admin.ok("GET", f"/audit?subject=teams&request_id={entries[0]['request_id']}"))["entries"]
    assert other["after"] == {"team_alias": "A"}


async def test_a_limit_below_what_is_used_of_it_is_refused(admin: Api, team: Team, engine: Engine) -> None:
    await admin.ok("PUT", "/teams/alpha", {"overdraft_limit": 10})
    held = await hold(engine, team, credits="104.5")
    error = await admin.refused(
        409, "overdraft_in_use", "PUT", "/teams/alpha", {"overdraft_limit": 4, "team_alias": "A"}
    )
    assert error["least"] == 4.5
    kept = await admin.ok("GET", "/teams/alpha")
    assert (kept["overdraft_limit"], kept["team_alias"]) == (10, None)
    await admin.ok("PUT", "/teams/alpha", {"overdraft_limit": 4.5})
    await settle(engine, team, held, credits=Decimal(1))
    await admin.ok("PUT", "/teams/alpha", {"overdraft_limit": 0})


async def test_credits_on_terms_do_not_make_room_for_less(admin: Api, team: Team, engine: Engine) -> None:
    await admin.ok("PUT", "/teams/alpha", {"overdraft_limit": 3})
    await admin.ok("POST", "/credits/teams/alpha/grants", {"credits": 50, "job_types": ["report"]})
    await hold(engine, team, credits="102")
    error = await admin.refused(409, "overdraft_in_use", "PUT", "/teams/alpha", {"overdraft_limit": 1})
    assert error["least"] == 2


@pytest.mark.parametrize("limit", [-1, "1e30", None, "many", 0.00000000001])
async def test_what_is_no_limit_is_refused(admin: Api, team: Team, limit: object) -> None:
    error = await admin.refused(422, "invalid_input", "PUT", "/teams/alpha", {"overdraft_limit": limit})
    assert error["param"] == "overdraft_limit"


async def test_only_the_admin_sets_a_limit(admin: Api, team: Team) -> None:
    await team.api.refused(403, "admin_only", "PUT", "/teams/alpha", {"overdraft_limit": 5})
    await admin.refused(404, "not_found", "PUT", "/teams/none", {"overdraft_limit": 5})


async def test_limits_and_holds_that_race_never_overdraw(
    admin: Api, organization: str, engine: Engine, books: Books
) -> None:
    team = await make_team(admin, "zeta", credits=5, overdraft_limit=5)

    async def held() -> bool:
        try:
            await hold(engine, team)
        except (CreditsError, AssertionError):
            return False
        return True

    for limit in (2, 5, 0, 3):
        change = admin.send("PUT", "/teams/zeta", {"overdraft_limit": limit})
        *_, changed = await asyncio.gather(held(), held(), held(), change)
        (row,) = books.rows("SELECT * FROM credits.team_credits WHERE team_id = 'zeta'")
        assert row["credits_allocated"] - row["credits_held"] + row["overdraft_limit"] >= 0
        assert changed.status_code in (200, 409)
        assert (row["overdraft_limit"] == limit) or changed.status_code == 409
