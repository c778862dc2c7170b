"""POST /api/quote: what a call would hold, to the last digit, and that asking holds nothing."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from litellm_credits.money import loads

from .gateway import Gateway, Team, credits_for
from .test_endpoints import buyer, priced  # noqa: F401  (fixtures)

REQUEST = {"model": "ok", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}


def quote(team: Team, body: dict[str, Any], path: str | None = None, **headers: str) -> httpx.Response:
    with team.http() as http:
        return http.post("/api/quote", json=body, params={"path": path} if path else None, headers=headers)


def test_a_quote_is_what_the_call_then_holds(team: Team) -> None:
    told = loads(quote(team, REQUEST).content)
    assert team.calls() == []
    assert team.balance()["credits_held"] == 0
    assert (told["fits"], told["available"], told["requested_model"]) == (True, 100, "ok")
    assert told["prices"] == [
        {
            "model_alias": "ok",
            "pricing_input": Decimal("0.0005"),
            "pricing_output": Decimal("0.0015"),
            "pricing_rates": {},
        }
    ]
    assert told["required"] == credits_for(told["most"]["prompt_tokens"], 8)
    team.chat("ok", text="hi", max_tokens=8)
    assert team.ended_call()["credits_held"] == told["required"]


def test_what_does_not_fit_is_told_with_what_would(gateway: Gateway) -> None:
    team = gateway.team(credits="0.01")
    told = loads(quote(team, REQUEST | {"max_tokens": 4096}).content)
    assert told["fits"] is False
    assert told["required"] > told["available"] == Decimal("0.01")
    affordable = told["affordable_max_tokens"]
    assert loads(quote(team, REQUEST | {"max_tokens": affordable}).content)["fits"] is True
    assert loads(quote(team, REQUEST | {"max_tokens": affordable + 2}).content)["fits"] is False
    assert team.calls() == []


def test_quotes_for_other_endpoints(buyer: Team) -> None:  # noqa: F811
    body = {"model": "unit:ok", "prompt": "a cat", "n": 2}
    told = loads(quote(buyer, body, "/v1/images/generations").content)
    assert told["required"] == (2 * Decimal("0.04") + Decimal("0.001")) * 10
    assert told["affordable_max_tokens"] is None
    contents = {"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 9}}
    told = loads(quote(buyer, contents, "/v1beta/models/full:ok:generateContent").content)
    assert (told["requested_model"], told["most"]["completion_tokens"]) == ("full:ok", 9)


def test_a_quote_within_a_job_sees_the_jobs_money(team: Team) -> None:
    with team.http() as http:
        job = http.post("/api/jobs/create", json={"team_id": team.team_id, "job_type": "t", "credit_cap": 0.001})
    job_id = job.json()["job_id"]
    told = loads(quote(team, REQUEST, **{"x-job-id": job_id}).content)
    assert told["available"] == Decimal("0.001")
    assert told["fits"] is True
    assert loads(quote(team, REQUEST | {"max_tokens": 4096}, **{"x-job-id": job_id}).content)["fits"] is False


@pytest.mark.parametrize(
    ("body", "path", "status", "code"),
    [
        (REQUEST | {"model": "outside"}, None, 403, "model_not_allowed"),
        (REQUEST | {"fallbacks": ["x"]}, None, 403, "parameter_not_allowed"),
        (REQUEST | {"max_tokens": -1}, None, 422, "invalid_input"),
        (REQUEST, "/v1/batches", 422, "invalid_input"),
        (REQUEST, "/nowhere", 422, "invalid_input"),
        (REQUEST, "/v1/audio/transcriptions", 422, "invalid_input"),
        ({"model": "ok", "input": "x", "voice": "y"}, "/v1/audio/speech", 403, "price_unknown"),
    ],
)
def test_what_would_be_refused_gets_the_same_refusal(
    team: Team, body: dict[str, Any], path: str | None, status: int, code: str
) -> None:
    response = quote(team, body, path)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_where_a_job_pays_for_its_calls_the_balance_limits_no_tokens(gateway: Gateway) -> None:
    team = gateway.team(plan={"budget_mode": "job_based"}, credits="1.001")
    told = loads(quote(team, REQUEST | {"max_tokens": 4096}, **{"x-job-id": str(team.job())}).content)
    assert (told["required"], told["fits"], told["available"]) == (0, True, Decimal("0.001"))
    assert told["affordable_max_tokens"] == 4096


def test_a_team_that_may_not_call_gets_no_quote(gateway: Gateway) -> None:
    team = gateway.team(plan={"budget_mode": "job_based"})
    assert quote(team, REQUEST).json()["error"]["code"] == "job_required"
    assert loads(quote(team, REQUEST, **{"x-job-id": str(team.job())}).content)["required"] == 0
    assert gateway.admin.put(f"/api/teams/{team.team_id}/pause").status_code == 200
    assert quote(team, REQUEST).json()["error"]["code"] == "team_paused"


def test_only_teams_get_quotes(gateway: Gateway, team: Team) -> None:
    assert gateway.admin.post("/api/quote", json=REQUEST).json()["error"]["code"] == "team_only"
    assert httpx.post(f"{gateway.base_url}/api/quote", json=REQUEST).status_code == 401
    with team.http() as http:
        assert http.post("/api/quote", content=b"{").status_code == 400
        assert http.post("/api/quote", content=b"[]").status_code == 422
