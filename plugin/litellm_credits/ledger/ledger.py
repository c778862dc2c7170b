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
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.errors import ForeignKeyViolation
from psycopg.types.json import Jsonb

from litellm_credits.db.database import Database, Row, connection_lost
from litellm_credits.db.queries import load
from litellm_credits.errors import (
    JobClosed,
    JobNotYours,
    KeyLimitReached,
    LedgerUnavailable,
    NotFound,
    TeamSuspended,
    TooManyCallsInFlight,
    TooMuchHeld,
)
from litellm_credits.ledger.calls import Ending, Held, HoldRequest, Receipt, Short
from litellm_credits.metrics import (
    BOUND_EXCEEDED,
    CALLS_ENDED,
    EXPIRED,
    HOLDS_REFUSED,
    SETTLES_LATE,
    SETTLES_LOST,
    UNCOLLECTED,
)
from litellm_credits.money import dumps, plain
from litellm_credits.settings import Settings

log = logging.getLogger("litellm_credits.ledger")

_SQL = load("ledger")
_MOST_OVERDUE = 10_000
_SWEEP_BATCH = 500
_MOST_REMEMBERED = 10_000
_FIRST_RETRY_SECONDS = 0.1
_LONGEST_RETRY_SECONDS = 5.0
_UNSTORABLE = (psycopg.DataError, ValueError, TypeError)


@dataclass(frozen=True, slots=True)
class _Write:
    """An ending to be written. `unknown` is the hold it undoes, when nobody knows whether that hold was committed."""

    ending: Ending
    done: asyncio.Future[Receipt | None]
    unknown: HoldRequest | None = None


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
        call_id = uuid4()
        self._in_flight[call_id] = False
        params = self._hold_params(call_id, request)
        try:
            if request.team_id not in self._on_terms:
                row = await self._db.one(_SQL.hold_plain, params)
                if row is not None:
                    self._in_flight[call_id] = True
                    return Held(call_id, request.credits, row["available"])
            row = await self._db.one(_SQL.hold, params)
        except psycopg.Error:  # the database refused it: nothing is held
            self._in_flight.pop(call_id, None)
            raise
        except BaseException:  # also cancelled: the outcome is unknown, so make sure that nothing stays held
            self._write(_void_of(call_id, request), unknown=request)
            raise
        assert row is not None
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
        return _refused(row, request)

    async def rehearse(self, request: HoldRequest) -> Held | Short:
        """What `hold` would answer now. Nothing stays reserved.

        Raises:
            CreditsError: as `hold`.
        """
        call_id = uuid4()
        row: Row | None = None
        async with self._db.transaction() as tx:
            row = await tx.one(_SQL.hold, self._hold_params(call_id, request))
            raise psycopg.Rollback
        assert row is not None
        if row["held"]:
            return Held(call_id, row["credits"], row["available"] - row["credits"])
        return _refused(row, request)

    def _hold_params(self, call_id: UUID, request: HoldRequest) -> dict[str, Any]:
        return asdict(request) | {
            "call_id": call_id,
            "worker_id": self._worker_id,
            "lease_seconds": self._lease_seconds,
            "aliases": list(request.aliases or (request.model_alias,)),
        }

    async def end(self, ending: Ending) -> Receipt | None:
        """Settle or void a call: charge, release the rest, write the ledger entry. Returns once that is durable (P4).

        Returns None when this call had ended before, and also when the ledger did not answer within
        `settle_wait_seconds`: then the ending is repeated in the background until it is taken. Cancelling the caller
        does not cancel the ending.
        """
        done = self._write(ending)
        try:
            return await asyncio.wait_for(asyncio.shield(done), self._settle_wait_seconds)
        except TimeoutError:
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
        self.in_background(self._write_once(write))
        return write.done

    async def _write_once(self, write: _Write) -> None:
        try:
            await self._apply(write)
        except LedgerUnavailable:
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
            log.info("call %s had ended before", call_id)
            self._conclude(write, None)
            return
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
            params = settle_params(ending)
            row = await self._db.one(_SQL.settle_plain, params) if self._in_flight.get(ending.call_id) else None
            return row or await self._db.one(_SQL.settle, params)
        except _UNSTORABLE:
            fewer = _with_fewer_details(ending)
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
                receipt = await self._db.one(_SQL.settle, _expire_params(row))
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
        if self._writing:
            await asyncio.wait(self._writing, timeout=self._settle_wait_seconds)
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


def _void_of(call_id: UUID, request: HoldRequest) -> Ending:
    return Ending(
        call_id=call_id,
        team_id=request.team_id,
        model_alias=request.model_alias,
        pricing_input=request.pricing_input,
        pricing_output=request.pricing_output,
        flags=["hold_outcome_unknown"],
    )


def _with_fewer_details(ending: Ending) -> Ending | None:
    """The ending without its texts, then without its numbers too; None when only the money is left."""
    if "details_dropped" not in ending.flags:
        flags = [*ending.flags, "details_dropped"]
        return replace(ending, request_data=None, response_data=None, error=None, resolved_model=None, flags=flags)
    money = Ending(
        call_id=ending.call_id,
        team_id=ending.team_id,
        model_alias=ending.model_alias,
        pricing_input=ending.pricing_input,
        pricing_output=ending.pricing_output,
        basis=ending.basis,
        credits=ending.credits,
        policy=ending.policy,
        flags=ending.flags,
    )
    return None if money == ending else money


def settle_params(ending: Ending) -> dict[str, Any]:
    """What the statement settle takes to end a call so."""
    params: dict[str, Any] = {name: getattr(ending, name) for name in Ending.__dataclass_fields__}
    params["status"] = "settled" if ending.basis else "voided"
    params["reason"] = f"call {ending.model_alias}: {ending.basis or 'voided'} {plain(ending.credits)}"
    for name in ("request_data", "response_data"):
        data = params[name]
        params[name] = None if data is None else Jsonb(data, dumps=_already_json)
    params["error"] = None if ending.error is None else Jsonb(ending.error)
    for name in ("units", "pricing_rates"):
        params[name] = Jsonb(params[name], dumps=dumps) if params[name] else None
    return params


def _expire_params(row: Row) -> dict[str, Any]:
    charge = row["policy"] == "charge_hold"
    ending = Ending(
        call_id=row["call_id"],
        team_id=row["team_id"],
        model_alias=row["model_alias"],
        pricing_input=row["pricing_input"],
        pricing_output=row["pricing_output"],
        credits=row["credits_held"] if charge else Decimal(0),
        policy=f"on_process_death={row['policy']}",
        flags=["lease_expired", "needs_reconciliation"],
    )
    reason = f"call {ending.model_alias}: expired, charged as held"
    return settle_params(ending) | {"status": "expired", "reason": reason}


def _already_json(data: bytes) -> str:
    return data.decode()


def _refused(row: Row, request: HoldRequest) -> Short:
    """What the hold statement says of a call that it did not hold for.

    Raises:
        CreditsError: unless it is that the credits do not suffice.
    """
    if not row["team_active"]:
        raise TeamSuspended(team_id=request.team_id)
    if request.job_id is not None:
        if row["job_team"] is None:
            raise NotFound(what="job", id=request.job_id, param="job_id")
        if row["job_team"] != request.team_id:
            raise JobNotYours(job_id=request.job_id, param="job_id")
        if row["job_status"] not in ("pending", "in_progress"):
            raise JobClosed(job_id=request.job_id, state=row["job_status"], param="job_id")
    match row["refusal"]:
        case "job":  # it was closed while the hold waited for its turn
            raise JobClosed(job_id=request.job_id, state="closed", param="job_id")
        case "calls_in_flight":
            raise TooManyCallsInFlight(team_id=request.team_id, calls=row["calls_held"])
        case "held_share":
            raise TooMuchHeld(team_id=request.team_id, required=row["credits"], held=row["held_by_others"])
        case "key_limit":
            raise KeyLimitReached(required=row["credits"], left=row["key_available"], held=row["key_held"])
    return Short(available=row["available"], held=row["held_by_others"])
