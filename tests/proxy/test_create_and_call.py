"""A job, its call and its completion in one request."""

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest

from .gateway import PROMPT, Gateway, Team, wait_until

JOB = {"job_type": "summary", "user_id": "u1", "external_task_id": "t1", "job_metadata": {"doc": 7}}


def _send(team: Team, model: Any = "ok", *, stream: bool = False, headers: Any = None, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "purpose": "page_1"} | JOB | more
    with team.http() as http:
        return http.post(f"/api/jobs/create-and-call{'-stream' if stream else ''}", json=body, headers=headers)


def _job(team: Team) -> dict[str, Any]:
    with team.http() as http:
        [job] = http.get("/api/jobs").json()["jobs"]
    found: dict[str, Any] = job
    return found


def test_one_request_opens_calls_and_completes(team: Team) -> None:
    answer = _send(team, max_tokens=8)
    assert answer.status_code == 200, answer.text
    job, [call] = _job(team), team.calls()  # no waiting: seen means done
    assert (job["status"], job["job_type"], job["user_id"], job["external_task_id"], job["metadata"]) == (
        "completed",
        "summary",
        "u1",
        "t1",
        {"doc": 7},
    )
    assert answer.json()["job_id"] == answer.headers["x-credits-job-id"] == job["job_id"]
    assert answer.json()["choices"][0]["message"]["content"].startswith("Hello,")
    assert (str(call["job_id"]), call["purpose"], call["status"]) == (job["job_id"], "page_1", "settled")
    assert call["credits_charged"] == Decimal("0.000195")
    team.check_books()


def test_a_stream_carries_the_job_and_the_charge(team: Team) -> None:
    answer = _send(team, stream=True, max_tokens=8)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events[-1] == "[DONE]"
    facts = json.loads(events[-2], parse_float=Decimal)["credits"]
    job, [call] = _job(team), team.calls()
    assert job["status"] == "completed"
    assert facts["job_id"] == answer.headers["x-credits-job-id"] == job["job_id"]
    assert (facts["call_id"], facts["charged"]) == (str(call["call_id"]), Decimal("0.000195"))
    team.check_books()


@pytest.mark.parametrize("stream", [False, True])
def test_a_job_with_money_is_paid_and_its_price_told(gateway: Gateway, stream: bool) -> None:
    team = gateway.team(plan={"budget_mode": "hybrid", "credits_per_job": 2}, credits="10")
    answer = _send(team, stream=stream, max_tokens=8, credit_cap=0.5, expires_at="2100-01-01", on_expiry="complete")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-credits-job-price"] == "2"
    job, [call] = _job(team), team.calls()
    assert (job["status"], job["credit_cap"], job["on_expiry"]) == ("completed", 0.5, "complete")
    assert job["expires_at"].startswith("2100-01-01")
    assert (job["credits_charged"], call["credits_charged"]) == (2, Decimal("0.000195"))
    balance = team.balance()
    assert (balance["credits_held"], balance["credits_used"]) == (0, Decimal("2.000195"))


def test_a_job_that_its_process_left_open_ends_by_itself(team: Team) -> None:
    """Else its price or cap would be held for ever."""
    _send(team, max_tokens=8)
    opened, ends = (datetime.fromisoformat(_job(team)[name]) for name in ("created_at", "expires_at"))
    assert timedelta(hours=23) < ends - opened < timedelta(hours=25)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["err500", "abort", "abort-first"])
def test_a_call_that_fails_fails_its_job(team: Team, model: str, stream: bool) -> None:
    answer = _send(team, model, stream=stream)
    job = _job(team)
    assert job["status"] == "failed"
    assert job["error_message"]
    assert answer.headers["x-credits-job-id"] == job["job_id"]
    team.check_books()


def test_a_call_that_is_refused_fails_its_job_and_says_why(gateway: Gateway) -> None:
    team = gateway.team(credits="0")
    answer = _send(team)
    assert answer.status_code == 402
    assert answer.json()["error"]["code"] == "insufficient_credits"
    job = _job(team)
    assert (job["status"], job["error_message"]) == ("failed", answer.json()["error"]["message"])
    assert team.calls() == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_fails_its_job(team: Team, stream: bool) -> None:
    body = {"model": "hang-mid" if stream else "hang", "messages": [{"role": "user", "content": PROMPT}]} | JOB
    with team.http(timeout=2) as http:
        if stream:
            with http.stream("POST", "/api/jobs/create-and-call-stream", json=body) as response:
                next(response.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                http.post("/api/jobs/create-and-call", json=body)
    wait_until(lambda: _job(team)["status"] == "failed", what="the job's end")
    assert _job(team)["error_message"] in (
        "The client hung up before the answer was complete.",
        "Client disconnected the request",  # LiteLLM's word for it, where it noticed first
    )
    team.ended_call()
    team.check_books()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"job_type": None}, "job_type"),
        ({"job_type": "x" * 101}, "job_type"),
        ({"job_metadata": []}, "metadata"),
        ({"temprature": 1}, "temprature"),
        ({"model": 7}, "model"),
        ({"parent_job_id": "x"}, "parent_job_id"),
        ({"credit_cap": -1}, "credit_cap"),
        ({"expires_at": "2001-01-01"}, "expires_at"),
        ({"on_expiry": "x"}, "on_expiry"),
    ],
)
def test_bad_input_opens_no_job(team: Team, change: dict[str, Any], param: str) -> None:
    answer = _send(team, **change)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["param"] == param
    with team.http() as http:
        assert http.get("/api/jobs").json()["jobs"] == []


def test_another_teams_job_or_name_is_refused(team: Team, other_team: Team) -> None:
    assert _send(team, team_id=other_team.team_id).json()["error"]["code"] == "forbidden"
    assert _send(team, parent_job_id=str(other_team.job())).json()["error"]["code"] == "job_not_yours"


def test_only_teams_may(gateway: Gateway) -> None:
    answer = gateway.admin.post("/api/jobs/create-and-call", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "team_only")
    answer = httpx.post(f"{gateway.base_url}/api/jobs/create-and-call", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key")


def test_a_repeated_request_opens_one_job(team: Team) -> None:
    headers = {"idempotency-key": str(uuid4())}
    answers = [_send(team, headers=headers) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert _job(team)["job_id"] == answers[1].json()["job_id"]
    assert len(team.calls()) == 1
