"""What a team's plan makes of a call's charge, through the real proxy: modes, rounding, minimum, the team's own prices."""

from decimal import Decimal
from typing import Any

import openai
import pytest

from litellm_credits.money import loads

from .gateway import Gateway, Team, credits_for, wait_until

USED = credits_for(15, 8)
"""What the call of these tests costs on the default plan."""


def call(team: Team, **more: Any) -> dict[str, Any]:
    team.chat("ok", **more)
    return team.ended_call()


@pytest.mark.parametrize(
    ("plan", "charged"),
    [
        ({}, USED),
        ({"minimum_charge": 0.5}, Decimal("0.5")),
        ({"rounding_step": 0.0001}, Decimal("0.0002")),
        ({"rounding_step": 0.0001, "rounding": "down"}, Decimal("0.0001")),
        ({"rounding_step": 0.0001, "rounding": "half_even"}, Decimal("0.0002")),
        ({"rounding_step": 1, "rounding": "down"}, Decimal(0)),
        ({"alias_prices": {"ok": {"pricing_input": 1, "pricing_output": 2}}}, Decimal("0.31")),
        ({"alias_prices": {"ok": {"pricing_rates": {"request": 0.02}}}}, Decimal("0.2")),
        ({"alias_prices": {"other": {"pricing_input": 1, "pricing_output": 2}}}, USED),
        ({"budget_mode": "consumption_tokens"}, Decimal("0.0023")),
    ],
)
def test_what_a_call_is_charged(gateway: Gateway, plan: dict[str, Any], charged: Decimal) -> None:
    team = gateway.team(plan=plan)
    row = call(team)
    assert (row["status"], row["basis"], row["flags"]) == ("settled", "provider_usage", [])
    assert row["credits_charged"] == charged <= row["credits_held"]
    team.check_books()


def test_a_plan_that_changes_leaves_what_is_held_as_it_was(gateway: Gateway) -> None:
    team = gateway.team()
    first = call(team)
    gateway.call("PUT", f"/api/teams/{team.team_id}", {"plan": {"minimum_charge": 1}})
    wait_until(lambda: _quoted(team) >= 1, what="the new plan")
    team.chat("ok")
    assert [row["credits_charged"] for row in team.calls()] == [first["credits_charged"], 1]
    team.check_books()


def _quoted(team: Team) -> Decimal:
    with team.http() as http:
        body = {"model": "ok", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        required: Decimal = loads(http.post("/api/quote", json=body).content)["required"]
        return required


@pytest.mark.parametrize(
    ("mode", "for_the_call"), [("job_based", Decimal(0)), ("hybrid", USED)], ids=["job_based", "hybrid"]
)
def test_a_job_has_its_price(gateway: Gateway, mode: str, for_the_call: Decimal) -> None:
    plan = {"budget_mode": mode, "credits_per_job": 2, "credits_by_job_type": {"report": 3}}
    team = gateway.team(plan=plan, credits="10")
    job = team.job("report")
    assert team.balance()["credits_held"] == 3
    team.chat("ok", extra_headers={"x-job-id": str(job)})
    row = team.ended_call()
    assert (row["credits_charged"], row["cost_usd"]) == (for_the_call, Decimal("0.0000195"))
    with team.http() as http:
        assert http.post(f"/api/jobs/{job}/complete", json={"status": "completed"}).status_code == 200
    balance = team.balance()
    assert (balance["credits_held"], balance["credits_remaining"]) == (0, 10 - 3 - for_the_call)
    failed = team.job("other")
    assert team.balance()["credits_held"] == 2
    with team.http() as http:
        assert http.post(f"/api/jobs/{failed}/complete", json={"status": "failed"}).status_code == 200
    assert team.balance()["credits_remaining"] == balance["credits_remaining"]


def test_where_jobs_are_paid_for_a_call_needs_one_and_no_price(gateway: Gateway) -> None:
    """An alias without any price can be called: the job pays."""
    gateway.create(
        "/api/models/aliases/create", {"model_alias": "unpriced:tokens", "provider": "openai", "actual_model": "tokens"}
    )
    gateway.create("/api/model-access-groups/create", {"group_name": "unpriced", "model_aliases": ["unpriced:tokens"]})
    team = gateway.team(groups=["unpriced", "everything"], plan={"budget_mode": "job_based"})
    with pytest.raises(openai.PermissionDeniedError, match="must belong to a job"):
        team.chat("ok")
    job = team.job()
    with team.http() as http:
        speech = {"model": "ok", "input": "hi", "voice": "alloy"}
        assert http.post("/v1/audio/speech", json=speech, headers={"x-job-id": str(job)}).status_code == 200
    row = team.ended_call()
    assert (row["status"], row["credits_charged"], row["credits_held"]) == ("settled", 0, 0)


def test_a_cap_on_a_job_holds_for_its_calls_together(gateway: Gateway) -> None:
    team = gateway.team(credits="10")
    with team.http() as http:
        body = {"team_id": team.team_id, "job_type": "t", "credit_cap": 0.001}
        job = loads(http.post("/api/jobs/create", json=body).content)["job_id"]
    assert team.balance()["credits_held"] == Decimal("0.001")
    headers = {"x-job-id": job}
    team.chat("ok", max_tokens=8, extra_headers=headers)
    with pytest.raises(openai.APIStatusError) as refusal:
        team.chat("ok", max_tokens=1000, extra_headers=headers)
    assert refusal.value.status_code == 402
    assert team.balance()["credits_held"] == Decimal("0.001") - USED
    with team.http() as http:
        assert http.post(f"/api/jobs/{job}/complete", json={"status": "completed"}).status_code == 200
    assert (team.balance()["credits_held"], team.balance()["credits_remaining"]) == (0, 10 - USED)
