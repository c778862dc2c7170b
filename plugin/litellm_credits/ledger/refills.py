"""Credits that come by themselves: a grant each period, and a request to whoever pays when the balance falls low.

The sweeper of any worker begins each period once, in UTC's calendar counted from the first, and catches up after downtime. A
request is made once while the balance is below the threshold, is withdrawn when the balance is not any more, and is answered
by a top-up that closes it.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from psycopg.errors import NumericValueOutOfRange

from litellm_credits.db.cursors import Cursor
from litellm_credits.db.database import Database, Transaction
from litellm_credits.db.database import Row as DbRow
from litellm_credits.db.queries import load
from litellm_credits.errors import NotFound, NotOpen
from litellm_credits.ledger.grants import Terms, add_grant, earlier_entry
from litellm_credits.models import (
    CreditTransaction,
    GrantKind,
    Refill,
    RefillPeriod,
    RefillRequest,
    RefillRequestStatus,
)

log = logging.getLogger("litellm_credits.ledger")

_SQL = load("refills")
_LEDGER = load("ledger")
_SWEEP_BATCH = 500


@dataclass(frozen=True, slots=True)
class RefillTerms:
    """A team's refills. `period`, `credits` and `starts_at`: a grant each period. `threshold` and `target`: requests."""

    period: RefillPeriod | None = None
    credits: Decimal | None = None
    starts_at: datetime | None = None
    kind: GrantKind = GrantKind.paid
    lapses: bool = False
    rollover_credits: Decimal = Decimal(0)
    threshold: Decimal | None = None
    target: Decimal | None = None
    monthly_cap: Decimal | None = None


class Refills:
    """The refills of all teams."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def set(self, team_id: str, terms: RefillTerms) -> Refill:
        """Replace the refills of an existing team. Those of the same period and start go on where they are."""
        fields = {name: getattr(terms, name) for name in RefillTerms.__dataclass_fields__}
        async with self._db.transaction() as tx:
            await _lock(tx, team_id)
            return Refill.model_validate(await tx.one(_SQL.set_refill, fields | {"team_id": team_id}))

    async def get(self, team_id: str) -> Refill | None:
        """A team's refills, if it has any."""
        row = await self._db.one(_SQL.refill, {"team_id": team_id})
        return Refill.model_validate(row) if row else None

    async def delete(self, team_id: str) -> None:
        """End the refills. What they gave stays; a request that is open is withdrawn."""
        async with self._db.transaction() as tx:
            await _lock(tx, team_id)
            await tx.all(_SQL.delete_refill, {"team_id": team_id})
            await _withdraw(tx, team_id)

    async def requests(
        self, team_id: str | None, *, status: RefillRequestStatus | None, before: Cursor | None, limit: int
    ) -> list[RefillRequest]:
        """Requests of a team, or of all, newest first."""
        place = {"before_time": before and before.at, "before_id": before and before.id, "limit": limit}
        rows = await self._db.all(_SQL.requests, place | {"team_id": team_id, "status": status})
        return [RefillRequest.model_validate(row) for row in rows]

    async def fulfil(self, team_id: str, request_id: UUID, *, reason: str) -> CreditTransaction:
        """Answer a request: the team gets its credits as a paid grant, and it is closed. Again: the same entry.

        Raises:
            NotFound: the team has no such request.
            NotOpen: it was withdrawn.
        """
        async with self._db.transaction() as tx:
            await _lock(tx, team_id)
            row = await tx.one(_SQL.request, {"team_id": team_id, "request_id": request_id})
            if row is None:
                raise NotFound(what="refill request", id=request_id)
            key = f"refill-request:{request_id}"
            if row["status"] == "withdrawn":
                raise NotOpen(what="refill request", id=request_id, state="withdrawn")
            if row["status"] == "open":
                await add_grant(tx, team_id, row["credits"], reason=reason, idempotency_key=key)
                await tx.all(_SQL.close_request, {"request_id": request_id, "status": "fulfilled"})
            entry = await earlier_entry(tx, team_id, key)
        assert entry is not None
        return entry

    async def grant_due(self) -> int:
        """Begin all periods that are due, each once, and return how many this call began.

        A team that cannot be given its credits, since its balance would outgrow its column, keeps no other from its own.
        """
        begun = 0
        failed: list[str] = []
        while rows := await self._db.all(_SQL.due_refills, {"limit": _SWEEP_BATCH, "failed": failed}):
            for row in rows:
                try:
                    begun += await self._begin(row["team_id"])
                except NumericValueOutOfRange:
                    log.exception("team %s cannot be given its refill", row["team_id"])
                    failed.append(row["team_id"])
        return begun

    async def _begin(self, team_id: str) -> int:
        async with self._db.transaction() as tx:
            await _lock(tx, team_id)
            period = await tx.one(_SQL.advance_refill, {"team_id": team_id})
            if period is None:
                return 0
            ends = period["next_at"] if period["lapses"] else None
            terms = Terms(
                kind=period["kind"],
                effective_at=period["began_at"] if period["lapses"] else None,
                expires_at=ends,
                rollover_credits=period["rollover_credits"],
            )
            reason = f"Refill ({period['period']}) of {period['began_at']:%Y-%m-%d}"
            key = f"refill:{period['starts_at']:%Y-%m-%dT%H:%M:%S}:{period['period']}:{period['periods']}"
            await add_grant(tx, team_id, period["credits"], reason=reason, terms=terms, idempotency_key=key)
        return 1

    async def ask(self) -> int:
        """Make the requests that low balances call for, withdraw those that no longer are; return how many were made."""
        asked, after = 0, ""
        while rows := await self._db.all(_SQL.watched_balances, {"after": after, "limit": _SWEEP_BATCH}):
            after = rows[-1]["team_id"]
            for row in rows:
                asked += await self._ask(row["team_id"])
        return asked

    async def _ask(self, team_id: str) -> int:
        async with self._db.transaction() as tx:
            balance = await _lock(tx, team_id)
            refill = await tx.one(_SQL.refill, {"team_id": team_id})
            spendable = await tx.one(_SQL.spendable, {"team_id": team_id})
            if balance is None or refill is None or spendable is None:
                return 0
            left = spendable["spendable"]
            if refill["threshold"] is None or left >= refill["threshold"]:
                await _withdraw(tx, team_id)
                return 0
            if await tx.one(_SQL.open_request, {"team_id": team_id}) is not None:
                return 0
            wanted = refill["target"] - left
            if refill["monthly_cap"] is not None:
                month = await tx.one(_SQL.asked_this_month, {"team_id": team_id})
                wanted = min(wanted, refill["monthly_cap"] - (month["credits"] if month else 0))
            if wanted <= 0:
                return 0
            await tx.all(_SQL.ask, {"team_id": team_id, "credits": wanted, "balance": left})
        return 1


async def _lock(tx: Transaction, team_id: str) -> DbRow | None:
    return await tx.one(_LEDGER.lock_account, {"team_id": team_id})


async def _withdraw(tx: Transaction, team_id: str) -> None:
    row = await tx.one(_SQL.open_request, {"team_id": team_id})
    if row is not None:
        await tx.all(_SQL.close_request, {"request_id": row["request_id"], "status": "withdrawn"})
