"""Calls with an Idempotency-Key through the real proxy, and what stops a key's calls: pauses, guards, its own aliases."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest

from .gateway import PROMPT, Gateway, Team, wait_until


def _ask(team: Team, key: str, model: str = "ok", *, text: str = PROMPT, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    with team.http() as http:
        return http.post("/v1/chat/completions", json=body, headers={"idempotency-key": key})


def test_a_repeated_call_is_answered_alike_and_charged_once(gateway: Gateway, team: Team) -> None:
    text, key = f"once {uuid4()}", str(uuid4())
    first = _ask(team, key, text=text)
    again = _ask(team, key, text=text)
    assert first.status_code == 200
    assert again.content == first.content
    for name in ("x-credits-call-id", "x-credits-charged", "x-credits-remaining", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["idempotent-replayed"] == "true"
    assert len(team.calls()) == len(gateway.sent(text)) == 1
    assert _ask(team, key, text=f"{text}!").json()["error"]["code"] == "idempotency_key_reused"
    team.check_books()


def test_of_calls_at_once_one_is_sent(gateway: Gateway, team: Team) -> None:
    text, key = f"at once {uuid4()}", str(uuid4())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: _ask(team, key, text=text), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len(team.calls()) == len(gateway.sent(text)) == 1
    assert _ask(team, key, text=text).status_code == 200
    team.check_books()


def test_a_repeated_stream_is_told_what_the_first_cost(gateway: Gateway, team: Team) -> None:
    text, key = f"stream {uuid4()}", str(uuid4())
    first = _ask(team, key, text=text, stream=True)
    assert first.text.rstrip().endswith("data: [DONE]")
    again = _ask(team, key, text=text, stream=True)
    assert again.status_code == 409
    error = again.json()["error"]
    assert error["code"] == "idempotency_already_done"
    [call] = team.calls()
    assert (error["call"]["call_id"], error["call"]["status"]) == (str(call["call_id"]), "settled")
    assert len(gateway.sent(text)) == 1


def test_a_failed_call_may_be_repeated_under_its_key(gateway: Gateway, team: Team) -> None:
    text, key = f"failed {uuid4()}", str(uuid4())
    for attempt in (1, 2):
        assert _ask(team, key, "err500", text=text).status_code == 500
        assert [call["status"] for call in team.calls()] == ["voided"] * attempt
    team.check_books()


def test_a_client_that_hangs_up_on_a_stream_is_not_charged_again(gateway: Gateway, team: Team) -> None:
    key = str(uuid4())
    body = {"model": "hang-mid", "messages": [{"role": "user", "content": PROMPT}], "stream": True}
    headers = {"idempotency-key": key}
    with team.http() as http, http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        next(response.iter_lines())
    call = team.ended_call()
    assert call["status"] == "settled"

    def done() -> dict[str, Any] | None:
        with team.http() as http:
            error: dict[str, Any] = http.post("/v1/chat/completions", json=body, headers=headers).json()["error"]
        return error if error["code"] == "idempotency_already_done" else None

    assert wait_until(done)["call"]["call_id"] == str(call["call_id"])
    assert len(team.calls()) == 1


def test_a_job_call_is_repeated_like_any_other(gateway: Gateway, team: Team) -> None:
    job, text = team.job(), f"job {uuid4()}"
    body = {"model": "ok", "messages": [{"role": "user", "content": text}]}
    headers = {"idempotency-key": str(uuid4())}
    with team.http() as http:
        answers = [http.post(f"/api/jobs/{job}/llm-call", json=body, headers=headers) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert len(team.calls()) == len(gateway.sent(text)) == 1


# Pauses, aliases, guards ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["pause", "suspend"])
@pytest.mark.parametrize("whose", ["team", "organization"])
def test_a_pause_stops_new_calls_of_running_jobs_at_once_and_lets_those_in_flight_end(
    gateway: Gateway, verb: str, whose: str
) -> None:
    organization = f"org-{uuid4().hex[:8]}"
    gateway.call("POST", "/api/organizations/create", {"organization_id": organization, "name": "x"})
    team = gateway.team(organization_id=organization)
    job, gate = team.job(), f"gate-{uuid4()}"
    of = f"/api/teams/{team.team_id}" if whose == "team" else f"/api/organizations/{organization}"
    with ThreadPoolExecutor(1) as pool:
        in_flight = pool.submit(team.chat, "gated", text=gate, extra_headers={"x-job-id": str(job)})
        wait_until(lambda: gateway.sent(gate), what="the call at the provider")
        gateway.call("PUT", f"{of}/{verb}")
        for _ in range(6):  # whichever worker takes it
            with pytest.raises(openai.PermissionDeniedError) as refused:
                team.chat("ok", extra_headers={"x-job-id": str(job)})
            assert refused.value.code == {"pause": "team_paused", "suspend": "team_suspended"}[verb]
        gateway.open(gate)
        assert in_flight.result().choices[0].message.content
    [call] = team.calls()
    assert call["status"] == "settled"
    gateway.call("PUT", f"{of}/resume")
    assert team.chat("ok", extra_headers={"x-job-id": str(job)})
    team.check_books()


def test_a_keys_own_aliases_are_all_that_it_may_call(gateway: Gateway, team: Team) -> None:
    made = gateway.call("POST", f"/api/teams/{team.team_id}/keys", {"allowed_aliases": ["ok"]})
    narrow = Team(gateway, team.team_id, made["virtual_key"])
    assert narrow.chat("ok").model == "ok"
    assert [model.id for model in narrow.client().models.list()] == ["ok", gateway.group]
    with pytest.raises(openai.PermissionDeniedError, match="no access to a model named 'falls-back'"):
        narrow.chat("falls-back")
    outside = gateway.call("POST", f"/api/teams/{team.team_id}/keys", {"allowed_aliases": ["falls-back"]})
    with pytest.raises(openai.APIStatusError):  # its fallback is the team's, but not the key's
        Team(gateway, team.team_id, outside["virtual_key"]).chat("falls-back")
    assert team.chat("falls-back").choices


@pytest.mark.parametrize("on", ["team", "key"])
def test_requests_a_minute_are_counted_by_each_worker(gateway: Gateway, on: str) -> None:
    """LiteLLM's limiter, whose counters are each process's own unless it has Redis: with two workers up to twice the limit."""
    team = gateway.team(**({"rpm_limit": 3} if on == "team" else {}))
    if on == "key":
        made = gateway.call("POST", f"/api/teams/{team.team_id}/keys", {"rpm_limit": 3})
        team = Team(gateway, team.team_id, made["virtual_key"])
    answers = [_ask(team, str(uuid4())) for _ in range(10)]
    taken = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 3 <= len(taken) <= 6
    assert len(taken) + len(refused) == len(answers)
    for answer in refused:
        assert 0 < int(answer.headers["retry-after"]) <= 60
        assert "error" in answer.json()
    wait_until(lambda: all(call["status"] != "held" for call in team.calls()))
    team.check_books()


def test_a_limit_stands_while_many_others_call(gateway: Gateway) -> None:
    """LiteLLM keeps 200 counters, and forgets the oldest, unless it is told to keep more."""
    team = gateway.team(rpm_limit=1)
    others = [gateway.team(rpm_limit=100) for _ in range(150)]
    started, taken = time.monotonic(), 0
    with ThreadPoolExecutor(8) as pool:

        def ask(teams: list[Team]) -> list[int]:
            return [answer.status_code for answer in pool.map(lambda one: _ask(one, str(uuid4())), teams)]

        while taken < 2:  # both workers count for themselves
            taken += ask([team] * 8).count(200)
        assert set(ask(others * 2)) == {200}
        statuses = set(ask([team] * 8))
    assert time.monotonic() - started < 55, "the minute was over, so nothing was tested"
    assert statuses == {429}


def test_tokens_a_minute_are_guarded(gateway: Gateway) -> None:
    team = gateway.team(tpm_limit=100)
    started = time.monotonic()
    answers = [_ask(team, str(uuid4()), max_tokens=8) for _ in range(16)]
    assert time.monotonic() - started < 55
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    wait_until(lambda: all(call["status"] != "held" for call in team.calls()))
    team.check_books()
