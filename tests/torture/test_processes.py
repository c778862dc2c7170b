"""Many processes at once on one database, killed and cut off at random; in the end every credit must be explained.

CREDITS_TORTURE_OPERATIONS  how many, by all processes together
CREDITS_TORTURE_SEED        of all dice; printed. Who wins a race is not in it.
CREDITS_TORTURE_PROCESSES   at once
CREDITS_TORTURE_CLIENTS     in each process, every one with a connection
"""

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random

import psycopg
import pytest
from psycopg.rows import dict_row

from litellm_credits.jobs.sweep import Sweeper
from litellm_credits.ledger.verify import Report, verify
from tests.ledger_rig import POLL_SECONDS, Rig, Row, eventually, worker
from tests.torture.journal import Journals

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3 * 3600)]

PROJECT = Path(__file__).parents[2]
OPERATIONS = int(os.environ.get("CREDITS_TORTURE_OPERATIONS", "6000"))
PROCESSES = int(os.environ.get("CREDITS_TORTURE_PROCESSES", "3"))
CLIENTS = int(os.environ.get("CREDITS_TORTURE_CLIENTS", "8"))
TEAMS = 12
STALLED_SECONDS = 60.0
PLANS: list[dict[str, object]] = [
    {"on_process_death": "charge_hold"},
    {"budget_mode": "hybrid", "credits_per_job": "0.5"},
    {},
    {"max_calls_in_flight": 6, "max_held_share": "0.9"},
]


class Swarm:
    """The processes of the torture. One that is killed is followed by another that does the rest of its operations."""

    def __init__(self, rig: Rig, folder: Path, seed: str, teams: list[str], lease_seconds: float) -> None:
        self._rig, self._folder, self._seed, self._teams, self._lease_seconds = rig, folder, seed, teams, lease_seconds
        self._lines: dict[Path, tuple[int, int]] = {}
        self._generation = [0] * PROCESSES
        self._processes = [self._start(place, OPERATIONS // PROCESSES) for place in range(PROCESSES)]

    def _journal(self, place: int) -> Path:
        return self._folder / f"{place}.{self._generation[place]}.journal"

    def _start(self, place: int, operations: int) -> "subprocess.Popen[bytes]":
        journal = self._journal(place)
        arguments = (
            self._rig.url,
            journal,
            journal.stem,
            self._seed,
            operations,
            CLIENTS,
            self._lease_seconds,
            *self._teams,
        )
        with (self._folder / f"{journal.stem}.log").open("wb") as log:
            command = [sys.executable, "-m", "tests.torture.workload", *map(str, arguments)]
            return subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log)

    def journals(self) -> list[Path]:
        """The journals of all processes so far, the dead ones too."""
        return sorted(self._folder.glob("*.journal"))

    def begun(self, place: int | None = None) -> int:
        """How many operations were begun, by one place's processes or by all."""
        total = 0
        for path in self._folder.glob("*.journal" if place is None else f"{place}.*.journal"):
            read, lines = self._lines.get(path, (0, 0))
            with path.open("rb") as journal:
                journal.seek(read)
                new = journal.read()
            self._lines[path] = (read + len(new), lines + new.count(b"\n>") + (read == 0 and new.startswith(b">")))
            total += self._lines[path][1]
        return total

    def kill(self, place: int) -> None:
        """End a process without a goodbye, and start its successor."""
        process = self._processes[place]
        if process.poll() is not None:
            return
        process.kill()
        process.wait()
        self._generation[place] += 1
        self._processes[place] = self._start(place, OPERATIONS // PROCESSES - self.begun(place))

    def cut(self, dice: Random) -> None:
        """Break the connections of some clients, whatever they are doing."""
        for row in self._rig.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'litellm-credits'"):
            if dice.random() < 0.5:
                self._rig.rows("SELECT pg_terminate_backend(%s)", row["pid"])

    def done(self) -> bool:
        """Whether all processes ended, none of them with an error."""
        for place, process in enumerate(self._processes):
            if process.poll() not in (None, 0):
                log = (self._folder / f"{self._journal(place).stem}.log").read_text()
                raise AssertionError(f"process {place} failed:\n{log[-5000:]}")
        return all(process.poll() == 0 for process in self._processes)

    def stop(self) -> None:
        """Leave no process behind."""
        for process in self._processes:
            process.kill()
            process.wait()


async def test_every_credit_is_explained_after_kills_and_broken_connections(database_url: str, tmp_path: Path) -> None:
    seed = os.environ.get("CREDITS_TORTURE_SEED") or str(Random().randrange(10**9))
    print(f"CREDITS_TORTURE_SEED={seed} CREDITS_TORTURE_OPERATIONS={OPERATIONS}")
    dice, rig = Random(seed), Rig(database_url)
    lease_seconds = 2.0
    start = Decimal(15)
    teams = [rig.team(f"team{n:02}", start, overdraft=n % 3, plan=PLANS[n % len(PLANS)]) for n in range(TEAMS)]
    keys = [rig.key(team, credit_limit=25) for team in teams]
    events = max(6, min(60, OPERATIONS // 2000))
    began = time.monotonic()
    swarm = Swarm(rig, tmp_path, seed, teams, lease_seconds)
    try:
        for event in range(1, events + 1):
            await progress(swarm, event * OPERATIONS // (events + 1))
            if event % 2:
                swarm.cut(dice)
            else:
                swarm.kill(dice.randrange(PROCESSES))
            if event == events // 2:
                explained(await asyncio.to_thread(verify, rig.url, grace_seconds=10 * lease_seconds))
        await progress(swarm, 2 * OPERATIONS)
    finally:
        swarm.stop()
    seconds = time.monotonic() - began

    async with worker(database_url) as sweeper:
        while rig.rows("SELECT 1 FROM credits.llm_calls WHERE status = 'held'"):
            lease = rig.row("SELECT min(lease_until) AS lease FROM credits.llm_calls WHERE status = 'held'")["lease"]
            await eventually(lambda lease=lease: rig.row("SELECT now() > %s AS past", lease)["past"])  # type: ignore[misc]
            await sweeper.expire()
        rig.rows("UPDATE credits.jobs SET expires_at = now() WHERE status IN ('pending', 'in_progress')")
        await Sweeper(sweeper._db).sweep()
    explained(await asyncio.to_thread(verify, rig.url, grace_seconds=0))

    journals = Journals.read(swarm.journals())
    call_ids, expected_used, statuses = set(), dict.fromkeys(teams, Decimal(0)), dict[str, int]()
    with psycopg.connect(database_url, row_factory=dict_row) as connection, connection.cursor("calls") as calls:
        calls.itersize = 10_000
        calls.execute(
            "SELECT call_id, litellm_call_id, team_id, status::text, credits_held, credits_charged,"
            " credits_uncollected, credits_refunded"
            "  FROM credits.llm_calls"
        )
        for row in calls:
            journals.audit_call(row)
            call_ids.add(str(row["call_id"]))
            expected_used[row["team_id"]] += row["credits_charged"] - row["credits_refunded"]
            statuses[row["status"]] = statuses.get(row["status"], 0) + 1
    journals.audit_calls_known(call_ids)
    grants = rig.rows("SELECT * FROM credits.credit_transactions WHERE idempotency_key IS NOT NULL")
    journals.audit_grants([row for row in grants if not row["idempotency_key"].startswith("refill")])
    audit_refills(rig, grants)
    for key_id in keys:
        key = rig.row("SELECT * FROM credits.virtual_keys WHERE key_id = %s", key_id)
        used = (
            "SELECT coalesce(sum(credits_charged - credits_refunded), 0) AS n FROM credits.llm_calls WHERE key_id = %s"
        )
        assert (key["credits_held"], key["credits_used"]) == (0, rig.row(used, key_id)["n"])
    for row in rig.rows("SELECT team_id, sum(credits_charged) AS charged FROM credits.jobs GROUP BY team_id"):
        expected_used[row["team_id"]] += row["charged"]
    for team in teams:
        account = rig.account(team)
        granted = sum((row["credits_amount"] for row in grants if row["team_id"] == team), start)
        granted -= rig.row(
            "SELECT coalesce(sum(credits_amount), 0) AS n FROM credits.credit_transactions"
            " WHERE team_id = %s AND transaction_type = 'refund'",
            team,
        )["n"]
        granted += rig.row(
            "SELECT coalesce(sum(credits_amount), 0) AS n FROM credits.credit_transactions WHERE team_id = %s"
            " AND idempotency_key IS NULL AND call_id IS NULL AND transaction_type <> 'charge' AND reason <> 'seed'",
            team,
        )["n"]
        assert (account["credits_allocated"], account["credits_held"]) == (granted, 0)
        assert account["credits_used"] == expected_used[team]
    rate = journals.operations / seconds
    print(
        f"{journals.operations} operations in {seconds:.0f} s ({rate:.0f}/s), calls {statuses}, {dict(journals.answers)}"
    )
    assert journals.operations >= OPERATIONS - PROCESSES
    assert {"settled", "voided", "expired"} <= statuses.keys(), "the workload must meet every ending"
    assert {"held", "short", "none", "granted"} <= journals.answers.keys(), "the workload must meet every answer"
    rig.close()


def audit_refills(rig: Rig, grants: list[Row]) -> None:
    """Each period of a refill has begun once, none was left out, and each answered request was answered once."""
    begun: dict[str, int] = {}
    for row in grants:
        if row["idempotency_key"].startswith("refill:"):
            begun[row["team_id"]] = begun.get(row["team_id"], 0) + 1
    refills = rig.rows("SELECT * FROM credits.refills")
    assert refills, "the workload must meet refills"
    assert begun == {refill["team_id"]: refill["periods"] for refill in refills}
    assert all(refill["next_at"] > datetime.now(UTC) for refill in refills)
    answered = [row["idempotency_key"] for row in grants if row["idempotency_key"].startswith("refill-request:")]
    fulfilled = rig.rows("SELECT request_id FROM credits.refill_requests WHERE status = 'fulfilled'")
    assert sorted(answered) == sorted(f"refill-request:{row['request_id']}" for row in fulfilled)


async def progress(swarm: Swarm, operations: int) -> None:
    """Wait until that many operations were begun, or all processes are done; fail when nothing moves any more."""
    seen, moved = -1, time.monotonic()
    while not swarm.done() and (begun := swarm.begun()) < operations:
        if begun != seen:
            seen, moved = begun, time.monotonic()
        assert time.monotonic() - moved < STALLED_SECONDS, f"stalled at {begun} operations"
        await asyncio.sleep(POLL_SECONDS)


def explained(report: Report) -> None:
    """Fail with the report unless it is clean."""
    assert report.clean, report.text()
