"""Leases (DESIGN 2): a living worker keeps its holds as long as it likes; those of a dead one are resolved once, by anybody."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from tests.ledger_rig import Relay, Rig, eventually, hold_request, locked, settle_of, void_of, worker

from litellm_credits.ledger import ledger as ledger_module
from litellm_credits.ledger.calls import Held, Receipt
from litellm_credits.ledger.ledger import Ledger

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).parents[2]
CHARGE_HOLD: dict[str, object] = {"on_process_death": "charge_hold"}


@pytest.fixture
def rig(database_url: str) -> Iterator[Rig]:
    rig = Rig(database_url)
    yield rig
    rig.close()


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    async with worker(database_url) as ledger:
        yield ledger


@pytest.fixture
async def other_worker(database_url: str) -> AsyncIterator[Ledger]:
    async with worker(database_url) as ledger:
        yield ledger


async def abandoned(rig: Rig, ledger: Ledger, team_id: str, credits: object) -> UUID:
    """The id of a held call whose worker died long ago."""
    outcome = await ledger.hold(hold_request(team_id, credits))
    assert isinstance(outcome, Held), outcome
    rig.let_lease_run_out(outcome.call_id)
    return outcome.call_id


# What becomes of the hold ---------------------------------------------------------------------------------------------


async def test_expired_hold_is_released_and_flagged(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await abandoned(rig, ledger, team, 4)
    living = await ledger.hold(hold_request(team, 3))
    assert await ledger.expire() == 1
    assert rig.money(team) == (10, 0, 3)
    call = rig.call(call_id)
    assert (call["status"], call["basis"], call["credits_charged"]) == ("expired", None, 0)
    assert (call["flags"], call["policy"]) == (["lease_expired", "needs_reconciliation"], "on_process_death=release")
    assert call["settled_at"] is not None
    assert len(rig.entries(team)) == 1
    assert isinstance(living, Held)
    assert rig.call(living.call_id)["status"] == "held"
    assert await ledger.expire() == 0


async def test_expired_hold_is_charged_where_the_plan_says_so(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10, plan=CHARGE_HOLD)
    call_id = await abandoned(rig, ledger, team, 4)
    assert await ledger.expire() == 1
    assert rig.money(team) == (10, 4, 0)
    call = rig.call(call_id)
    assert (call["status"], call["credits_charged"], call["policy"]) == ("expired", 4, "on_process_death=charge_hold")
    assert call["flags"] == ["lease_expired", "needs_reconciliation"]
    entry = rig.entries(team)[-1]
    assert (entry["transaction_type"], entry["call_id"], entry["credits_amount"]) == ("charge", call_id, -4)
    assert entry["reason"] == "call gpt: expired, charged as held"


async def test_free_hold_expires_without_an_entry(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=0, plan=CHARGE_HOLD)
    await abandoned(rig, ledger, team, 0)
    assert await ledger.expire() == 1
    assert (rig.money(team), rig.entries(team)) == ((0, 0, 0), [])


async def test_batches_of_many_teams_carry_running_balances(
    rig: Rig, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_SWEEP_BATCH", 7)
    charged = [rig.team(f"charged{n}", 100, plan=CHARGE_HOLD) for n in range(3)]
    released = [rig.team(f"released{n}", 100) for n in range(2)]
    for number in range(6):
        for team in charged + released:
            await abandoned(rig, ledger, team, Decimal("1.1") * (number + 1))
    assert await ledger.expire() == 30
    total = Decimal("1.1") * 21
    assert [rig.money(team) for team in charged] == [(100, total, 0)] * 3  # money() follows the chain of entries
    assert [rig.money(team) for team in released] == [(100, 0, 0)] * 2


async def test_hold_of_a_suspended_team_expires_too(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    await abandoned(rig, ledger, team, 4)
    rig.rows("UPDATE credits.teams SET status = 'suspended'")
    assert await ledger.expire() == 1
    assert rig.money(team) == (10, 0, 0)


# Races ----------------------------------------------------------------------------------------------------------------


async def test_racing_sweepers_resolve_each_hold_once(rig: Rig, ledger: Ledger, other_worker: Ledger) -> None:
    teams = [rig.team(f"team{n}", 100, plan=CHARGE_HOLD if n % 2 else {}) for n in range(4)]
    for team in teams:
        for _ in range(5):
            await abandoned(rig, ledger, team, 3)
    async with AsyncExitStack() as blockers:
        for team in teams:
            await blockers.enter_async_context(locked(rig.url, team))
        sweeps = [asyncio.create_task(one.expire()) for one in (ledger, other_worker) * 3]
        await eventually(lambda: rig.waiting_for_locks() >= 1)
    assert sum(await asyncio.gather(*sweeps)) == 20
    assert [rig.money(team)[1:] for team in teams] == [(0, 0), (15, 0), (0, 0), (15, 0)]


async def test_sweepers_against_the_traffic_of_the_same_teams(rig: Rig, ledger: Ledger, other_worker: Ledger) -> None:
    teams = [rig.team(f"team{n}", 1000, plan=CHARGE_HOLD if n % 2 else {}) for n in range(4)]
    expired = 0

    async def traffic(team: str) -> None:
        for number in range(15):
            outcome = await ledger.hold(hold_request(team, 3))
            assert isinstance(outcome, Held)
            if number % 3:
                assert await ledger.end(settle_of(outcome.call_id, team, 2)) is not None
            else:
                rig.let_lease_run_out(outcome.call_id)

    async def sweep() -> None:
        nonlocal expired
        while expired < 4 * 2 * 5:
            ended = await other_worker.expire()
            expired += ended

    async with asyncio.timeout(30), asyncio.TaskGroup() as work:
        for team in teams * 2:
            work.create_task(traffic(team))
        for _ in range(3):
            work.create_task(sweep())
    assert expired == 40
    for number, team in enumerate(teams):
        assert rig.money(team) == (1000, 40 + 30 * (number % 2), 0)


@pytest.mark.parametrize("first", ["settle", "expire"])
async def test_settle_and_sweep_at_the_same_moment_account_once(
    rig: Rig, ledger: Ledger, other_worker: Ledger, first: str
) -> None:
    team = rig.team(credits=10, plan=CHARGE_HOLD)
    call_id = await abandoned(rig, ledger, team, 4)

    def settle() -> asyncio.Task[object]:
        return asyncio.create_task(ledger.end(settle_of(call_id, team, 3)))

    def sweep() -> asyncio.Task[object]:
        return asyncio.create_task(other_worker.expire())

    async with locked(rig.url, team):
        racing = []
        for number, start in enumerate([settle, sweep] if first == "settle" else [sweep, settle]):
            racing.append(start())
            await eventually(lambda queued=number + 1: rig.waiting_for_locks() >= queued)  # type: ignore[misc]
    await asyncio.gather(*racing)
    assert rig.money(team) == (10, 3, 0)
    assert rig.call(call_id)["status"] == "settled"
    assert ("late_settle" in rig.call(call_id)["flags"]) == (first == "expire")


async def test_lease_renewed_while_the_sweeper_waits_for_the_balance(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await abandoned(rig, ledger, team, 4)
    async with locked(rig.url, team):
        sweep = asyncio.create_task(ledger.expire())
        await eventually(rig.waiting_for_locks)
        rig.rows("UPDATE credits.llm_calls SET lease_until = now() + interval '1 minute'")
    assert await sweep == 0
    assert rig.call(call_id)["status"] == "held"
    assert rig.money(team) == (10, 0, 4)


async def test_call_that_is_being_renewed_is_skipped_without_waiting(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    renewed, dead = [await abandoned(rig, ledger, team, 4) for _ in range(2)]
    async with await psycopg.AsyncConnection.connect(rig.url) as renewer:
        await renewer.execute(
            "UPDATE credits.llm_calls SET lease_until = now() + interval '1 minute' WHERE call_id = %s", (renewed,)
        )
        assert await asyncio.wait_for(ledger.expire(), 10) == 1
        await renewer.commit()
    assert (rig.call(renewed)["status"], rig.call(dead)["status"]) == ("held", "expired")
    assert rig.money(team) == (10, 0, 4)


# Who lives, who died --------------------------------------------------------------------------------------------------


async def test_call_that_outlives_many_leases_is_never_swept_while_its_worker_lives(rig: Rig) -> None:
    team = rig.team(credits=10)
    async with (
        worker(rig.url, background=True, lease_seconds=1.0) as living,
        worker(rig.url, background=True, lease_seconds=0.2) as sweeper,
    ):
        outcome = await living.hold(hold_request(team, 4, stream=True))
        assert isinstance(outcome, Held)

        def old_enough() -> bool:
            assert rig.call(outcome.call_id)["status"] == "held"
            old: bool = rig.row("SELECT now() - created_at > interval '3.5 seconds' AS old FROM credits.llm_calls")[
                "old"
            ]
            return old

        await eventually(old_enough)
        assert await sweeper.expire() == 0
        assert await living.end(settle_of(outcome.call_id, team, 3))
    assert rig.money(team) == (10, 3, 0)


VICTIM = """
import asyncio, sys
from litellm_credits.ledger.calls import Held
from tests.ledger_rig import hold_request, worker

async def main(url, teams):
    async with worker(url, background=True, lease_seconds=0.5) as ledger:
        for team in teams:
            for _ in range(3):
                assert isinstance(await ledger.hold(hold_request(team, 2)), Held)
        print("holding", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], sys.argv[2:]))
"""


async def test_holds_of_a_killed_process_are_resolved_by_another_one(rig: Rig) -> None:
    teams = [rig.team("released"), rig.team("charged", plan=CHARGE_HOLD)]
    command = [sys.executable, "-c", VICTIM, rig.url, *teams]
    process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"holding\n"
        async with worker(rig.url, background=True, lease_seconds=0.5):
            before = rig.row("SELECT max(lease_until) AS lease FROM credits.llm_calls")["lease"]
            await eventually(
                lambda: rig.row("SELECT min(lease_until) > %s AS renewed FROM credits.llm_calls", before)["renewed"]
            )
            assert [rig.money(team) for team in teams] == [(10, 0, 6), (10, 0, 6)]
            process.kill()
            await eventually(lambda: not rig.rows("SELECT 1 FROM credits.llm_calls WHERE status = 'held'"))
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert [rig.money(team) for team in teams] == [(10, 0, 0), (10, 6, 0)]


async def test_sweeping_and_renewing_go_on_after_the_database_was_away(rig: Rig) -> None:
    team = rig.team(credits=10)
    async with (
        Relay(rig.url) as relay,
        worker(relay.url, background=True, lease_seconds=1.0, pool_timeout_seconds=0.2) as ledger,
    ):
        living = await ledger.hold(hold_request(team, 4))
        assert isinstance(living, Held)
        relay.cut()
        abandoned_elsewhere = rig.row("SELECT lease_until FROM credits.llm_calls")["lease_until"]
        await eventually(lambda: rig.row("SELECT now() > %s AS past", abandoned_elsewhere)["past"])
        relay.mend()
        await eventually(lambda: rig.row("SELECT lease_until > now() AS live FROM credits.llm_calls")["live"])
        async with worker(rig.url) as dead:
            await abandoned(rig, dead, team, 3)
        await eventually(lambda: rig.rows("SELECT 1 FROM credits.llm_calls WHERE status = 'expired'"))
        assert rig.call(living.call_id)["status"] == "held", "living workers renew before anybody sweeps"
        assert rig.money(team) == (10, 0, 4)


# The settle comes after all -------------------------------------------------------------------------------------------


async def test_late_settle_is_accounted_once(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await abandoned(rig, ledger, team, 4)
    await ledger.expire()
    receipt = await ledger.end(settle_of(call_id, team, 3, flags=["usage_missing"]))
    assert receipt == Receipt(Decimal(3), uncollected=Decimal(0), remaining=Decimal(7), available=Decimal(7))
    assert rig.money(team) == (10, 3, 0)
    call = rig.call(call_id)
    assert (call["status"], call["basis"], call["credits_charged"]) == ("settled", "provider_usage", 3)
    assert call["flags"] == ["lease_expired", "needs_reconciliation", "usage_missing", "late_settle"]
    assert rig.entries(team)[-1]["transaction_type"] == "charge"
    before = (rig.account(team), rig.calls(team), rig.entries(team))
    for again in (settle_of(call_id, team, 3), settle_of(call_id, team, 2), void_of(call_id, team)):
        assert await ledger.end(again) is None
    assert (rig.account(team), rig.calls(team), rig.entries(team)) == before


async def test_late_settle_never_overdraws_when_the_released_credits_were_spent(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await abandoned(rig, ledger, team, 8)
    await ledger.expire()
    spent, held = [await ledger.hold(hold_request(team, credits)) for credits in (5, 4)]
    assert isinstance(spent, Held)
    assert isinstance(held, Held)
    await ledger.end(settle_of(spent.call_id, team, 5))
    receipt = await ledger.end(settle_of(call_id, team, 8))
    assert receipt == Receipt(Decimal(1), uncollected=Decimal(7), remaining=Decimal(4), available=Decimal(0))
    assert rig.money(team) == (10, 6, 4), "the other call's hold stands"
    assert await ledger.end(settle_of(held.call_id, team, 4))
    assert rig.money(team) == (10, 10, 0)


@pytest.mark.parametrize(
    ("cost", "entries"),
    [("3", [("charge", -4), ("adjustment", 1)]), ("4", [("charge", -4)]), ("6", [("charge", -4), ("adjustment", -2)])],
)
async def test_late_settle_corrects_a_hold_that_was_charged(
    rig: Rig, ledger: Ledger, cost: str, entries: list[tuple[str, int]]
) -> None:
    team = rig.team(credits=10, plan=CHARGE_HOLD)
    call_id = await abandoned(rig, ledger, team, 4)
    await ledger.expire()
    receipt = await ledger.end(settle_of(call_id, team, cost))
    assert receipt is not None
    assert (receipt.charged, receipt.uncollected) == (Decimal(cost), 0)
    assert rig.money(team) == (10, Decimal(cost), 0)
    assert rig.call(call_id)["status"] == "settled"
    assert [(entry["transaction_type"], entry["credits_amount"]) for entry in rig.entries(team)[1:]] == entries
    assert await ledger.end(settle_of(call_id, team, cost)) is None


async def test_late_correction_upwards_never_overdraws(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=5, plan=CHARGE_HOLD)
    call_id = await abandoned(rig, ledger, team, 4)
    await ledger.expire()
    receipt = await ledger.end(settle_of(call_id, team, 7))
    assert receipt == Receipt(Decimal(5), uncollected=Decimal(2), remaining=Decimal(0), available=Decimal(0))
    assert rig.money(team) == (5, 5, 0)


async def test_late_void_gives_back_a_hold_that_was_charged(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10, plan=CHARGE_HOLD)
    call_id = await abandoned(rig, ledger, team, 4)
    await ledger.expire()
    assert await ledger.end(void_of(call_id, team))
    assert rig.money(team) == (10, 0, 0)
    assert rig.call(call_id)["status"] == "voided"
    assert await ledger.end(void_of(call_id, team)) is None


async def test_late_void_of_a_released_hold_changes_nothing(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(credits=10)
    call_id = await abandoned(rig, ledger, team, 4)
    await ledger.expire()
    before = (rig.account(team), rig.calls(team))
    assert await ledger.end(void_of(call_id, team)) is None
    assert (rig.account(team), rig.calls(team)) == before
