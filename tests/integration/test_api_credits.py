"""Balances by hand, and the ledger that explains them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from api_client import Api, Books, Team, hold, settle
from fastapi import FastAPI

from litellm_credits.engine import Engine
from litellm_credits.jobs.sweep import Sweeper


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


# Grants, refunds, refills ---------------------------------------------------------------------------------------------


async def test_a_grant_on_terms_is_seen_in_the_balance(admin: Api, team: Team) -> None:
    body = {
        "credits": 5,
        "kind": "promotional",
        "expires_at": "2100-01-01T00:00:00Z",
        "model_aliases": ["gpt-3.5-turbo"],
    }
    made = await admin.ok("POST", "/credits/teams/alpha/grants", body | {"idempotency_key": "k"})
    assert await admin.ok("POST", "/credits/teams/alpha/grants", body | {"idempotency_key": "k"}) == made
    assert (made["grant"]["status"], made["grant"]["credits_available"], made["grant"]["earmarked"]) == (
        "active",
        5,
        True,
    )
    balance = await team.api.ok("GET", "/credits/teams/alpha/balance")
    assert (balance["credits_allocated"], balance["credits_earmarked"], balance["credits_available"]) == (105, 5, 100)
    assert [grant["credits_granted"] for grant in balance["grants"]] == [5, 100]
    assert (await team.api.ok("GET", "/credits/teams/alpha/grants?limit=1"))["grants"] == balance["grants"][:1]
    path = f"/credits/teams/alpha/grants/{made['grant']['grant_id']}/void"
    voided = await admin.ok("POST", path, {"reason": "mistake"})
    assert (voided["status"], voided["credits_taken"]) == ("voided", 5)
    assert await admin.ok("POST", path) == voided


@pytest.mark.parametrize(
    "terms",
    [
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"rollover_credits": 1},
        {"priority": -1},
        {"kind": "stolen"},
    ],
)
async def test_grants_that_make_no_sense(admin: Api, team: Team, terms: dict[str, Any]) -> None:
    await admin.refused(422, "invalid_input", "POST", "/credits/teams/alpha/grants", {"credits": 5} | terms)


async def test_a_grant_is_not_for_aliases_that_do_not_exist(admin: Api, team: Team) -> None:
    body = {"credits": 5, "model_aliases": ["gpt-3.5-turbo", "gtp-4"]}
    error = await admin.refused(404, "not_found", "POST", "/credits/teams/alpha/grants", body)
    assert error["param"] == "model_aliases"


async def test_grant_of_another_team_is_not_found(admin: Api, team: Team, other_team: Team) -> None:
    grants = await admin.ok("GET", "/credits/teams/beta/grants")
    path = f"/credits/teams/alpha/grants/{grants['grants'][0]['grant_id']}/void"
    await admin.refused(404, "not_found", "POST", path, {})
    await admin.refused(404, "not_found", "POST", "/credits/teams/alpha/grants/none/void", {})


async def test_a_call_is_refunded_in_parts_and_no_further(admin: Api, team: Team, engine: Engine) -> None:
    held = await hold(engine, team)
    await settle(engine, team, held)
    body = {"call_id": str(held.call_id), "credits": 0.0001, "reason": "bad answer", "idempotency_key": "r"}
    first = await admin.ok("POST", "/credits/refund", body)
    assert await admin.ok("POST", "/credits/refund", body) == first
    assert (first["team_id"], first["credits_refunded"]) == ("alpha", Decimal("0.0001"))
    error = await admin.refused(409, "not_refundable", "POST", "/credits/refund", body | {"idempotency_key": "s"})
    assert (error["required"], error["available"]) == (0.0001, 0.000095)
    rest = await admin.ok("POST", "/credits/refund", {"call_id": str(held.call_id), "reason": "rest"})
    assert (rest["credits_refunded"], rest["credits_remaining"]) == (Decimal("0.000095"), 100)
    await admin.refused(422, "invalid_input", "POST", "/credits/refund", {"reason": "of what?"})
    missing = {"job_id": "00000000-0000-0000-0000-000000000000", "reason": "r"}
    await admin.refused(404, "not_found", "POST", "/credits/refund", missing)


async def test_a_job_holds_its_cap_and_gives_the_rest_back(admin: Api, team: Team, engine: Engine) -> None:
    job = await team.api.ok("POST", "/jobs/create", {"job_type": "t", "credit_cap": 10})
    assert (job["credit_cap"], job["credits_held"]) == (10, 10)
    await hold(engine, team, credits="4", job_id=job["job_id"])
    assert (await team.api.ok("GET", "/credits/teams/alpha/balance"))["credits_available"] == 90
    await team.api.ok("POST", f"/jobs/{job['job_id']}/complete", {"status": "completed"})
    assert (await team.api.ok("GET", "/credits/teams/alpha/balance"))["credits_available"] == 96
    body = {"job_type": "t", "credit_cap": 97}
    error = await team.api.refused(402, "insufficient_credits", "POST", "/jobs/create", body)
    assert (error["required"], error["available"]) == (97, 96)
    await admin.ok("PUT", "/teams/alpha", {"plan": {"budget_mode": "job_based", "max_held_share": 0.05}})
    priced = await team.api.ok("POST", "/jobs/create", {"job_type": "t"})
    assert (priced["credits_price"], priced["calls_included"]) == (1, True)
    await team.api.refused(422, "invalid_input", "POST", "/jobs/create", {"job_type": "t", "credit_cap": 1})
    await team.api.refused(429, "too_much_held", "POST", "/jobs/create", {"job_type": "t"})


async def test_refills_are_set_seen_and_answered(admin: Api, team: Team, engine: Engine) -> None:
    path = "/credits/teams/alpha/refill"
    assert await team.api.ok("GET", path) == {"team_id": "alpha", "refill": None}
    body = {"threshold": 200, "target": 250, "period": "monthly", "credits": 7, "starts_at": "2100-01-31T00:00:00Z"}
    assert (await admin.ok("PUT", path, body))["next_at"] == "2100-01-31T00:00:00Z"
    assert (await team.api.ok("GET", path))["refill"]["threshold"] == 200
    for wrong in ({"threshold": 5}, {"threshold": 5, "target": 5}, {"period": "daily"}, {}):
        await admin.refused(422, "invalid_input", "PUT", path, wrong)
    await Sweeper(engine.db).sweep()
    (request,) = (await admin.ok("GET", "/credits/refill-requests?status=open"))["requests"]
    assert (request["team_id"], request["credits"]) == ("alpha", 150)
    answer = f"/credits/teams/alpha/refill-requests/{request['request_id']}/fulfil"
    first = await admin.ok("POST", answer, {"reason": "invoice 17"})
    assert (first["credits_added"], first["credits_remaining"]) == (150, 250)
    assert await admin.ok("POST", answer) == first
    assert (await team.api.ok("GET", f"{path}-requests"))["requests"][0]["status"] == "fulfilled"
    await admin.ok("DELETE", path)
    assert (await team.api.ok("GET", path))["refill"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"period": "daily", "credits": 1, "starts_at": "2100-01-01", "rollover_credits": 1},
        {"period": "daily", "credits": 1, "starts_at": "2100-01-01", "monthly_cap": 1},
        {"threshold": 1, "target": 2, "lapses": True, "rollover_credits": 1},
    ],
)
async def test_terms_of_a_refill_that_would_do_nothing_are_refused(
    admin: Api, team: Team, wrong: dict[str, Any]
) -> None:
    await admin.refused(422, "invalid_input", "PUT", "/credits/teams/alpha/refill", wrong)


async def test_a_refill_does_not_give_for_years_at_once(admin: Api, team: Team, books: Books) -> None:
    path = "/credits/teams/alpha/refill"
    body = {"period": "monthly", "credits": 7}
    error = await admin.refused(422, "invalid_input", "PUT", path, body | {"starts_at": "2021-01-01"})
    assert error["param"] == "starts_at"
    lately = (datetime.now(UTC) - timedelta(days=20)).isoformat()
    await admin.ok("PUT", path, body | {"starts_at": lately})
    books.rows("UPDATE credits.refills SET starts_at = starts_at - interval '1 year', periods = 12")
    [running] = books.rows("SELECT * FROM credits.refills")
    again = await admin.ok("PUT", path, body | {"credits": 8, "starts_at": running["starts_at"].isoformat()})
    assert (again["credits"], again["periods"]) == (8, 12), "one that has run for long may be changed"
