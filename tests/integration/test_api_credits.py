"""Balances by hand, and the ledger that explains them."""

from decimal import Decimal

import pytest
from api_client import Api, Books, Team, hold
from fastapi import FastAPI

from litellm_credits.engine import Engine


async def test_adding_credits_is_one_ledger_entry(admin: Api, team: Team, books: Books) -> None:
    added = await admin.ok("POST", "/credits/teams/alpha/add", {"credits": 0.0000000001, "reason": "gift"})
    assert (added["team_id"], added["credits_added"]) == ("alpha", Decimal("1e-10"))
    assert added["credits_remaining"] == Decimal("100.0000000001")
    entry = added["transaction"]
    assert (entry["transaction_type"], entry["reason"]) == ("allocation", "gift")
    assert (entry["credits_before"], entry["credits_after"]) == (100, Decimal("100.0000000001"))
    assert books.ledger("alpha")[1:] == [("allocation", Decimal("1e-10"), Decimal("100.0000000001"))]
    balance = await team.api.ok("GET", "/credits/teams/alpha/balance")
    assert balance["credits_allocated"] == balance["credits_remaining"] == Decimal("100.0000000001")


def test_amounts_are_documented_as_the_numbers_they_are(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    for model, field in (("Balance", "credits_remaining"), ("AliasView", "pricing_input"), ("Addition", "credits")):
        schema = schemas[model]["properties"][field]
        assert "number" in {schema.get("type"), *(one["type"] for one in schema.get("anyOf", []))}
    assert "string" not in str(schemas["Balance"]["properties"]["credits_remaining"])


@pytest.mark.parametrize("credits", [-30, 30])
async def test_adjusting_goes_both_ways(admin: Api, team: Team, credits: int) -> None:
    adjusted = await admin.ok("POST", "/credits/teams/alpha/adjust", {"credits": credits, "reason": "mistake"})
    assert adjusted["credits_adjusted"] == credits
    assert adjusted["transaction"]["transaction_type"] == "adjustment"
    assert (await team.api.ok("GET", "/credits/teams/alpha/balance"))["credits_remaining"] == 100 + credits


async def test_what_is_held_cannot_be_taken_away(admin: Api, team: Team, engine: Engine, books: Books) -> None:
    await hold(engine, team, credits="40")
    balance = await team.api.ok("GET", "/credits/teams/alpha/balance")
    assert (balance["credits_remaining"], balance["credits_held"], balance["credits_available"]) == (100, 40, 60)
    body = {"credits": -61, "reason": "r"}
    error = await admin.refused(409, "balance_too_low", "POST", "/credits/teams/alpha/adjust", body)
    assert (error["param"], error["required"], error["available"]) == ("credits", 61, 60)
    assert len(books.ledger("alpha")) == 1
    await admin.ok("POST", "/credits/teams/alpha/adjust", body | {"credits": -60})


@pytest.mark.parametrize("path", ["add", "adjust"])
async def test_an_idempotency_key_works_once(admin: Api, team: Team, books: Books, path: str) -> None:
    body = {"credits": 5, "reason": "r", "idempotency_key": "k"}
    first = await admin.ok("POST", f"/credits/teams/alpha/{path}", body)
    assert await admin.ok("POST", f"/credits/teams/alpha/{path}", body) == first
    other = body | {"credits": 6}
    error = await admin.refused(409, "idempotency_conflict", "POST", f"/credits/teams/alpha/{path}", other)
    assert error["param"] == "idempotency_key"
    assert [amount for _, amount, _ in books.ledger("alpha")] == [100, 5]


async def test_an_idempotency_key_is_the_teams_own(admin: Api, team: Team, other_team: Team, books: Books) -> None:
    for name in ("alpha", "beta"):
        await admin.ok("POST", f"/credits/teams/{name}/add", {"credits": 5, "idempotency_key": "k"})
        assert [amount for _, amount, _ in books.ledger(name)] == [100, 5]


async def test_an_unknown_team_gets_no_credits(admin: Api, organization: str, books: Books) -> None:
    await admin.refused(404, "not_found", "POST", "/credits/teams/none/add", {"credits": 5})
    await admin.refused(404, "not_found", "POST", "/credits/teams/none/adjust", {"credits": 5, "reason": "r"})
    assert books.contents()["credit_transactions"] == 0


async def test_a_balance_cannot_outgrow_its_column(admin: Api, team: Team, books: Books) -> None:
    body = {"credits": 9_999_999_999_999}
    for _ in range(9):
        await admin.ok("POST", "/credits/teams/alpha/add", body)
    for _ in range(2):
        response = await admin.send("POST", "/credits/teams/alpha/add", body)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "invalid_input"
    entries = books.ledger("alpha")
    assert entries[-1][2] == sum(amount for _, amount, _ in entries)


async def test_the_ledger_comes_in_pages_newest_first(admin: Api, team: Team) -> None:
    for credits in range(1, 5):
        await admin.ok("POST", "/credits/teams/alpha/add", {"credits": credits})
    amounts: list[Decimal] = []
    cursor = ""
    while True:
        page = await team.api.ok("GET", f"/credits/teams/alpha/transactions?limit=2{cursor}")
        amounts += [entry["credits_amount"] for entry in page["transactions"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&before={page['next_cursor']}"
    assert amounts == [4, 3, 2, 1, 100]
