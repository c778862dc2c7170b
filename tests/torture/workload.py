"""One process of the torture: clients that hold, end, repeat, cancel and grant, and keep a journal of what they were told.

    python -m tests.torture.workload DATABASE_URL JOURNAL NAME SEED OPERATIONS CLIENTS LEASE_SECONDS TEAM...

The journal says before each operation what is wanted (>) and after it what was answered (<), written through to the kernel, so
that it outlives the process. A line: the word, the operation's id, and the facts; see journal.py, which reads it.
"""

import asyncio
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

import psycopg

from litellm_credits.errors import (
    BadInput,
    BalanceTooLow,
    JobCannotBeHeld,
    JobClosed,
    KeyLimitReached,
    LedgerUnavailable,
    NotFound,
    NotOpen,
    NotRefundable,
    TooManyCallsInFlight,
    TooMuchHeld,
)
from litellm_credits.jobs.jobs import Jobs
from litellm_credits.jobs.sweep import Sweeper
from litellm_credits.ledger.calls import Ending, Held
from litellm_credits.ledger.grants import Grants, Terms
from litellm_credits.ledger.ledger import Ledger
from litellm_credits.ledger.refills import Refills, RefillTerms
from litellm_credits.ledger.refunds import Refunds
from litellm_credits.models import JobStatus, RefillPeriod, RefillRequestStatus
from tests.ledger_rig import hold_request, settle_of, void_of, worker

STEP = Decimal("1e-10")
REFILLS_BEGAN = datetime(2026, 11, 20, tzinfo=UTC)
"""A refill that is set is as if it had been set then: the days since are caught up by whoever sweeps first, each once."""

REFILL = RefillTerms(
    period=RefillPeriod.daily, credits=Decimal(1), starts_at=REFILLS_BEGAN, threshold=Decimal(3), target=Decimal(6)
)


class Journal:
    """Where the clients of this process write, and how many operations they may still begin."""

    def __init__(self, path: str, operations: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.left = operations

    def want(self, *facts: object) -> None:
        """An operation is about to begin."""
        self.left -= 1
        self._write(">", facts)

    def told(self, *facts: object) -> None:
        """An operation was answered."""
        self._write("<", facts)

    def _write(self, mark: str, facts: tuple[object, ...]) -> None:
        os.write(self._file, (mark + " ".join(map(str, facts)) + "\n").encode())


class Client:
    """Does one operation after the other, as its dice say."""

    def __init__(
        self,
        name: str,
        dice: Random,
        ledger: Ledger,
        journal: Journal,
        url: str,
        teams: list[str],
        limited_keys: dict[str, UUID],
    ) -> None:
        self._ids = (f"{name}.{number}" for number in count())
        self._dice, self._ledger, self._journal, self._url, self._teams = dice, ledger, journal, url, teams
        self._limited_keys = limited_keys
        self._ended: list[tuple[UUID, str]] = []

    async def run(self) -> None:
        """Until the process has begun all its operations."""
        while self._journal.left > 0:
            try:
                await self._dice.choices(
                    [self._call, self._replay, self._cancelled_hold, self._grant, self._on_terms, self._job],
                    weights=[72, 8, 3, 4, 8, 5],
                )[0]()
            except LedgerUnavailable:
                self._journal.told("lost", "-")

    async def _call(self) -> None:
        team = self._dice.choice(self._teams)
        held = await self._hold(team)
        if held is None:
            if self._dice.random() < 0.3:
                await self._grant()
            return
        if self._dice.random() < 0.02:
            await self._lose_the_lease(held.call_id)
        if self._dice.random() < 0.2:
            await self._end(held.call_id, void_of(held.call_id, team))
        else:
            share = self._dice.choice([0, 10, 50, 90, 100, 100, 130])
            await self._end(held.call_id, settle_of(held.call_id, team, (held.credits * share / 100).quantize(STEP)))
        self._ended = [*self._ended[-50:], (held.call_id, team)]

    async def _hold(self, team: str, job_id: UUID | None = None) -> Held | None:
        operation, credits = next(self._ids), Decimal(self._dice.randrange(3 * 10**10)).scaleb(-10)
        self._journal.want("hold", operation, team, credits)
        alias = self._dice.choice(["gpt", "gpt", "claude"])
        key = {"key_id": self._limited_keys[team]} if self._dice.random() < 0.15 else {}
        request = hold_request(team, credits, litellm_call_id=operation, job_id=job_id, model_alias=alias, **key)
        try:
            answer = await self._ledger.hold(request)
        except (JobClosed, KeyLimitReached, TooManyCallsInFlight, TooMuchHeld):
            self._journal.told("refused", operation)
            return None
        if not isinstance(answer, Held):
            assert answer.available >= 0
            self._journal.told("short", operation)
            return None
        assert answer.available >= 0, "P1"
        self._journal.told("held", operation, answer.call_id)
        return answer

    async def _end(self, call_id: UUID, ending: Ending) -> None:
        operation, want, told = next(self._ids), *(("settle", "settled") if ending.basis else ("void", "voided"))
        self._journal.want(want, operation, call_id, ending.credits)
        receipt = await self._ledger.end(ending)
        if receipt is None:
            self._journal.told("none", operation, call_id)
        else:
            assert receipt.available >= 0, "P1"
            self._journal.told(told, operation, call_id, receipt.charged, receipt.uncollected)

    async def _replay(self) -> None:
        """End a call again, differently perhaps, perhaps twice at once: whoever was first stands."""
        if not self._ended:
            return
        call_id, team = self._dice.choice(self._ended)
        endings = [settle_of(call_id, team, 1), void_of(call_id, team)]
        self._dice.shuffle(endings)
        await asyncio.gather(*(self._end(call_id, ending) for ending in endings[: self._dice.choice([1, 2])]))

    async def _cancelled_hold(self) -> None:
        """A client that hangs up while its hold is under way; when the hold was quicker, the call costs nothing."""
        team = self._dice.choice(self._teams)
        hold = asyncio.create_task(self._hold(team))
        for _ in range(self._dice.randrange(12)):
            await asyncio.sleep(0)
        hold.cancel()
        (held,) = await asyncio.gather(hold, return_exceptions=True)
        if isinstance(held, Held):
            await self._end(held.call_id, void_of(held.call_id, team))

    async def _grant(self) -> None:
        """Once, or the same one twice at once."""
        operation, team = next(self._ids), self._dice.choice(self._teams)
        credits = Decimal(self._dice.randrange(1, 20 * 10**10)).scaleb(-10)
        self._journal.want("grant", operation, team, credits)

        async def once() -> None:
            await Grants(self._ledger._db).grant(team, credits, reason="torture", idempotency_key=operation)

        await asyncio.gather(*(once() for _ in range(self._dice.choice([1, 1, 2]))))
        self._journal.told("granted", operation)

    async def _on_terms(self) -> None:
        """What an operator does: a grant on terms, a correction, a refund, a void, and the sweep that any worker makes."""
        operation, team, db = next(self._ids), self._dice.choice(self._teams), self._ledger._db
        credits = Decimal(self._dice.randrange(100, 5 * 10**10)).scaleb(-10)
        grants, soon = Grants(db), datetime.now(UTC) + timedelta(seconds=self._dice.uniform(0.5, 5))
        what = self._dice.choice(["grant", "grant", "adjust", "refund", "refund", "void", "sweep", "refill", "fulfil"])
        if what == "refund" and self._ended:
            call_id, team = self._dice.choice(self._ended)
            work = Refunds(db).refund(
                call_id=call_id, credits=(credits / 4).quantize(STEP), reason="torture", idempotency_key=operation
            )
            credits = (credits / 4).quantize(STEP)
        elif what == "grant":
            terms = self._dice.choice(
                [
                    Terms(expires_at=soon, rollover_credits=Decimal(1)),
                    Terms(model_aliases=["gpt"], expires_at=soon),
                    Terms(job_types=["torture"], priority=50),
                    Terms(effective_at=soon, priority=200),
                ]
            )
            work = grants.grant(team, credits, reason="torture", terms=terms, idempotency_key=operation)
        elif what == "adjust":
            credits = -credits
            work = grants.adjust(team, credits, reason="torture", idempotency_key=operation)
        else:
            self._journal.want("operate", operation, what)
            if what == "sweep":
                await Sweeper(db).sweep()
            elif what == "refill":
                await Refills(db).set(team, REFILL)
            elif what == "fulfil":
                await self._fulfil(Refills(db), team)
            elif found := await grants.page(team, open=True, limit=5):
                with suppress(NotOpen):
                    await grants.void(self._dice.choice(found).grant_id, team_id=team, reason="torture")
            self._journal.told("operated", operation)
            return
        self._journal.want("grant", operation, team, f"{credits:f}")
        try:
            await work
            self._journal.told("granted", operation)
        except (BadInput, BalanceTooLow, NotRefundable):
            self._journal.told("refused", operation)

    async def _fulfil(self, refills: Refills, team: str) -> None:
        """Answer the team's open request, if there is one, twice at once: it is answered once."""
        found = await refills.requests(team, status=RefillRequestStatus.open, before=None, limit=1)
        for request in found:
            work = [refills.fulfil(team, request.request_id, reason="torture") for _ in range(2)]
            for outcome in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(outcome, BaseException) and not isinstance(outcome, NotOpen | NotFound):
                    raise outcome

    async def _job(self) -> None:
        """A job with a price, a cap or both; calls at once on its hold; closed while some of them run, or left to expire."""
        operation, team, jobs = next(self._ids), self._dice.choice(self._teams), Jobs(self._ledger._db)
        cap = self._dice.choice([None, Decimal(2), Decimal(6)])
        self._journal.want("operate", operation, "job")
        facts: dict[str, Any] = {"user_id": None, "external_task_id": operation, "metadata": {}}
        soon = datetime.now(UTC) + timedelta(seconds=3)
        try:
            job = await jobs.create(team, job_type="torture", credit_cap=cap, expires_at=soon, **facts)
        except (JobCannotBeHeld, TooMuchHeld):
            self._journal.told("refused", operation)
            return
        self._journal.told("operated", operation)

        async def call() -> None:
            held = await self._hold(team, job.job_id)
            if held is not None:
                await self._end(held.call_id, settle_of(held.call_id, team, (held.credits / 2).quantize(STEP)))
                self._ended = [*self._ended[-50:], (held.call_id, team)]

        async def close() -> None:
            status = self._dice.choice([JobStatus.completed, JobStatus.failed])
            with suppress(JobClosed):
                await jobs.complete(job.job_id, status=status, metadata={}, error_message=None, team_id=team)

        work = [call() for _ in range(self._dice.randrange(4))]
        if self._dice.random() < 0.8:
            work.append(close())
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _lose_the_lease(self, call_id: UUID) -> None:
        """As if this process had been away too long: somebody may sweep the call before it ends."""
        try:
            async with await psycopg.AsyncConnection.connect(self._url) as connection:
                await connection.execute(
                    "UPDATE credits.llm_calls SET lease_until = now() - interval '1 second' WHERE call_id = %s",
                    (call_id,),
                )
            await self._ledger.expire()
        except psycopg.Error as problem:
            raise LedgerUnavailable from problem


async def main() -> None:
    url, path, name, seed, operations, clients, lease_seconds, *teams = sys.argv[1:]
    journal = Journal(path, int(operations))
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await connection.execute(
            "SELECT team_id, key_id FROM credits.virtual_keys WHERE credit_limit IS NOT NULL"
        )
        limited_keys = dict(await rows.fetchall())
    async with (
        worker(url, pool_size=int(clients), background=True, lease_seconds=float(lease_seconds)) as ledger,
        asyncio.TaskGroup() as work,
    ):
        for number in range(int(clients)):
            client = f"{name}.{number}"
            work.create_task(
                Client(client, Random(f"{seed}/{client}"), ledger, journal, url, teams, limited_keys).run()
            )


if __name__ == "__main__":
    asyncio.run(main())
