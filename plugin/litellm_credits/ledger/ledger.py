"""Hold before a call, end it once after: the only way credits move for calls.

The row in the database decides, never memory: an ending applies to a call that is still held, so repeating one, or two
workers racing, changes nothing (P3). Memory only serves to renew the leases of the calls in flight here, and to repeat the
endings that the database could not take at once.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.errors import ForeignKeyViolation

from litellm_credits.db.database import Database, Row, connection_lost
from litellm_credits.db.pipeline import Step, for_each, step
from litellm_credits.db.queries import load
from litellm_credits.errors import LedgerUnavailable, NotFound
from litellm_credits.ledger.calls import Ending, Held, HoldRequest, Receipt, Short, new_call_id
from litellm_credits.ledger.coalescer import Coalescer
from litellm_credits.ledger.statements import (
    expire_params,
    hold_params,
    refused,
    settle_params,
    void_of_unknown,
    with_fewer_details,
)
from litellm_credits.metrics import (
    BOUND_EXCEEDED,
    CALLS_ENDED,
    EXPIRED,
    HOLDS_REFUSED,
    SETTLES_LATE,
    SETTLES_LOST,
    UNCOLLECTED,
)
from litellm_credits.money import plain
from litellm_credits.settings import Settings

log = logging.getLogger("litellm_credits.ledger")

_SQL = load("ledger")
_MOST_OVERDUE = 10_000
_SWEEP_BATCH = 500
_MOST_REMEMBERED = 10_000
_FIRST_RETRY_SECONDS = 0.1
_LONGEST_RETRY_SECONDS = 5.0
_UNSTORABLE = (psycopg.DataError, ValueError, TypeError)


@dataclass(slots=True, eq=False)
class _Hold:
    """A hold to be tried together with others. `row`: what its statement says; None: one of them failed, so try it by itself."""

    call_id: UUID
    request: HoldRequest
    plain: bool
    """Whether it is tried the short way. Where that does not serve it, it is tried again the long way."""
    row: asyncio.Future[Row | None]

    @property
    def team_id(self) -> str:
        return self.request.team_id


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    """An ending to be written. `unknown` is the hold it undoes, when nobody knows whether that hold was committed."""

    ending: Ending
    done: asyncio.Future[Receipt | None]
    unknown: HoldRequest | None = None

    @property
    def team_id(self) -> str:
        return self.ending.team_id


class Ledger:
    """The balances of all teams, as one proxy worker works on them."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._lease_seconds = settings.lease_seconds
        self._settle_wait_seconds = settings.settle_wait_seconds
        self._worker_id = uuid4()
        self._in_flight: dict[UUID, bool] = {}
        """The calls held here, and whether they were held the short way."""
        self._on_terms: set[str] = set()
        """Teams that the short way of holding served last in vain: what they hold depends on grants, jobs or keys."""
        self._transitions = Coalescer[_Hold | _Write](self._do_together, team_of=lambda transition: transition.team_id)
        self._writing: set[asyncio.Task[None]] = set()
        self._overdue: deque[_Write] = deque()
        self._repeating = asyncio.Lock()

    async def hold(self, request: HoldRequest) -> Held | Short:
        """Reserve `request.credits`, durably, before the call may leave (P2).

        Raises:
            NotFound, JobNotYours, JobClosed: the job does not take this call.
            TeamSuspended: the team or its organization is.
            TooManyCallsInFlight, TooMuchHeld: the plan's guards; trying again later helps.
            KeyLimitReached: the key's own limit leaves less than the call can cost.
            LedgerUnavailable: nothing may leave. Should the hold be committed all the same, now or later, it is undone
                as soon as the database answers again.
        """
        try:
            return await self._hold_once(request)
        except LedgerUnavailable as problem:
            if not connection_lost(problem):
                raise
            await self._db.mend()
        except ForeignKeyViolation:  # the job was deleted while the hold waited for its turn: now it is seen to be gone
            pass
        return await self._hold_once(request)

    async def _hold_once(self, request: HoldRequest) -> Held | Short:
        call_id = new_call_id()
        plain = request.team_id not in self._on_terms
        self._in_flight[call_id] = plain
        hold = _Hold(call_id, request, plain, asyncio.get_running_loop().create_future())
        self._transitions.add(hold)
        try:
            row = await asyncio.shield(hold.row)
            if row is None:
                self._in_flight[call_id] = hold.plain = False
                row = await self._db.one(_SQL.hold, self._hold_params(call_id, request))
        except psycopg.Error:  # the database refused it: nothing is held
            self._in_flight.pop(call_id, None)
            raise
        except BaseException:  # also cancelled: once it was sent the outcome is unknown, and nothing may stay held
            if self._transitions.discard(hold):
                self._in_flight.pop(call_id, None)
            else:
                self.in_background(self._undo(hold))
            raise
        assert row is not None
        if hold.plain:
            return Held(call_id, request.credits, row["available"])
        if row["on_terms"]:
            if len(self._on_terms) >= _MOST_REMEMBERED:
                self._on_terms.clear()
            self._on_terms.add(request.team_id)
        else:
            self._on_terms.discard(request.team_id)
        if row["held"]:
            return Held(call_id, row["credits"], row["available"] - row["credits"])
        self._in_flight.pop(call_id, None)
        HOLDS_REFUSED.labels(row["refusal"] or "team").inc()
        return refused(row, request)

    async def _undo(self, hold: _Hold) -> None:
        """End a hold that nobody waits for any more, once those that went with it have what they asked for."""
        await asyncio.wait((hold.row,))
        self._write(void_of_unknown(hold.call_id, hold.request), unknown=hold.request)

    async def _do_together(self, transitions: list[_Hold | _Write]) -> None:
        """Hold for calls and end calls, in one transaction; what cannot be done so, each by itself."""
        holds = [transition for transition in transitions if isinstance(transition, _Hold)]
        writes = [transition for transition in transitions if isinstance(transition, _Write)]
        try:
            rows = await self._together(holds, writes)
        except LedgerUnavailable as problem:
            for hold in holds:
                hold.row.set_exception(problem)
            for write in writes:
                self._repeat_later(write)
            return
        except Exception as problem:  # of one of them: nothing was done, and each by itself finds out why
            log.warning("%d holds and settles are tried one by one: %s", len(transitions), type(problem).__name__)
            for hold in holds:
                hold.row.set_result(None)
            for write in writes:
                self.in_background(self._write_once(write))
            return
        for hold in holds:
            if hold.call_id in rows:
                hold.row.set_result(rows[hold.call_id])
            else:
                self._in_flight[hold.call_id] = hold.plain = False
                self._transitions.add(hold)
        for write in writes:
            call_id = write.ending.call_id
            if call_id in rows:
                self._ended(write, rows.pop(call_id))  # once, should a call be ended twice at a time
            elif self._in_flight.get(call_id):
                self._in_flight[call_id] = False
                self._transitions.add(write)
            else:
                self._ended_before(write)

    async def _together(self, holds: list[_Hold], writes: list[_Write]) -> dict[UUID, Row]:
        """Do these, all or nothing, with the balances that they change locked before, in an order: what is said of each call."""
        teams = {hold.team_id for hold in holds} | {write.team_id for write in writes}
        steps: list[Step] = [step(_SQL.lock_accounts, {"team_ids": list(teams)})]
        held = [(hold.plain, self._hold_params(hold.call_id, hold.request)) for hold in holds]
        ended = [(self._in_flight.get(write.ending.call_id), settle_params(write.ending)) for write in writes]
        for short_way, other, given in ((_SQL.hold_plain, _SQL.hold, held), (_SQL.settle_plain, _SQL.settle, ended)):
            if together := [params for plain, params in given if plain]:
                steps.append(for_each(short_way, together))
            steps += [step(other, params) for plain, params in given if not plain]
        _, *said = await self._db.together(steps)
        return {row["call_id"]: row for rows in said for row in rows}

    async def rehearse(self, request: HoldRequest) -> Held | Short:
        """What `hold` would answer now. Nothing stays reserved.

        Raises:
            CreditsError: as `hold`.
        """
        call_id = new_call_id()
        row: Row | None = None
        async with self._db.transaction() as tx:
            row = await tx.one(_SQL.hold, self._hold_params(call_id, request))
            raise psycopg.Rollback
        assert row is not None
        if row["held"]:
            return Held(call_id, row["credits"], row["available"] - row["credits"])
        return refused(row, request)

    def _hold_params(self, call_id: UUID, request: HoldRequest) -> dict[str, Any]:
        vouching = {"worker_id": self._worker_id, "lease_seconds": self._lease_seconds}
        return hold_params(call_id, request) | vouching

    async def end(self, ending: Ending) -> Receipt | None:
        """Settle or void a call: charge, release the rest, write the ledger entry. Returns once that is durable (P4).

        Returns None when this call had ended before, and also when the ledger did not answer within
        `settle_wait_seconds`: then the ending is repeated in the background until it is taken. Cancelling the caller
        does not cancel the ending.
        """
        done = self._write(ending)
        await asyncio.wait((done,), timeout=self._settle_wait_seconds)
        if done.done():
            return done.result()
        SETTLES_LATE.inc()
        log.error(
            "call %s: its settle is late, the ledger does not answer; it is repeated until it does", ending.call_id
        )
        return None

    def end_soon(self, ending: Ending) -> None:
        """As `end`, without waiting: for callers that are being cancelled."""
        self._write(ending)

    def in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work`, which ends a call, beside everything else; `drain` waits for it too."""
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task

    def _write(self, ending: Ending, *, unknown: HoldRequest | None = None) -> asyncio.Future[Receipt | None]:
        write = _Write(ending, asyncio.get_running_loop().create_future(), unknown)
        if unknown is None and ending.call_id in self._in_flight:
            self._transitions.add(write)
        else:
            self.in_background(self._write_once(write))
        return write.done

    async def _write_once(self, write: _Write) -> None:
        try:
            await self._apply(write)
        except LedgerUnavailable:
            self._repeat_later(write)

    def _repeat_later(self, write: _Write) -> None:
        if len(self._overdue) < _MOST_OVERDUE:
            self._overdue.append(write)
        else:
            SETTLES_LOST.inc()
            log.error("call %s: too many settles are waiting; this one is left to its lease", write.ending.call_id)
            self._conclude(write, None)

    async def _apply(self, write: _Write) -> None:
        call_id = write.ending.call_id
        try:
            if write.unknown is not None:
                await self._db.all(_SQL.forestall, self._hold_params(call_id, write.unknown))
            row = await self._settle(write.ending)
        except LedgerUnavailable:
            raise
        except Exception:
            SETTLES_LOST.inc()
            log.exception("call %s cannot be settled; its hold is left to its lease", call_id)
            self._conclude(write, None)
            return
        if row is None:
            self._ended_before(write)
        else:
            self._ended(write, row)

    def _ended_before(self, write: _Write) -> None:
        log.info("call %s had ended before", write.ending.call_id)
        self._conclude(write, None)

    def _ended(self, write: _Write, row: Row) -> None:
        call_id = write.ending.call_id
        CALLS_ENDED.labels("settled" if write.ending.basis else "voided", write.ending.basis or "").inc()
        if "bound_exceeded" in row["flags"]:
            BOUND_EXCEEDED.inc()
            log.error("call %s cost more than was held for it", call_id)
        if row["credits_uncollected"]:
            UNCOLLECTED.inc()
            log.error("call %s cost %s credits more than the balance could pay", call_id, row["credits_uncollected"])
        receipt = Receipt(
            charged=row["credits_charged"],
            uncollected=row["credits_uncollected"],
            remaining=row["credits_remaining"],
            available=row["available"],
        )
        self._conclude(write, receipt)

    def _conclude(self, write: _Write, receipt: Receipt | None) -> None:
        self._in_flight.pop(write.ending.call_id, None)
        write.done.set_result(receipt)

    async def _settle(self, ending: Ending) -> Row | None:
        try:
            return await self._db.one(_SQL.settle, settle_params(ending))
        except _UNSTORABLE:
            fewer = with_fewer_details(ending)
            if fewer is None:
                raise
            log.exception("call %s: its details cannot be stored; it is settled without them", ending.call_id)
            return await self._settle(fewer)

    async def run(self) -> None:
        """Background work until cancelled: renew leases, repeat overdue endings, sweep up after workers that died."""
        async with asyncio.TaskGroup() as work:
            work.create_task(self._renew_leases())
            work.create_task(self._repeat_overdue())
            work.create_task(self._sweep())

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 4)
            try:
                await self._renew()
            except (LedgerUnavailable, psycopg.Error):
                log.warning("leases of %d calls could not be renewed", len(self._in_flight), exc_info=True)

    async def _renew(self) -> None:
        if self._in_flight:
            await self._db.all(_SQL.renew, {"call_ids": list(self._in_flight), "lease_seconds": self._lease_seconds})

    async def _sweep(self) -> None:
        # After an outage all leases may have run out at once: whoever lives gets the time to renew before anybody sweeps.
        pause = self._lease_seconds / 4
        while True:
            await asyncio.sleep(pause * random.uniform(1, 1.5))  # noqa: S311 (so that workers do not sweep in step)
            try:
                await self._renew()
                await self.expire()
                pause = self._lease_seconds / 4
            except (LedgerUnavailable, psycopg.Error):
                log.warning("holds of dead workers could not be resolved", exc_info=True)
                pause = self._lease_seconds / 2

    async def expire(self) -> int:
        """End every hold whose lease has run out, by its team's plan (DESIGN 2), and return how many this call ended.

        Any number of workers may do so at once. The database's clock decides, never this machine's.

        Raises:
            LedgerUnavailable: some may have been ended; the next sweep ends the rest.
        """
        ended, seen = 0, list[UUID]()
        while rows := await self._db.all(_SQL.overdue_calls, {"limit": _SWEEP_BATCH, "seen": seen}):
            seen = [
                row["call_id"] for row in rows
            ]  # those that another ended, or renewed, must not come again for ever
            for row in rows:
                receipt = await self._db.one(_SQL.settle, expire_params(row))
                if receipt is None:
                    continue
                ended += 1
                EXPIRED.inc()
                log.warning(
                    "call %s of team %s expired: %s credits were held, %s are charged",
                    row["call_id"],
                    row["team_id"],
                    plain(row["credits_held"]),
                    plain(receipt["credits_charged"]),
                )
        return ended

    async def _repeat_overdue(self) -> None:
        pause = _FIRST_RETRY_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = _FIRST_RETRY_SECONDS if await self._repeat_all() else min(2 * pause, _LONGEST_RETRY_SECONDS)

    async def _repeat_all(self) -> bool:
        async with self._repeating:
            while self._overdue:
                try:
                    await self._apply(self._overdue[0])
                except LedgerUnavailable:
                    return False
                self._overdue.popleft()
            return True

    async def drain(self) -> None:
        """Write what is still to be written, as far as the database lets us within `settle_wait_seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settle_wait_seconds):
                await self._transitions.idle()
                while self._writing:
                    await asyncio.wait(self._writing)
                    await self._transitions.idle()
        if not await self._repeat_all():
            log.error("%d settles could not be written; their holds are left to their leases", len(self._overdue))

    # Views ------------------------------------------------------------------------------------------------------------

    async def balance(self, team_id: str) -> Row:
        """The team's balance row.

        Raises:
            NotFound: no such team.
        """
        row = await self._db.one(_SQL.balance, {"team_id": team_id})
        if row is None:
            raise NotFound(what="team", id=team_id)
        return row

    async def transactions(self, team_id: str, *, before: int | None = None, limit: int = 50) -> list[Row]:
        """A page of the team's ledger, newest first; `before` is the last transaction_id of the page before."""
        return await self._db.all(_SQL.transactions, {"team_id": team_id, "before": before, "limit": limit})
