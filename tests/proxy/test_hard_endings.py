"""Killed workers, leases, other plugins that fail, LiteLLM's cache, and an orderly stop."""

import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import uuid4

import httpx
import openai
import pytest

from .conftest import HERE, running_gateway
from .gateway import Gateway, Team, credits_for, wait_until
from .test_endings import RawClient, attempt, expect

pytestmark = pytest.mark.timeout(400)  # workers are killed here, and new ones take their time

LEASE_SECONDS = 4
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def gateway(
    session_database_url: str, provider_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Two workers with short leases, a saboteur around our hooks, and LiteLLM's cache switched on."""
    folder = tmp_path_factory.mktemp("hard")
    shutil.copy(HERE / "saboteur.py", folder)
    callbacks = ["saboteur.before", "litellm_credits.proxy.plugin.credits", "saboteur.after"]
    with running_gateway(
        folder,
        session_database_url,
        provider_url,
        env={"CREDITS_LEASE_SECONDS": str(LEASE_SECONDS)},
        litellm_settings={"callbacks": callbacks, "cache": True, "cache_params": {"type": "local"}},
    ) as gateway:
        yield gateway


@pytest.fixture
def team(gateway: Gateway) -> Team:
    """A new team, once a worker is there to make it."""

    def healthy() -> bool:
        try:
            return httpx.get(f"{gateway.base_url}/api/health").is_success
        except httpx.TransportError:
            return False

    wait_until(healthy, seconds=90, what="a living worker")
    return gateway.team()


def broken_off(team: Team, text: str, *, stream: bool, **more: object) -> None:
    """A call whose worker dies under it."""
    with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)):
        team.stream("ok", text=text, **more) if stream else team.chat("ok", text=text, **more)


# Killed workers -------------------------------------------------------------------------------------------------------------


@BOTH
def test_killed_before_the_hold_nothing_was_held(team: Team, stream: bool) -> None:
    text = f"kill:before-hold {uuid4().hex}"
    broken_off(team, text, stream=stream)
    assert team.gateway.sent(text) == []
    assert team.calls() == []
    team.check_books()


@pytest.mark.parametrize(
    ("point", "stream"),
    [
        ("after-hold", False),
        ("after-hold", True),
        ("mid-stream", True),
        ("before-settle", False),
        ("before-settle", True),
    ],
)
def test_killed_with_a_hold_its_lease_runs_out(team: Team, point: str, stream: bool) -> None:
    broken_off(team, f"kill:{point} {uuid4().hex}", stream=stream)
    call = team.ended_call()
    expect(call, "expired", None, Decimal(0), {"lease_expired", "needs_reconciliation"})
    assert call["policy"] == "on_process_death=release"
    team.check_books()


def test_a_plan_may_charge_the_hold_of_a_killed_worker(gateway: Gateway, team: Team) -> None:
    team = gateway.team(plan={"on_process_death": "charge_hold"})
    broken_off(team, f"kill:after-hold {uuid4().hex}", stream=False, max_tokens=50)
    call = team.ended_call()
    assert (call["status"], call["basis"], call["policy"]) == ("expired", None, "on_process_death=charge_hold")
    assert call["credits_charged"] == call["credits_held"] > 0
    team.check_books()


@BOTH
def test_killed_after_the_settle_it_is_paid_once(team: Team, stream: bool) -> None:
    text = f"kill:after-settle {uuid4().hex}"
    broken_off(team, text, stream=stream)
    call = team.ended_call()
    expect(call, "settled", "provider_usage", credits_for(2, 8))
    time.sleep(2 * LEASE_SECONDS)  # the sweepers have passed by
    assert team.ended_call() == call
    team.check_books()


# Leases ---------------------------------------------------------------------------------------------------------------------


def test_a_stream_far_longer_than_its_lease_is_not_swept(team: Team) -> None:
    gate = f"gate-{uuid4().hex}"
    client = RawClient(team, "steady", gate, stream=True)
    client.read_until(b"word")
    until = time.monotonic() + 4 * LEASE_SECONDS
    while time.monotonic() < until:
        assert [call["status"] for call in team.calls()] == ["held"]
        time.sleep(0.1)
    team.gateway.open(gate)
    client.read_until(b"[DONE]")
    client.leave("closed")
    expect(team.ended_call(), "settled", "provider_usage")
    team.check_books()


# Other plugins --------------------------------------------------------------------------------------------------------------


@BOTH
def test_a_later_plugin_that_refuses_releases_the_hold(team: Team, stream: bool) -> None:
    text = f"fail:after-hold {uuid4().hex}"
    assert isinstance(attempt(team, "ok", stream=stream, text=text), openai.BadRequestError)
    assert team.gateway.sent(text) == []
    expect(team.ended_call(), "voided", None, Decimal(0))
    team.check_books()


@pytest.mark.parametrize("point", ["before-settle", "after-settle"])
def test_a_plugin_that_refuses_an_answer_does_not_make_it_free(team: Team, point: str) -> None:
    assert isinstance(attempt(team, "ok", stream=False, text=f"fail:{point} {uuid4().hex}"), openai.BadRequestError)
    flags = {"failed_after_answer"} if point == "before-settle" else set()
    expect(team.ended_call(), "settled", "provider_usage", credits_for(2, 8), flags)
    team.check_books()


@pytest.mark.parametrize("point", ["mid-stream", "before-settle", "after-settle"])
def test_a_plugin_that_breaks_a_stream_leaves_it_paid_once(team: Team, point: str) -> None:
    attempt(team, "ok", stream=True, text=f"fail:{point} {uuid4().hex}")
    call = team.ended_call()
    assert call["status"] == ("voided" if point == "mid-stream" and not call["credits_charged"] else "settled")
    team.check_books()


# The cache ------------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("rate", ["0", "0.5"])
def test_an_answer_from_the_cache_costs_the_plans_share(gateway: Gateway, team: Team, stream: bool, rate: str) -> None:
    team = gateway.team(plan={"cache_hit_rate": rate})
    text = f"cached {uuid4().hex}"

    def hit() -> dict[str, object] | None:
        attempt(team, "ok", stream=stream, text=text)
        return next((call for call in team.calls() if call["basis"] == "cache_hit"), None)

    call = wait_until(hit, what="a hit in one worker's cache")
    assert call["policy"] == f"cache_hit_rate={rate}"
    assert call["credits_charged"] == credits_for(2, 8) * Decimal(rate)
    stranger = gateway.team()
    attempt(stranger, "ok", stream=stream, text=text)
    assert stranger.ended_call()["basis"] == "provider_usage", "a team was served another team's answer"
    team.check_books()


# An orderly stop ------------------------------------------------------------------------------------------------------------


def test_a_stopped_proxy_ends_and_settles_what_is_in_flight(
    session_database_url: str, provider_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("stop")
    with (
        running_gateway(folder, session_database_url, provider_url, workers=1) as gateway,
        ThreadPoolExecutor() as pool,
    ):
        team = gateway.team()
        whole, streamed = f"gate-{uuid4().hex}", f"gate-{uuid4().hex}"
        answer = pool.submit(team.chat, "gated", text=whole)
        chunks = pool.submit(team.stream, "steady", text=streamed)
        wait_until(lambda: gateway.sent(whole) and gateway.sent(streamed), what="both dispatches")
        gateway.stack.proxy.process.send_signal(signal.SIGTERM)

        def refuses() -> bool:
            try:
                httpx.get(f"{gateway.base_url}/api/health")
                return False
            except httpx.TransportError:
                return True

        wait_until(refuses, what="the refusal of new calls")
        assert [call["status"] for call in team.calls()] == ["held", "held"]
        gateway.open(whole)
        gateway.open(streamed)
        assert answer.result(20).choices[0].message.content == "Hi"
        assert len(chunks.result(20)) > 1
        wait_until(lambda: gateway.stack.proxy.exit_code is not None, seconds=30, what="the end of the process")
        assert {(call["status"], call["basis"]) for call in team.calls()} == {("settled", "provider_usage")}
        team.check_books()
