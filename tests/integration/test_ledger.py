"""Holds, endings and grants on a real database (DESIGN 1 and 2): what each does, and what no race can make of them."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest
from tests.ledger_rig import Relay, Rig, eventually, hold_request, locked, settle_of, void_of, worker, workers

from litellm_credits.errors import (
    BalanceTooLow,
    IdempotencyConflict,
    JobClosed,
    JobNotYours,
    LedgerUnavailable,
    NotFound,
    TeamSuspended,
)
from litellm_credits.ledger.calls import Held, Receipt, Short
from litellm_credits.ledger.grants import Grants
from litellm_credits.ledger.ledger import Ledger
from litellm_credits.models import CallBasis

pytestmark = pytest.mark.integration

SMALLEST = Decimal("1e-10")


@pytest.fixture
def rig(database_url: str) -> Iterator[Rig]:
    rig = Rig(database_url)
    yield rig
    rig.close()


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    async with worker(database_url, pool_size=16) as ledger:
        yield ledger


@pytest.fixture
async def other_worker(database_url: str) -> AsyncIterator[Ledger]:
    async with worker(database_url, pool_size=16) as ledger:
        yield ledger


async def held(ledger: Ledger, team_id: str, credits: object, job_id: UUID | None = None) -> UUID:
    """The id of a call whose hold must fit."""
    outcome = await ledger.hold(hold_request(team_id, credits, job_id=job_id))
    assert isinstance(outcome, Held), outcome
    return outcome.call_id


# Hold -----------------------------------------------------------------------------------------------------------------


async def test_hold_reserves_and_opens_the_call_row(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    outcome = await ledger.hold(hold_request(team, "4", purpose="test", litellm_call_id="theirs", stream=True))
    assert isinstance(outcome, Held)
    assert (outcome.credits, outcome.available) == (4, 6)
    assert rig.money(team) == (10, 0, 4)
    call = rig.call(outcome.call_id)
    assert (call["status"], call["team_id"], call["credits_held"], call["credits_charged"]) == ("held", team, 4, 0)
    assert (call["purpose"], call["litellm_call_id"], call["stream"], call["basis"]) == ("test", "theirs", True, None)
    assert call["lease_until"] - call["created_at"] == timedelta(seconds=120)
    assert len(rig.entries(team)) == 1, "a hold is not a ledger entry"


async def test_hold_that_fits_exactly(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits="0.0001950000")
    outcome = await ledger.hold(hold_request(team, "0.000195"))
    assert isinstance(outcome, Held)
    assert outcome.available == 0
    assert isinstance(await ledger.hold(hold_request(team, SMALLEST)), Short)
    assert isinstance(await ledger.hold(hold_request(team, 0)), Held), "a free call needs no credits"


async def test_hold_one_step_too_large_changes_nothing(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    await held(ledger, team, 3)
    outcome = await ledger.hold(hold_request(team, 7 + SMALLEST))
    assert outcome == Short(available=Decimal(7), held=Decimal(3))
    assert rig.money(team) == (10, 0, 3)
    assert len(rig.calls(team)) == 1


async def test_overdraft_is_part_of_what_is_available(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10, overdraft=5)
    assert isinstance(await ledger.hold(hold_request(team, 15 + SMALLEST)), Short)
    call_id = await held(ledger, team, 15)
    receipt = await ledger.end(settle_of(call_id, team, 15))
    assert receipt == Receipt(charged=Decimal(15), uncollected=Decimal(0), remaining=Decimal(-5), available=Decimal(0))
    assert rig.money(team) == (10, 15, 0)


@pytest.mark.parametrize("whose", ["teams", "organizations"])
async def test_suspended_team_or_organization_holds_nothing(rig: Rig, ledger: Ledger, whose: str) -> None:
    team = rig.team()
    rig.rows(f"UPDATE credits.{whose} SET status = 'suspended'")
    with pytest.raises(TeamSuspended):
        await ledger.hold(hold_request(team, 1))
    assert (rig.money(team), rig.calls(team)) == ((10, 0, 0), [])
    rig.rows(f"UPDATE credits.{whose} SET status = 'active'")
    await held(ledger, team, 1)


async def test_call_in_flight_of_a_team_that_is_then_suspended_is_settled(rig: Rig, ledger: Ledger) -> None:
    team = rig.team()
    call_id = await held(ledger, team, 5)
    rig.rows("UPDATE credits.teams SET status = 'suspended'")
    assert await ledger.end(settle_of(call_id, team, 2))
    assert rig.money(team) == (10, 2, 0)


async def test_job_that_does_not_exist(rig: Rig, ledger: Ledger) -> None:
    team = rig.team()
    with pytest.raises(NotFound):
        await ledger.hold(hold_request(team, 1, job_id=uuid4()))
    assert (rig.money(team), rig.calls(team)) == ((10, 0, 0), [])


async def test_job_of_another_team(rig: Rig, ledger: Ledger) -> None:
    team, other = rig.team(), rig.team("beta")
    job_id = rig.job(other)
    with pytest.raises(JobNotYours):
        await ledger.hold(hold_request(team, 1, job_id=job_id))
    assert (rig.money(team), rig.money(other)) == ((10, 0, 0), (10, 0, 0))
    assert rig.row("SELECT status FROM credits.jobs")["status"] == "pending"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_closed_job(rig: Rig, ledger: Ledger, status: str) -> None:
    team = rig.team()
    with pytest.raises(JobClosed) as refusal:
        await ledger.hold(hold_request(team, 1, job_id=rig.job(team, status)))
    assert refusal.value.facts["state"] == status
    assert rig.money(team) == (10, 0, 0)


async def test_first_hold_starts_its_job_and_later_ones_do_not_restart_it(rig: Rig, ledger: Ledger) -> None:
    team = rig.team()
    job_id = rig.job(team)
    assert isinstance(await ledger.hold(hold_request(team, 11, job_id=job_id)), Short)
    assert rig.row("SELECT status, started_at FROM credits.jobs") == {"status": "pending", "started_at": None}
    await held(ledger, team, 1, job_id)
    started = rig.row("SELECT status, started_at FROM credits.jobs")
    assert started["status"] == "in_progress"
    assert started["started_at"] is not None
    await held(ledger, team, 1, job_id)
    assert rig.row("SELECT status, started_at FROM credits.jobs") == started


@pytest.mark.parametrize("at_once", [1, 4], ids=lambda n: f"{n} in a statement")
async def test_as_many_concurrent_holds_as_the_balance_has_room_for(rig: Rig, at_once: int) -> None:
    team = rig.team(credits="2.1")
    async with workers(rig.url, 12) as many:
        async with locked(rig.url, team):  # so that they all start from the same, soon stale, snapshot
            holds = [asyncio.create_task(one.hold(hold_request(team, "0.3"))) for one in many * at_once]
            await eventually(lambda: rig.waiting_for_locks() >= 12)
        outcomes = await asyncio.gather(*holds)
    assert sum(isinstance(outcome, Held) for outcome in outcomes) == 7
    assert rig.money(team) == (Decimal("2.1"), 0, Decimal("2.1"))
    left = [outcome.available for outcome in outcomes if isinstance(outcome, Held)]
    assert min(left) == 0
    assert set(left) <= {Decimal("0.3") * n for n in range(7)}


async def test_hold_waiting_while_its_job_is_deleted(rig: Rig, ledger: Ledger) -> None:
    team = rig.team()
    job_id = rig.job(team)
    async with locked(rig.url, team) as admin:
        hold = asyncio.create_task(ledger.hold(hold_request(team, 1, job_id=job_id)))
        await eventually(rig.waiting_for_locks)
        await admin.execute("DELETE FROM credits.jobs")
    with pytest.raises(NotFound):
        await hold
    assert rig.money(team) == (10, 0, 0)


async def test_hold_waiting_while_its_job_is_closed(rig: Rig, ledger: Ledger) -> None:
    team = rig.team()
    job_id = rig.job(team)
    async with locked(rig.url, team) as admin:
        hold = asyncio.create_task(ledger.hold(hold_request(team, 1, job_id=job_id)))
        await eventually(rig.waiting_for_locks)
        await admin.execute("UPDATE credits.jobs SET status = 'completed'")
    await asyncio.wait([hold])
    assert rig.row("SELECT status FROM credits.jobs")["status"] == "completed", "a closed job is never opened again"


async def test_hold_waiting_while_its_team_is_deleted(rig: Rig, ledger: Ledger) -> None:
    team = rig.team()
    async with locked(rig.url, team) as admin:
        hold = asyncio.create_task(ledger.hold(hold_request(team, 1)))
        await eventually(rig.waiting_for_locks)
        await admin.execute("DELETE FROM credits.teams")
    assert not isinstance((await asyncio.gather(hold, return_exceptions=True))[0], Held)
    assert rig.rows("SELECT 1 FROM credits.llm_calls") == []


# Settle, void ---------------------------------------------------------------------------------------------------------


async def test_settle_charges_releases_and_writes_one_entry(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    job_id = rig.job(team)
    call_id = await held(ledger, team, 4, job_id)
    receipt = await ledger.end(
        settle_of(
            call_id,
            team,
            "1.5000000001",
            model_alias="served",
            resolved_model="gpt-2024",
            prompt_tokens=15,
            completion_tokens=8,
            total_tokens=23,
            cached_tokens=1,
            reasoning_tokens=2,
            cost_usd=Decimal("0.0000195"),
            provider_cost_usd=Decimal("0.00001950000001"),
            flags=["one"],
            policy="some",
            latency_ms=12,
            time_to_first_token_ms=3,
            request_data=b'{"a":1.10}',
            response_data='{"b":"\u00fc"}'.encode(),
            error={"type": "None"},
        )
    )
    charged = Decimal("1.5000000001")
    assert receipt == Receipt(charged, uncollected=Decimal(0), remaining=10 - charged, available=10 - charged)
    assert rig.money(team) == (10, charged, 0)
    call = rig.call(call_id)
    stored = {
        "status": "settled",
        "basis": "provider_usage",
        "model_alias": "served",
        "resolved_model": "gpt-2024",
        "prompt_tokens": 15,
        "completion_tokens": 8,
        "total_tokens": 23,
        "cached_tokens": 1,
        "reasoning_tokens": 2,
        "cost_usd": Decimal("0.0000195"),
        "provider_cost_usd": Decimal("0.00001950000001"),
        "credits_held": 4,
        "credits_charged": charged,
        "credits_uncollected": 0,
        "flags": ["one"],
        "policy": "some",
        "latency_ms": 12,
        "time_to_first_token_ms": 3,
        "response_data": {"b": "\u00fc"},
        "error": {"type": "None"},
    }
    assert {name: call[name] for name in stored} == stored
    assert call["settled_at"] is not None
    grant, entry = rig.entries(team)
    assert grant["transaction_type"] == "allocation"
    assert (entry["transaction_type"], entry["call_id"], entry["job_id"]) == ("charge", call_id, job_id)
    assert (entry["credits_before"], entry["credits_amount"], entry["credits_after"]) == (10, -charged, 10 - charged)
    assert entry["reason"] == "call served: provider_usage 1.5000000001"


async def test_settle_of_the_whole_hold(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await held(ledger, team, 10)
    await ledger.end(settle_of(call_id, team, 10))
    assert rig.money(team) == (10, 10, 0)
    assert rig.call(call_id)["flags"] == []


async def test_settle_of_a_free_call_writes_no_entry(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await held(ledger, team, 4)
    receipt = await ledger.end(settle_of(call_id, team, 0, basis=CallBasis.cache_hit))
    assert receipt == Receipt(Decimal(0), uncollected=Decimal(0), remaining=Decimal(10), available=Decimal(10))
    assert rig.call(call_id)["basis"] == "cache_hit"
    assert len(rig.entries(team)) == 1


async def test_void_releases_and_keeps_the_error(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await held(ledger, team, 4)
    receipt = await ledger.end(void_of(call_id, team, error={"message": "boom"}))
    assert receipt == Receipt(Decimal(0), uncollected=Decimal(0), remaining=Decimal(10), available=Decimal(10))
    assert rig.money(team) == (10, 0, 0)
    call = rig.call(call_id)
    assert (call["status"], call["basis"], call["error"]) == ("voided", None, {"message": "boom"})
    assert len(rig.entries(team)) == 1


async def test_second_ending_of_any_kind_changes_nothing(rig: Rig, ledger: Ledger, other_worker: Ledger) -> None:
    team = rig.team(credits=10)
    settled, voided = await held(ledger, team, 4), await held(ledger, team, 3)
    assert await ledger.end(settle_of(settled, team, 2))
    assert await ledger.end(void_of(voided, team))
    before = (rig.account(team), rig.calls(team), rig.entries(team))
    for again in (ledger, other_worker):
        for call_id in (settled, voided):
            assert await again.end(settle_of(call_id, team, 3)) is None
            assert await again.end(void_of(call_id, team)) is None
    assert (rig.account(team), rig.calls(team), rig.entries(team)) == before


async def test_ending_of_a_call_that_never_was_or_is_another_teams(rig: Rig, ledger: Ledger) -> None:
    team, other = rig.team(), rig.team("beta")
    call_id = await held(ledger, team, 4)
    assert await ledger.end(settle_of(uuid4(), team, 1)) is None
    assert await ledger.end(settle_of(call_id, other, 1)) is None
    assert (rig.money(team), rig.money(other)) == ((10, 0, 4), (10, 0, 0))


@pytest.mark.parametrize("second", ["settle", "void"])
async def test_of_two_endings_at_the_same_moment_exactly_one_wins(
    rig: Rig, ledger: Ledger, other_worker: Ledger, second: str
) -> None:
    """Both wait for the balance when it comes free. Who came first wins, whichever ending and whichever worker that is."""
    team = rig.team(credits=1000)
    for round_ in range(40):
        call_id = await held(ledger, team, 4)
        used = rig.account(team)["credits_used"]
        endings = [
            settle_of(call_id, team, 3),
            settle_of(call_id, team, 2) if second == "settle" else void_of(call_id, team),
        ]
        workers = [ledger, other_worker]
        if round_ % 2:
            endings.reverse()
        if round_ // 2 % 2:
            workers.reverse()
        racing = []
        async with locked(rig.url, team):
            for waiting, (one, end) in enumerate(zip(workers, endings, strict=True), start=1):
                racing.append(asyncio.create_task(one.end(end)))
                await eventually(lambda waiting=waiting: rig.waiting_for_locks() == waiting)
        first, late = await asyncio.gather(*racing)
        assert first is not None
        assert late is None
        assert rig.money(team) == (1000, used + endings[0].credits, 0)
        assert rig.call(call_id)["credits_charged"] == endings[0].credits
        assert rig.call(call_id)["status"] == ("settled" if endings[0].basis else "voided")


async def test_endings_racing_freely(rig: Rig, ledger: Ledger, other_worker: Ledger) -> None:
    team = rig.team(credits=1000)
    used = Decimal(0)
    for _ in range(25):
        call_ids = [await held(ledger, team, 4) for _ in range(4)]
        endings = [
            end(call_id)
            for call_id in call_ids
            for end in (lambda c: settle_of(c, team, 3), lambda c: void_of(c, team))
        ]
        random.shuffle(endings)
        receipts = await asyncio.gather(
            *(one.end(end) for end in endings for one in random.sample([ledger, other_worker], 2))
        )
        assert sum(receipt is not None for receipt in receipts) == 4
        used += sum(receipt.charged for receipt in receipts if receipt is not None)
    assert rig.money(team) == (1000, used, 0)


async def test_settle_while_its_lease_is_being_renewed(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await held(ledger, team, 4)
    async with await psycopg.AsyncConnection.connect(rig.url) as renewer:
        await renewer.execute("UPDATE credits.llm_calls SET lease_until = lease_until + interval '1 hour'")
        ending = asyncio.create_task(ledger.end(settle_of(call_id, team, 3)))
        await eventually(rig.waiting_for_locks)
        await renewer.commit()
    assert await ending is not None
    assert rig.money(team) == (10, 3, 0)


async def test_charge_above_the_hold_takes_what_is_available(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await held(ledger, team, 4)
    receipt = await ledger.end(settle_of(call_id, team, 6))
    assert receipt == Receipt(Decimal(6), uncollected=Decimal(0), remaining=Decimal(4), available=Decimal(4))
    assert rig.call(call_id)["flags"] == ["bound_exceeded"]
    assert rig.money(team) == (10, 6, 0)


async def test_charge_above_all_that_is_available_stands_uncollected(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id, other = await held(ledger, team, 4), await held(ledger, team, 5)
    receipt = await ledger.end(settle_of(call_id, team, 7))
    assert receipt == Receipt(Decimal(5), uncollected=Decimal(2), remaining=Decimal(5), available=Decimal(0))
    assert rig.money(team) == (10, 5, 5), "what other calls hold is not touched"
    call = rig.call(call_id)
    assert (call["credits_charged"], call["credits_uncollected"], call["flags"]) == (5, 2, ["bound_exceeded"])
    assert rig.entries(team)[-1]["credits_amount"] == -5
    assert await ledger.end(settle_of(other, team, 5))
    assert rig.money(team) == (10, 10, 0)


async def test_charge_above_the_hold_that_only_fits_since_the_grant_it_waited_for(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=4)
    call_id = await held(ledger, team, 4)
    async with locked(rig.url, team):
        granting = asyncio.create_task(grant(ledger, team, 5))
        await eventually(lambda: rig.waiting_for_locks() >= 1)
        settling = asyncio.create_task(ledger.end(settle_of(call_id, team, 7)))
        await eventually(lambda: rig.waiting_for_locks() >= 2)
    await granting
    receipt = await settling
    assert receipt is not None
    assert (receipt.charged, receipt.uncollected) == (7, 0)
    assert rig.money(team) == (9, 7, 0)


async def test_charges_above_their_holds_racing_never_overdraw(rig: Rig, ledger: Ledger, other_worker: Ledger) -> None:
    team = rig.team(credits=10)
    call_ids = [await held(ledger, team, 1) for _ in range(10)]
    async with locked(rig.url, team):
        settles = [
            asyncio.create_task((ledger, other_worker)[place % 2].end(settle_of(call_id, team, "1.7")))
            for place, call_id in enumerate(call_ids)
        ]
        await eventually(lambda: rig.waiting_for_locks() >= 6)  # those of one worker go together
    receipts = await asyncio.gather(*settles)
    assert sum(receipt.charged for receipt in receipts if receipt) == 10
    assert sum(receipt.uncollected for receipt in receipts if receipt) == 7
    assert rig.money(team) == (10, 10, 0)


# Many at once ---------------------------------------------------------------------------------------------------------


async def test_what_comes_at_once_goes_in_one_transaction_and_each_call_is_explained(rig: Rig, ledger: Ledger) -> None:
    teams = [rig.team(f"team-{n}", credits=1) for n in range(2)]
    outcomes = await asyncio.gather(*(ledger.hold(hold_request(team, "0.3")) for team in teams * 3))
    calls = [
        (outcome.call_id, team) for outcome, team in zip(outcomes, teams * 3, strict=True) if isinstance(outcome, Held)
    ]
    assert len(calls) == 6
    assert rig.row("SELECT count(DISTINCT xmin::text) AS n FROM credits.llm_calls")["n"] == 1
    receipts = await asyncio.gather(*(ledger.end(settle_of(call_id, team, "0.2")) for call_id, team in calls))
    assert rig.row("SELECT count(DISTINCT xmin::text) AS n FROM credits.llm_calls")["n"] == 1
    for team in teams:
        assert rig.money(team) == (1, Decimal("0.6"), 0)
        of_team = [receipt for receipt, (_, other) in zip(receipts, calls, strict=True) if receipt and other == team]
        assert sorted(receipt.remaining for receipt in of_team) == [Decimal("0.4"), Decimal("0.6"), Decimal("0.8")]
        assert {receipt.available for receipt in of_team} == {Decimal("0.4")}
        entries = rig.rows("SELECT * FROM credits.credit_transactions WHERE team_id = %s ORDER BY transaction_id", team)
        afters = [entry["credits_after"] for entry in entries]
        assert afters == [1, Decimal("0.8"), Decimal("0.6"), Decimal("0.4")]
        assert [entry["credits_before"] for entry in entries] == [0, *afters[:-1]]
        assert {entry["call_id"] for entry in entries[1:]} == {call_id for call_id, other in calls if other == team}


async def test_holds_and_settles_that_come_together_go_in_one_transaction(rig: Rig, ledger: Ledger) -> None:
    team, other = rig.team(), rig.team("beta")
    first = await held(ledger, team, 1)
    async with locked(rig.url, other):
        waiting = asyncio.create_task(ledger.hold(hold_request(other, 1)))
        await eventually(rig.waiting_for_locks)
        settle = asyncio.create_task(ledger.end(settle_of(first, team, 1)))
        outcome, receipt = await asyncio.gather(ledger.hold(hold_request(team, 2)), settle)
    assert isinstance(outcome, Held)
    assert receipt is not None
    assert isinstance(await waiting, Held)
    assert rig.row("SELECT count(DISTINCT xmin::text) AS n FROM credits.llm_calls WHERE team_id = %s", team)["n"] == 1
    assert rig.money(team) == (10, 1, 2)


async def test_of_calls_that_do_not_all_fit_as_many_are_held_for_as_do(rig: Rig, ledger: Ledger) -> None:
    short, rich = rig.team(credits=1), rig.team("beta")
    amounts = ["0.3", "0.3", "0.3", "0.3", "0.1"]
    outcomes = await asyncio.gather(*(ledger.hold(hold_request(team, n)) for n in amounts for team in (short, rich)))
    assert [isinstance(outcome, Held) for outcome in outcomes[::2]] == [True, True, True, False, True]
    assert all(isinstance(outcome, Held) for outcome in outcomes[1::2])
    assert rig.money(short) == (1, 0, 1)
    assert rig.money(rich) == (10, 0, Decimal("1.3"))


async def test_a_hold_that_is_cancelled_before_it_goes_the_long_way_holds_nothing(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=1)
    async with locked(rig.url, team):
        gone, stays = (asyncio.create_task(ledger.hold(hold_request(team, "0.6"))) for _ in range(2))
        await eventually(rig.waiting_for_locks)  # both by the short way, which serves neither
        gone.cancel()
        await asyncio.wait((gone,))
    await stays
    await ledger.drain()
    assert isinstance(await ledger.hold(hold_request(team, "0.4")), Held)
    held_by_stays = Decimal("0.6") if isinstance(stays.result(), Held) else 0
    assert rig.money(team) == (1, 0, held_by_stays + Decimal("0.4"))


async def test_a_call_that_needs_the_long_way_does_not_send_its_team_there(rig: Rig, ledger: Ledger) -> None:
    team, other = rig.team(), rig.team("beta")
    strange = rig.job(other)
    refused, *fine = await asyncio.gather(
        ledger.hold(hold_request(team, 1, job_id=strange)),
        *(ledger.hold(hold_request(team, 1)) for _ in range(3)),
        return_exceptions=True,
    )
    assert isinstance(refused, JobNotYours)
    assert all(isinstance(outcome, Held) for outcome in fine)
    assert rig.money(team) == (10, 0, 3)


async def test_two_of_many_transactions_are_under_way_at_once(rig: Rig, ledger: Ledger) -> None:
    teams = [rig.team(f"team-{n}") for n in range(40)]
    async with AsyncExitStack() as locks:
        for team in teams:
            await locks.enter_async_context(locked(rig.url, team))
        holds = [asyncio.create_task(ledger.hold(hold_request(team, 1))) for team in teams]
        await eventually(lambda: rig.waiting_for_locks() >= 2)
    assert all(isinstance(outcome, Held) for outcome in await asyncio.gather(*holds))
    assert rig.row("SELECT count(DISTINCT xmin::text) AS n FROM credits.llm_calls")["n"] == 3, "of forty, by sixteen"


async def test_a_small_hold_behind_one_that_does_not_fit_is_held_all_the_same(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=1)
    large, small = await asyncio.gather(ledger.hold(hold_request(team, 2)), ledger.hold(hold_request(team, "0.4")))
    assert isinstance(large, Short)
    assert isinstance(small, Held)
    assert rig.money(team) == (1, 0, Decimal("0.4"))


async def test_amounts_finer_than_the_ledger_s_add_up_when_held_together(rig: Rig, ledger: Ledger) -> None:
    team = rig.team()
    outcomes = await asyncio.gather(*(ledger.hold(hold_request(team, "0.00000000006")) for _ in range(3)))
    assert rig.money(team) == (10, 0, 3 * SMALLEST)
    calls = [outcome.call_id for outcome in outcomes if isinstance(outcome, Held)]
    await asyncio.gather(*(ledger.end(settle_of(call_id, team, "0.00000000006")) for call_id in calls))
    assert rig.money(team) == (10, 3 * SMALLEST, 0)


async def test_a_locked_team_keeps_no_other_waiting(rig: Rig, ledger: Ledger) -> None:
    waiting, free = rig.team(), rig.team("beta")
    mine = await held(ledger, waiting, 1)
    async with locked(rig.url, waiting):
        hold = asyncio.create_task(ledger.hold(hold_request(waiting, 1)))
        settle = asyncio.create_task(ledger.end(settle_of(mine, waiting, 1)))
        await eventually(lambda: rig.waiting_for_locks() == 1)
        call_id = await held(ledger, free, 1)
        assert await ledger.end(settle_of(call_id, free, 1)) is not None
        assert not hold.done()
        assert not settle.done()
    assert isinstance(await hold, Held)
    assert await settle is not None


async def test_a_call_ended_twice_at_once_is_charged_once(rig: Rig, ledger: Ledger) -> None:
    team = rig.team()
    call_id = await held(ledger, team, 1)
    receipts = await asyncio.gather(*(ledger.end(settle_of(call_id, team, "0.5")) for _ in range(3)))
    assert sum(receipt is not None for receipt in receipts) == 1
    assert rig.money(team) == (10, Decimal("0.5"), 0)


async def test_a_hold_that_fails_takes_no_other_with_it(rig: Rig, ledger: Ledger) -> None:
    team, other = rig.team(), rig.team("beta")
    job_id = rig.job(team)
    async with locked(rig.url, team) as admin:
        holds = [
            asyncio.create_task(ledger.hold(hold_request(team, 1, job_id=job_id))),
            asyncio.create_task(ledger.hold(hold_request(team, 1))),
            asyncio.create_task(ledger.hold(hold_request(other, 1))),
        ]
        await eventually(rig.waiting_for_locks)
        await admin.execute("DELETE FROM credits.jobs")
    refused, *fine = await asyncio.gather(*holds, return_exceptions=True)
    assert isinstance(refused, NotFound)
    assert all(isinstance(outcome, Held) for outcome in fine)
    assert (rig.money(team), rig.money(other)) == ((10, 0, 1), (10, 0, 1))


async def test_a_hold_that_cannot_be_stored_takes_no_other_with_it(rig: Rig, ledger: Ledger) -> None:
    team, other = rig.team(), rig.team("beta")
    for text in ("gpt\x00", "gpt\ud800"):
        unstorable = ledger.hold(hold_request(team, 1, requested_model=text))
        refused, fine = await asyncio.gather(unstorable, ledger.hold(hold_request(other, 1)), return_exceptions=True)
        assert isinstance(refused, psycopg.DataError | UnicodeEncodeError)
        assert isinstance(fine, Held)
    await ledger.drain()
    assert (rig.money(team), rig.money(other)) == ((10, 0, 0), (10, 0, 2))


async def test_an_ending_that_cannot_be_stored_takes_no_other_with_it(rig: Rig, ledger: Ledger) -> None:
    team = rig.team()
    call_ids = [await held(ledger, team, 1) for _ in range(3)]
    endings = [settle_of(call_id, team, "0.5") for call_id in call_ids]
    endings[1] = settle_of(call_ids[1], team, "0.5", resolved_model="gpt\x00")
    assert None not in await asyncio.gather(*(ledger.end(ending) for ending in endings))
    assert [rig.call(call_id)["flags"] for call_id in call_ids] == [[], ["details_dropped"], []]
    assert rig.money(team) == (10, Decimal("1.5"), 0)


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "queued"])
async def test_a_cancelled_hold_takes_no_other_with_it(rig: Rig, ledger: Ledger, sent: bool) -> None:
    team = rig.team()

    def three() -> list[asyncio.Task[Held | Short]]:
        return [asyncio.create_task(ledger.hold(hold_request(team, 1))) for _ in range(3)]

    async with locked(rig.url, team):
        holds = three()
        await eventually(rig.waiting_for_locks)
        if not sent:
            holds += three()
            await asyncio.sleep(0)
        holds[-2].cancel()
        await asyncio.wait(holds[-2:-1])
    outcomes = await asyncio.gather(*holds, return_exceptions=True)
    assert sum(isinstance(outcome, Held) for outcome in outcomes) == len(holds) - 1
    await ledger.drain()
    assert rig.money(team) == (10, 0, len(holds) - 1)
    statements = rig.row("SELECT count(DISTINCT xmin::text) AS n FROM credits.llm_calls WHERE status = 'held'")["n"]
    assert statements == len(holds) // 3


# Endings whose details cannot be stored -------------------------------------------------------------------------------

UNSTORABLE = {
    "NUL in the error": {"error": {"message": "bad \x00 byte"}},
    "lone surrogate in the error": {"error": {"message": "bad \ud800"}},
    "error that is not JSON": {"error": {"message": object()}},
    "NUL in the model": {"resolved_model": "gpt\x00"},
    "lone surrogate in the model": {"resolved_model": "gpt\ud800"},
    "model longer than its column": {"resolved_model": "m" * 300},
    "NUL in the answer": {"response_data": b'{"text": "\\u0000"}'},
    "answer that is not JSON": {"response_data": b'{"text": '},
    "answer that is not UTF-8": {"response_data": b'{"text": "\xff"}'},
    "dollars beyond the column": {"provider_cost_usd": Decimal("1e12")},
    "tokens beyond the column": {"prompt_tokens": 2**40},
}


@pytest.mark.parametrize("details", UNSTORABLE.values(), ids=UNSTORABLE.keys())
async def test_call_is_settled_without_details_that_cannot_be_stored(
    rig: Rig, ledger: Ledger, details: dict[str, object]
) -> None:
    team = rig.team(credits=10)
    call_id = await held(ledger, team, 4)
    receipt = await ledger.end(settle_of(call_id, team, 2, latency_ms=5, **details))
    assert receipt is not None
    assert receipt.charged == 2
    assert rig.money(team) == (10, 2, 0)
    call = rig.call(call_id)
    assert call["flags"] == ["details_dropped"]
    assert [call[name] for name in details] == [None] * len(details)


async def test_ending_that_no_column_takes_is_left_to_its_lease(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await held(ledger, team, 4)
    assert await asyncio.wait_for(ledger.end(settle_of(call_id, team, Decimal("1e30"))), 10) is None
    assert rig.money(team) == (10, 0, 4)
    assert not ledger._in_flight, "its lease must run out"


# When the database is away --------------------------------------------------------------------------------------------


async def test_hold_is_repeated_on_another_connection_when_its_own_was_killed(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    async with locked(rig.url, team):
        hold = asyncio.create_task(ledger.hold(hold_request(team, 4)))
        await eventually(rig.waiting_for_locks)
        (pid,) = rig.backends_waiting()
        rig.rows("SELECT pg_terminate_backend(%s)", pid)
        await eventually(lambda: rig.backends_waiting() not in ([], [pid]))
    assert isinstance(await hold, Held)
    await ledger.drain()
    assert rig.money(team) == (10, 0, 4)


async def test_hold_whose_outcome_stays_unknown_ends_with_nothing_held(rig: Rig, database_url: str) -> None:
    team = rig.team(credits=10)
    killed: set[int] = set()
    async with worker(database_url, background=True) as ledger:
        async with locked(rig.url, team):
            hold = asyncio.create_task(ledger.hold(hold_request(team, 4)))

            def killed_until_it_gives_up() -> bool:
                for pid in rig.backends_waiting():
                    rig.rows("SELECT pg_terminate_backend(%s)", pid)
                    killed.add(pid)
                return hold.done()

            await eventually(killed_until_it_gives_up)
        with pytest.raises(LedgerUnavailable):
            await hold
        assert len(killed) >= 2
        await ledger.drain()
    assert rig.money(team) == (10, 0, 0)


async def test_hold_that_is_committed_after_its_worker_lost_the_connection(rig: Rig) -> None:
    """The server goes on with a statement whose client is gone, so the hold is committed after nobody waits for it."""
    team = rig.team(credits=10)
    async with Relay(rig.url) as relay, worker(relay.url, background=True, pool_timeout_seconds=1.0) as ledger:
        async with locked(rig.url, team):
            hold = asyncio.create_task(ledger.hold(hold_request(team, 4)))
            await eventually(rig.waiting_for_locks)
            relay.cut()
            with pytest.raises(LedgerUnavailable):
                await hold
            await eventually(lambda: len(ledger._overdue) == 2)  # what undoes this hold, and its second attempt
            assert rig.waiting_for_locks() == 1, "the hold's statement still waits in the server"
            relay.mend()
            await eventually(lambda: rig.waiting_for_locks() == 2)
        await eventually(lambda: rig.waiting_for_locks() == 0)
        await ledger.drain()
        await eventually(lambda: rig.account(team)["credits_held"] == 0)
    assert rig.money(team) == (10, 0, 0)
    assert {call["status"] for call in rig.calls(team)} <= {"voided"}


async def test_cancelled_hold_ends_with_nothing_held(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    async with locked(rig.url, team):
        hold = asyncio.create_task(ledger.hold(hold_request(team, 4)))
        await eventually(rig.waiting_for_locks)
        hold.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hold
    await ledger.drain()
    assert rig.money(team) == (10, 0, 0)


async def test_holds_cancelled_at_any_moment_end_with_nothing_held(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    for turns in range(60):
        hold = asyncio.create_task(ledger.hold(hold_request(team, 4)))
        for _ in range(turns % 30):
            await asyncio.sleep(0)
        hold.cancel()
        (outcome,) = await asyncio.gather(hold, return_exceptions=True)
        if isinstance(outcome, Held):
            await ledger.end(void_of(outcome.call_id, team))
    await ledger.drain()
    assert rig.money(team) == (10, 0, 0)


async def test_settle_while_the_database_is_away_is_repeated_until_it_is_taken(rig: Rig) -> None:
    team = rig.team(credits=10)
    quick = {"pool_timeout_seconds": 0.2, "settle_wait_seconds": 0.5}
    async with Relay(rig.url) as relay, worker(relay.url, background=True, **quick) as ledger:
        call_ids = [await held(ledger, team, 3) for _ in range(3)]
        relay.cut()
        endings = [
            settle_of(call_ids[0], team, 2),
            settle_of(call_ids[1], team, 1, error={"message": "details \x00 that cannot be stored"}),
            void_of(call_ids[2], team),
        ]
        assert await asyncio.gather(*map(ledger.end, endings)) == [None, None, None]
        assert rig.money(team) == (10, 0, 9)
        relay.mend()
        await eventually(lambda: rig.account(team)["credits_held"] == 0)
        assert rig.money(team) == (10, 3, 0)
        assert rig.call(call_ids[1])["flags"] == ["details_dropped"]


async def test_drain_while_overdue_settles_are_being_repeated(rig: Rig) -> None:
    team = rig.team(credits=10)
    quick = {"pool_timeout_seconds": 2.0, "settle_wait_seconds": 0.2}
    async with Relay(rig.url) as relay, worker(relay.url, background=True, **quick) as ledger:
        call_ids = [await held(ledger, team, 3) for _ in range(3)]
        relay.cut()
        assert await asyncio.gather(*(ledger.end(settle_of(call_id, team, 2)) for call_id in call_ids)) == [None] * 3
        await eventually(lambda: len(ledger._overdue) == 3)
        async with locked(rig.url, team):
            relay.mend()
            await eventually(rig.waiting_for_locks)
            drain = asyncio.create_task(ledger.drain())
            await asyncio.wait([drain], timeout=0.3)  # long enough for a second statement, were there one
            assert rig.waiting_for_locks() == 1
        await drain
        assert rig.money(team) == (10, 6, 0)


async def test_cancelling_the_caller_does_not_cancel_the_settle(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await held(ledger, team, 4)
    async with locked(rig.url, team):
        ending = asyncio.create_task(ledger.end(settle_of(call_id, team, 3)))
        await eventually(rig.waiting_for_locks)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
    await ledger.drain()
    assert rig.money(team) == (10, 3, 0)


# Grants ---------------------------------------------------------------------------------------------------------------


async def grant(ledger: Ledger, team_id: str, credits: object, key: str | None = None) -> int:
    """The transaction id of a grant, or of an adjustment where `credits` is negative."""
    amount = Decimal(str(credits))
    grants = Grants(ledger._db)
    give = grants.grant if amount > 0 else grants.adjust
    entry = await give(team_id, amount, reason="test", idempotency_key=key)
    assert entry.credits_amount == amount
    return entry.transaction_id


async def test_grant_is_a_ledger_entry(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    await grant(ledger, team, "0.0000000001")
    assert rig.money(team) == (10 + SMALLEST, 0, 0)
    entry = rig.entries(team)[-1]
    assert (entry["credits_before"], entry["credits_after"]) == (10, 10 + SMALLEST)
    assert (entry["reason"], entry["call_id"]) == ("test", None)


async def test_grant_to_nobody(ledger: Ledger) -> None:
    with pytest.raises(NotFound):
        await grant(ledger, "nobody", 1)


async def test_adjustment_takes_back_only_what_is_neither_spent_nor_held(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await held(ledger, team, 4)
    with pytest.raises(BalanceTooLow) as refusal:
        await grant(ledger, team, "-6.0000000001", "key")
    assert refusal.value.facts["available"] == 6
    await grant(ledger, team, "-6", "key")
    assert rig.money(team) == (4, 0, 4)
    await ledger.end(settle_of(call_id, team, 4))
    assert rig.money(team) == (4, 4, 0)


async def test_grant_is_applied_once_per_key(rig: Rig, ledger: Ledger) -> None:
    team, other = rig.team(credits=10), rig.team("beta", 10)
    first = await grant(ledger, team, 5, "key")
    assert await grant(ledger, team, 5, "key") == first
    assert rig.money(team) == (15, 0, 0)
    with pytest.raises(IdempotencyConflict):
        await grant(ledger, team, 6, "key")
    assert await grant(ledger, other, 5, "key") != first, "a key belongs to a team"
    assert await grant(ledger, team, 5) != await grant(ledger, team, 5), "without a key, each is its own"
    assert (rig.money(team), rig.money(other)) == ((25, 0, 0), (15, 0, 0))


@pytest.mark.parametrize("amount", [5, -10], ids=["grant", "adjustment of all there is"])
async def test_same_grant_at_the_same_moment_is_applied_once(
    rig: Rig, ledger: Ledger, other_worker: Ledger, amount: int
) -> None:
    team = rig.team(credits=10)
    async with locked(rig.url, team):
        grants = [asyncio.create_task(grant(one, team, amount, "key")) for one in (ledger, other_worker) * 3]
        await eventually(lambda: rig.waiting_for_locks() >= 6)
    assert len(set(await asyncio.gather(*grants))) == 1
    assert rig.money(team) == (10 + amount, 0, 0)


async def test_adjustment_that_only_fits_since_the_grant_it_waited_for(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    async with locked(rig.url, team):
        first = asyncio.create_task(grant(ledger, team, 5))
        await eventually(lambda: rig.waiting_for_locks() >= 1)
        second = asyncio.create_task(grant(ledger, team, -12))
        await eventually(lambda: rig.waiting_for_locks() >= 2)
    await asyncio.gather(first, second)
    assert rig.money(team) == (3, 0, 0)


async def test_page_of_the_ledger(rig: Rig, ledger: Ledger) -> None:
    team, _ = rig.team(credits=10), rig.team("beta", 3)
    ids = [await grant(ledger, team, 1) for _ in range(5)]
    newest = await ledger.transactions(team, limit=2)
    assert [entry["transaction_id"] for entry in newest] == [ids[4], ids[3]]
    older = await ledger.transactions(team, before=ids[3], limit=50)
    assert [entry["transaction_id"] for entry in older][:3] == [ids[2], ids[1], ids[0]]
    assert len(older) == 4, "and the first allocation"
    assert (await ledger.balance(team))["credits_remaining"] == 15
    with pytest.raises(NotFound):
        await ledger.balance("nobody")


# All together ---------------------------------------------------------------------------------------------------------


async def test_mixed_work_on_many_connections_ends_explained(rig: Rig) -> None:
    """Small balances, so that holds are refused, charges exceed them and grants make room; P1 and P6 hold throughout."""
    chance = random.Random(1)
    teams = [rig.team(f"team{number}", 20) for number in range(3)]
    granted = dict.fromkeys(teams, Decimal(20))
    outcomes: dict[str, int] = {"held": 0, "short": 0, "uncollected": 0}

    async def client(ledger: Ledger) -> None:
        for number in range(60):
            team = chance.choice(teams)
            outcome = await ledger.hold(hold_request(team, Decimal(chance.randrange(1, 10**11)).scaleb(-10)))
            if isinstance(outcome, Short):
                outcomes["short"] += 1
                if not number % 5:
                    await grant(ledger, team, 3, f"{id(ledger)}-{id(asyncio.current_task())}-{number}")
                    granted[team] += 3
                continue
            outcomes["held"] += 1
            if chance.random() < 0.3:
                await ledger.end(void_of(outcome.call_id, team))
            else:
                cost = (outcome.credits * chance.randrange(0, 130) / 100).quantize(SMALLEST)
                receipt = await ledger.end(settle_of(outcome.call_id, team, cost))
                assert receipt is not None
                assert receipt.charged + receipt.uncollected == cost
                assert receipt.available >= 0
                outcomes["uncollected"] += receipt.uncollected > 0

    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(worker(rig.url, pool_size=5)) for _ in range(2)]
        await asyncio.gather(*(client(one) for one in workers * 5))
    assert all(outcomes.values()), f"the workload must meet every outcome: {outcomes}"
    for team in teams:
        allocated, used, still_held = rig.money(team)
        assert (allocated, still_held) == (granted[team], 0)
        assert 0 <= used <= allocated
