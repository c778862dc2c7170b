"""Deleting teams and organizations: all that is theirs goes, the ledger stays and balances."""

from decimal import Decimal

import pytest
from api_client import Api, Books, Team, call, hold, make_team, settle

from litellm_credits.engine import Engine


@pytest.fixture
async def busy_team(team: Team, engine: Engine) -> Team:
    """Alpha with a job, a charged call and a call in flight."""
    job = await team.api.ok("POST", "/jobs/create", {"job_type": "test"})
    await call(engine, team, job_id=job["job_id"], credits=Decimal("0.25"))
    await hold(engine, team, job_id=job["job_id"], credits="1")
    return team


async def test_deleting_a_team_closes_its_ledger(admin: Api, busy_team: Team, other_team: Team, books: Books) -> None:
    await admin.ok("DELETE", "/teams/alpha")
    assert books.ledger("alpha") == [
        ("allocation", Decimal(100), Decimal(100)),
        ("charge", Decimal("-0.25"), Decimal("99.75")),
        ("closure", Decimal("-99.75"), Decimal(0)),
    ]
    left = books.contents()
    assert (left["teams"], left["team_credits"], left["virtual_keys"]) == (1, 1, 1)
    assert (left["jobs"], left["llm_calls"]) == (0, 0)
    await admin.refused(404, "not_found", "GET", "/teams/alpha")
    await busy_team.api.refused(401, "invalid_api_key", "GET", "/jobs")
    await other_team.api.ok("GET", "/jobs")


async def test_a_team_made_again_does_not_see_the_old_ledger(admin: Api, busy_team: Team, books: Books) -> None:
    await admin.ok("DELETE", "/teams/alpha")
    again = await make_team(admin, "alpha", credits=3)
    [entry] = (await again.api.ok("GET", "/credits/teams/alpha/transactions"))["transactions"]
    assert entry["credits_amount"] == 3
    assert (await again.api.ok("GET", "/jobs"))["jobs"] == []
    await busy_team.api.refused(401, "invalid_api_key", "GET", "/jobs")
    sums = books.rows(
        "SELECT account_id, sum(credits_amount) AS sum FROM credits.credit_transactions GROUP BY 1 ORDER BY 2"
    )
    assert [row["sum"] for row in sums] == [0, 3]


async def test_a_call_that_ends_after_its_team_changes_nothing(
    admin: Api, team: Team, engine: Engine, books: Books
) -> None:
    held = await hold(engine, team)
    await admin.ok("DELETE", "/teams/alpha")
    ledger = books.ledger("alpha")
    with pytest.raises(AssertionError):
        await settle(engine, team, held)
    assert books.ledger("alpha") == ledger


async def test_deleting_an_organization_takes_its_teams(
    admin: Api, busy_team: Team, other_team: Team, books: Books
) -> None:
    await admin.ok("POST", "/organizations/create", {"organization_id": "zeta", "name": "Z"})
    body = {"organization_id": "zeta", "team_id": "omega", "access_groups": ["test-chat-fast"]}
    await admin.ok("POST", "/teams/create", body)
    await admin.ok("DELETE", "/organizations/acme")
    assert [found["organization_id"] for found in await admin.ok("GET", "/organizations")] == ["zeta"]
    assert [found["team_id"] for found in await admin.ok("GET", "/teams")] == ["omega"]
    assert books.ledger("alpha")[-1] == ("closure", Decimal("-99.75"), Decimal(0))
    assert books.ledger("beta")[-1] == ("closure", Decimal(-100), Decimal(0))
    assert books.ledger("omega") == []
    left = books.contents()
    assert (left["jobs"], left["llm_calls"], left["virtual_keys"], left["team_credits"]) == (0, 0, 1, 1)


async def test_an_organization_without_teams_goes_too(admin: Api, organization: str) -> None:
    await admin.ok("DELETE", "/organizations/acme")
    await admin.refused(404, "not_found", "GET", "/organizations/acme")


async def test_the_seeds_clean_up(admin: Api, busy_team: Team) -> None:
    for path in ("/teams/alpha", "/model-access-groups/test-chat-fast", "/organizations/acme"):
        await admin.ok("DELETE", path)
