"""Every way a call can end: what it charges, on which basis, with which flags; and never a hold left behind (DESIGN 2)."""

import socket
import struct
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import openai
import pytest

from .gateway import PROMPT, Gateway, Team, credits_for, wait_until

Check = Callable[[dict[str, Any]], None]


def attempt(team: Team, model: str, *, stream: bool, **more: Any) -> Exception | None:
    """Make the call, read it to whatever end it has, and return what the client saw go wrong, if anything."""
    try:
        team.stream(model, **more) if stream else team.chat(model, **more)
    except (openai.APIError, httpx.RemoteProtocolError) as error:
        return error
    return None


def expect(
    call: dict[str, Any], status: str, basis: str | None, charged: Decimal | None = None, flags: set[str] | None = None
) -> None:
    seen = (call["status"], call["basis"], set(call["flags"]))
    assert seen == (status, basis, flags or set()), call
    if charged is not None:
        assert call["credits_charged"] == charged
    assert call["credits_charged"] <= call["credits_held"] or "bound_exceeded" in call["flags"]


BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


# Usage --------------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("model", "flag"),
    [
        ("no-usage", "usage_missing"),
        ("zero-usage", "usage_missing"),
        ("negative", "usage_malformed"),
        ("huge", "usage_malformed"),
    ],
)
def test_an_answer_without_believable_usage_is_counted(team: Team, model: str, flag: str, stream: bool) -> None:
    assert attempt(team, model, stream=stream) is None
    call = team.ended_call()
    expect(call, "settled", "counted_output", flags={flag})
    assert call["policy"] == "on_missing_usage=count"
    assert 10 <= call["prompt_tokens"] <= 40
    assert 8 <= call["completion_tokens"] <= 14
    assert call["credits_charged"] == credits_for(call["prompt_tokens"], call["completion_tokens"])
    team.check_books()


@BOTH
@pytest.mark.parametrize(("policy", "status"), [("charge_hold", "settled"), ("charge_nothing", "voided")])
def test_a_plan_may_charge_the_hold_or_nothing_without_usage(
    gateway: Gateway, policy: str, status: str, stream: bool
) -> None:
    team = gateway.team(plan={"on_missing_usage": policy})
    assert attempt(team, "no-usage", stream=stream, max_tokens=20) is None
    call = team.ended_call()
    assert (call["status"], call["policy"]) == (status, f"on_missing_usage={policy}")
    assert call["credits_charged"] == (call["credits_held"] if policy == "charge_hold" else 0)
    team.check_books()


@BOTH
@pytest.mark.parametrize("model", ["empty", "empty-no-usage", "nothing"])
def test_an_empty_answer_costs_nothing(team: Team, model: str, stream: bool) -> None:
    attempt(team, model, stream=stream)
    call = team.ended_call()
    assert call["credits_charged"] == 0
    assert (call["status"], call["basis"]) in {("settled", "zero_output"), ("voided", None)}
    team.check_books()


def test_a_plan_may_charge_the_prompt_of_an_empty_answer(gateway: Gateway) -> None:
    team = gateway.team(plan={"on_zero_output": "charge_usage"})
    attempt(team, "empty-no-usage", stream=False)
    call = team.ended_call()
    expect(call, "settled", "counted_output", credits_for(call["prompt_tokens"], 0))
    assert call["prompt_tokens"] > 10
    team.check_books()


@BOTH
@pytest.mark.parametrize("model", ["strings", "missing-fields"])
def test_usage_that_litellm_chokes_on_loses_nothing(team: Team, model: str, stream: bool) -> None:
    """LiteLLM turns some malformed usage into an error of the call: void before output, else what was produced."""
    error = attempt(team, model, stream=stream)
    call = team.ended_call()
    if error is None or call["status"] == "settled":
        assert call["credits_charged"] > 0
    else:
        assert (call["status"], call["credits_charged"]) == ("voided", 0)
        assert call["error"]["message"]
    team.check_books()


@pytest.mark.parametrize("model", ["usage-twice", "usage-early"])
def test_usage_is_believed_wherever_in_the_stream_it_comes(team: Team, model: str) -> None:
    assert attempt(team, model, stream=True) is None
    expect(team.ended_call(), "settled", "provider_usage", credits_for(15, 8))
    team.check_books()


@BOTH
def test_usage_above_the_hold_is_charged_as_far_as_the_balance_goes(gateway: Gateway, stream: bool) -> None:
    probe = gateway.team()
    attempt(probe, "above-hold", stream=stream, max_tokens=10_000)
    rich = probe.ended_call()
    expect(rich, "settled", "provider_usage", credits_for(15, 15_000), {"bound_exceeded"})
    assert rich["credits_uncollected"] == 0
    probe.check_books()

    poor = gateway.team(credits=str(rich["credits_held"]))
    attempt(poor, "above-hold", stream=stream, max_tokens=10_000)
    call = poor.ended_call()
    expect(call, "settled", "provider_usage", rich["credits_held"], {"bound_exceeded"})
    assert call["credits_uncollected"] == credits_for(15, 15_000) - rich["credits_held"] > 0
    assert poor.balance()["credits_remaining"] == 0
    poor.check_books()


# Failures, retries, fallbacks -----------------------------------------------------------------------------------------------


@BOTH
def test_a_retry_that_succeeds_is_paid_once(team: Team, stream: bool) -> None:
    text = f"retry {uuid4().hex}"
    assert attempt(team, "flaky", stream=stream, text=text) is None
    assert len(team.gateway.sent(text)) == 2
    expect(team.ended_call(), "settled", "provider_usage", credits_for(2, 8))
    team.check_books()


@pytest.mark.parametrize(("model", "stream"), [("falls-back", False), ("falls-back", True), ("falls-back-first", True)])
def test_a_fallback_is_priced_as_what_served(gateway: Gateway, model: str, stream: bool) -> None:
    name = f"fallback-{uuid4().hex[:8]}"
    for alias, deployment, output in ((f"{name}-first", model, 0.0015), (f"{name}-second", "ok", 0.06)):
        body = {
            "model_alias": alias,
            "provider": "openai",
            "actual_model": deployment,
            "pricing_input": 0.0005,
            "pricing_output": output,
        }
        gateway.call("POST", "/api/models/aliases/create", body)
    gateway.call(
        "POST",
        "/api/model-access-groups/create",
        {"group_name": name, "model_aliases": [f"{name}-first", f"{name}-second"]},
    )
    team = gateway.team(groups=[name])
    assert attempt(team, f"{name}-first", stream=stream, max_tokens=8) is None
    call = team.ended_call()
    assert call["model_alias"] == f"{name}-second"
    assert call["pricing_output"] == Decimal("0.06")
    expect(call, "settled", "provider_usage", (15 * Decimal("0.0005") + 8 * Decimal("0.06")) / 100)
    team.check_books()


@BOTH
def test_a_fallback_outside_the_teams_groups_does_not_serve(team: Team, stream: bool) -> None:
    text = f"outside {uuid4().hex}"
    assert isinstance(attempt(team, "falls-outside", stream=stream, text=text), openai.InternalServerError)
    assert {entry["behaviour"] for entry in team.gateway.sent(text)} == {"err500"}
    expect(team.ended_call(), "voided", None, Decimal(0))
    team.check_books()


@BOTH
def test_a_timeout_before_output_costs_nothing(team: Team, stream: bool) -> None:
    assert attempt(team, "impatient", stream=stream) is not None
    call = team.ended_call()
    expect(call, "voided", None, Decimal(0))
    assert call["error"]["type"] == "Timeout"
    team.check_books()


@pytest.mark.parametrize("model", ["impatient-mid", "abort", "error-mid", "falls-back-mid"])
def test_a_stream_that_breaks_off_is_charged_for_what_came(team: Team, model: str) -> None:
    attempt(team, model, stream=True)
    call = team.ended_call()
    expect(call, "settled", "counted_output", flags={"upstream_aborted", "usage_missing"})
    assert call["completion_tokens"] == 3
    assert call["error"]["message"]
    assert call["response_data"]["content"] == "Hello, this"
    team.check_books()


def test_a_stream_that_ends_early_but_in_order_is_a_success(team: Team) -> None:
    attempt(team, "clean-close", stream=True)
    call = team.ended_call()
    expect(call, "settled", "counted_output", flags={"usage_missing"})
    assert call["completion_tokens"] == 3
    team.check_books()


def test_a_stream_that_breaks_before_the_first_chunk_costs_nothing(team: Team) -> None:
    assert attempt(team, "abort-first", stream=True) is not None
    expect(team.ended_call(), "voided", None, Decimal(0))
    team.check_books()


# Clients that leave ---------------------------------------------------------------------------------------------------------


class RawClient:
    """A socket that can be closed, or reset, at any moment."""

    def __init__(self, team: Team, model: str, text: str, **more: Any) -> None:
        address = urlsplit(team.gateway.base_url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=20)
        import json

        body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **more}).encode()
        self.socket.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            + f"authorization: Bearer {team.key}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        self.received = b""

    def read_until(self, text: bytes) -> None:
        while text not in self.received:
            part = self.socket.recv(65536)
            assert part, self.received
            self.received += part

    def leave(self, how: str) -> None:
        if how == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


LEAVE = pytest.mark.parametrize("how", ["closed", "reset"])


@LEAVE
@BOTH
def test_leaving_before_any_output_costs_nothing_and_is_flagged(team: Team, how: str, stream: bool) -> None:
    text = f"leave {uuid4().hex}"
    client = RawClient(team, "hang", text, stream=stream)
    wait_until(lambda: team.gateway.sent(text), what="the request at the provider")
    client.leave(how)
    call = team.ended_call()
    expect(call, "voided", None, Decimal(0), {"client_disconnected", "needs_reconciliation"})
    team.check_books()


@LEAVE
def test_leaving_mid_stream_pays_for_what_was_produced(team: Team, how: str) -> None:
    gate = f"gate-{uuid4().hex}"
    client = RawClient(team, "steady", gate, stream=True)
    client.read_until(b"word")
    client.leave(how)
    call = team.ended_call()
    team.gateway.open(gate)
    expect(call, "settled", "counted_output", flags={"client_disconnected", "usage_missing"})
    assert 1 <= call["completion_tokens"] < 100
    assert call["credits_charged"] > 0
    team.check_books()


@pytest.mark.parametrize(("policy", "status"), [("charge_hold", "settled"), ("charge_nothing", "voided")])
def test_a_plan_may_charge_the_hold_or_nothing_of_those_who_leave(gateway: Gateway, policy: str, status: str) -> None:
    team = gateway.team(plan={"on_disconnect": policy})
    gate = f"gate-{uuid4().hex}"
    client = RawClient(team, "steady", gate, stream=True, max_tokens=50)
    client.read_until(b"word")
    client.leave("closed")
    call = team.ended_call()
    gateway.open(gate)
    assert (call["status"], call["policy"]) == (status, f"on_disconnect={policy}")
    assert call["credits_charged"] == (call["credits_held"] if policy == "charge_hold" else 0)
    team.check_books()


@LEAVE
def test_leaving_after_the_last_chunk_pays_the_providers_usage(team: Team, how: str) -> None:
    client = RawClient(team, "ok", PROMPT, stream=True)
    client.read_until(b'"finish_reason"')
    client.leave(how)
    call = team.ended_call()
    assert call["status"] == "settled"
    if call["basis"] == "provider_usage":
        assert call["credits_charged"] == credits_for(15, 8)
    else:  # gone before the provider's usage was read
        expect(call, "settled", "counted_output", flags={"client_disconnected", "usage_missing"})
    team.check_books()


def test_leaving_a_finished_whole_answer_changes_nothing(team: Team) -> None:
    client = RawClient(team, "ok", PROMPT)
    client.read_until(b"HTTP/1.1 200")
    client.leave("reset")
    expect(team.ended_call(), "settled", "provider_usage", credits_for(15, 8))
    team.check_books()


def test_a_hold_outlives_nothing_it_should_not(team: Team) -> None:
    """A stream that lives long keeps its hold until it ends."""
    gate = f"gate-{uuid4().hex}"
    client = RawClient(team, "steady", gate, stream=True)
    client.read_until(b"word")
    time.sleep(0.3)  # a duration is the point
    assert [call["status"] for call in team.calls()] == ["held"]
    team.gateway.open(gate)
    client.read_until(b"[DONE]")
    expect(team.ended_call(), "settled", "provider_usage")
    client.leave("closed")
    team.check_books()
