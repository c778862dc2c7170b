"""What the balance allows: the upper bound, the 402, the fit, and many calls at once on several workers."""

import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import uuid4

import httpx
import openai
import pytest

from .gateway import Gateway, Team, credits_for, wait_until


def test_a_hold_is_the_most_the_call_can_cost(team: Team) -> None:
    team.chat("ok", max_tokens=8)
    call = team.ended_call()
    # Bytes bound tokens from above; the text is 88 bytes, its role 4, plus the frame around message and reply.
    assert credits_for(88, 8) < call["credits_held"] < credits_for(88 + 64, 8)


def test_without_a_limit_the_models_own_is_held_for(team: Team) -> None:
    team.chat("ok")
    assert team.ended_call()["credits_held"] > credits_for(0, 4096)


def test_the_402_says_what_would_fit(gateway: Gateway) -> None:
    team = gateway.team(credits="0.01")
    with pytest.raises(openai.APIStatusError) as refusal:
        team.chat("ok", max_tokens=4096)
    assert refusal.value.status_code == 402
    error = refusal.value.response.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_credits")
    assert Decimal(str(error["required"])) > Decimal("0.06")
    assert (error["available"], error["held"], error["retry_may_help"]) == (0.01, 0, False)
    assert team.calls() == []
    affordable = error["affordable_max_tokens"]
    assert 500 < affordable < 667
    assert team.chat("ok", max_tokens=affordable).choices
    team.check_books()


def test_what_others_hold_may_come_free(gateway: Gateway) -> None:
    gate = f"gate-{uuid4().hex}"
    team = gateway.team(credits="0.02")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(team.chat, "gated", text=gate, max_tokens=1000)
        wait_until(lambda: team.balance()["credits_held"] > 0, what="the first call's hold")
        with pytest.raises(openai.APIStatusError) as refusal:
            team.chat("ok", max_tokens=1000)
        error = refusal.value.response.json()["error"]
        assert error["held"] > 0
        assert error["retry_may_help"] is True
        gateway.open(gate)
        assert first.result().choices
    assert team.chat("ok", max_tokens=1000).choices
    team.check_books()


def test_the_exact_tokenizer_admits_what_the_cheap_bound_would_refuse(gateway: Gateway) -> None:
    text = "internationalization " * 200  # 4,200 bytes, some 400 tokens
    cheap, exact = credits_for(4200, 8), credits_for(700, 8)
    team = gateway.team(credits=str((cheap + exact) / 2))
    assert team.chat("ok", text=text, max_tokens=8).choices
    assert team.ended_call()["credits_held"] < exact
    team.check_books()


@pytest.mark.parametrize("stream", [False, True])
def test_a_plan_may_fit_the_call_to_the_balance(gateway: Gateway, stream: bool) -> None:
    team = gateway.team(credits="0.02", plan={"fit_to_balance": True})
    text = f"fit {uuid4().hex}"
    answer = team.client().chat.completions.with_raw_response.create(
        model="ok", messages=[{"role": "user", "content": text}], max_tokens=100_000, stream=stream
    )
    fitted = int(answer.headers["x-credits-max-tokens"])
    assert 1000 < fitted < 1334
    if stream:
        list(answer.parse())
    assert gateway.sent(text)[0]["body"]["max_tokens"] == fitted
    assert team.ended_call()["credits_held"] <= Decimal("0.02")
    team.check_books()


def test_a_fit_too_small_to_be_useful_is_refused(gateway: Gateway) -> None:
    team = gateway.team(credits="0.001", plan={"fit_to_balance": True})
    with pytest.raises(openai.APIStatusError) as refusal:
        team.chat("ok", max_tokens=1000)
    assert refusal.value.status_code == 402
    assert team.calls() == []


def test_ten_of_sixty_four_parallel_calls_fit_and_no_more(gateway: Gateway) -> None:
    gate = f"gate-{uuid4().hex}"
    probe = gateway.team()
    gateway.open(gate + "-probe")
    probe.chat("gated", text=gate + "-probe", max_tokens=100)
    bound = probe.ended_call()["credits_held"] - credits_for(len("-probe"), 0)
    team = gateway.team(credits=str(bound * 10))

    def call(_: int) -> int:
        try:
            return 200 if team.chat("gated", text=gate, max_tokens=100).choices else 0
        except openai.APIStatusError as refusal:
            return refusal.status_code

    with ThreadPoolExecutor(64) as pool:
        outcomes = [pool.submit(call, number) for number in range(64)]
        # The provider answers nobody before everybody is admitted or refused.
        wait_until(lambda: len(gateway.sent(gate)) == 10 and sum(one.done() for one in outcomes) == 54, seconds=60)
        assert team.balance()["credits_held"] == bound * 10
        gateway.open(gate)
        codes = sorted(one.result() for one in outcomes)
    assert codes == [200] * 10 + [402] * 54
    assert {call["status"] for call in team.calls()} == {"settled"}
    assert len({call["worker_id"] for call in team.calls()}) == 2, "both workers took part"
    team.check_books()


def test_provider_errors_charge_nothing_and_keep_the_error(gateway: Gateway) -> None:
    for model, status in (("err400", 400), ("err401", 502), ("err429", 429), ("err500", 500)):
        for stream in (False, True):
            team = gateway.team()
            with pytest.raises(openai.APIStatusError) as failure:
                team.stream(model) if stream else team.chat(model)
            assert failure.value.status_code == status
            call = team.ended_call()
            assert (call["status"], call["credits_charged"], call["basis"]) == ("voided", 0, None)
            assert call["error"]["message"]
            assert str(call["error"]["status"]) == str(status)
            assert failure.value.response.headers["x-credits-charged"] == "0"
            assert [entry["transaction_type"] for entry in team.ledger()] == ["allocation"]
            team.check_books()


def test_a_suspended_team_is_refused_at_once_on_every_worker(team: Team) -> None:
    for _ in range(8):
        team.chat("ok")
    team.gateway.call("PUT", f"/api/teams/{team.team_id}/suspend")
    for _ in range(8):
        with pytest.raises(openai.PermissionDeniedError) as refusal:
            team.chat("ok")
        assert refusal.value.response.json()["error"]["code"] == "team_suspended"
    team.gateway.call("PUT", f"/api/teams/{team.team_id}/resume")
    for _ in range(8):
        team.chat("ok")
    team.check_books()


def status_of(team: Team) -> int:
    with httpx.Client(headers={"authorization": f"Bearer {team.key}", "connection": "close"}) as http:
        return http.get(f"{team.gateway.base_url}/v1/models").status_code


def test_revoked_and_expired_keys_stop_on_every_worker_within_a_second(team: Team) -> None:
    made = team.gateway.call("POST", f"/api/teams/{team.team_id}/keys", {"name": "second"})
    second = Team(team.gateway, team.team_id, made["virtual_key"])
    for _ in range(8):
        assert status_of(second) == 200
    team.gateway.call("DELETE", f"/api/teams/{team.team_id}/keys/{made['key_id']}")
    time.sleep(1)  # the promise under test is a duration
    assert {status_of(second) for _ in range(12)} == {401}
    assert {status_of(team) for _ in range(4)} == {200}


def test_access_taken_away_ends_on_every_worker_within_a_second(team: Team) -> None:
    for _ in range(8):
        team.chat("ok")
    team.gateway.call("PUT", f"/api/teams/{team.team_id}/access-groups", [])
    time.sleep(1)  # the promise under test is a duration
    for _ in range(8):
        with pytest.raises(openai.PermissionDeniedError):
            team.chat("ok")


def test_access_given_is_there_at_once(gateway: Gateway) -> None:
    team = gateway.team(groups=[])
    for _ in range(4):
        with pytest.raises(openai.PermissionDeniedError):
            team.chat("ok")
    gateway.call("PUT", f"/api/teams/{team.team_id}/access-groups", [gateway.group])
    for _ in range(4):
        team.chat("ok")


def test_bad_bodies_are_refused_before_anything_is_held(team: Team) -> None:
    message = [{"role": "user", "content": "x"}]
    with team.http() as http:
        for body, status, param in (
            ({"model": "ok"}, 422, "messages"),
            ({"model": "ok", "messages": []}, 422, "messages"),
            ({"model": "ok", "messages": [7]}, 422, "messages[0]"),
            ({"model": "ok", "messages": message, "n": 0}, 422, "n"),
            ({"model": "ok", "messages": message, "n": True}, 422, "n"),
            ({"model": "ok", "messages": message, "max_tokens": 1e99}, 422, "max_tokens"),
            ({"model": "ok", "messages": message, "max_completion_tokens": -5}, 422, "max_completion_tokens"),
            ({"model": "ok", "messages": message, "stream": "yes"}, 422, "stream"),
            ({"messages": message}, 422, "model"),
            ({"model": ["ok"], "messages": message}, 422, "model"),
        ):
            response = http.post("/v1/chat/completions", json=body)
            assert (response.status_code, response.json()["error"]["param"]) == (status, param), (body, response.text)
        for content in (b"{", b"", b"null", b"[" * 100_000, b"\xff\xfe", b'{"model": NaN}'):
            response = http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
            assert 400 <= response.status_code < 500, (content[:20], response.text)
        response = http.post(
            "/v1/chat/completions", json={"model": "ok", "messages": [{"role": "user", "content": "x" * 11_000_000}]}
        )
        assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")
    assert team.calls() == []


def test_a_body_without_a_stated_length_is_bounded_too(team: Team) -> None:
    def endless() -> "object":
        yield b'{"model": "'
        for _ in range(200):
            yield b"x" * 100_000

    with team.http() as http:
        response = http.post("/v1/chat/completions", content=endless(), headers={"content-type": "application/json"})  # type: ignore[arg-type]
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


def test_no_key_and_wrong_keys_are_401(gateway: Gateway) -> None:
    body = {"model": "ok", "messages": [{"role": "user", "content": "x"}]}
    for headers, code in (
        ({}, "missing_api_key"),
        ({"authorization": "Bearer sk-unknown"}, "invalid_api_key"),
        ({"authorization": "Bearer"}, "missing_api_key"),
        ({"authorization": b"Bearer \x80\xff"}, "invalid_api_key"),
    ):
        for path in ("/v1/chat/completions", "/v1/models"):
            request = httpx.Request(
                "POST" if "chat" in path else "GET", gateway.base_url + path, json=body, headers=headers
            )
            with httpx.Client() as http:
                response = http.send(request)
            assert (response.status_code, response.json()["error"]["code"]) == (401, code), (
                headers,
                path,
                response.text,
            )
