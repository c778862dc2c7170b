"""Where credits come from: grants, given once, burnt in their order, taken back when their time is over.

Each method is one statement or one transaction that begins with the lock on the team's balance, and is idempotent where a
caller can retry.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from psycopg.errors import UniqueViolation
from pydantic import Field

from litellm_credits.db.cursors import Cursor
from litellm_credits.db.database import Database, Transaction
from litellm_credits.db.database import Row as DbRow
from litellm_credits.db.queries import load
from litellm_credits.errors import BadInput, BalanceTooLow, IdempotencyConflict, NotFound, NotOpen
from litellm_credits.models import CreditTransaction, GrantKind, Row, TransactionType

PLAIN_PRIORITY = 100
"""Of the plain balance among the grants: lower burns before it, higher after it."""

_SQL = load("ledger")
_ALL = 10**9
_SWEEP_BATCH = 500


@dataclass(frozen=True, slots=True)
class Terms:
    """What a grant is good for. With these defaults it is plain: it adds to the balance that pays for anything."""

    kind: GrantKind = GrantKind.paid
    priority: int = PLAIN_PRIORITY
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    model_aliases: list[str] | tuple[str, ...] = ()
    job_types: list[str] | tuple[str, ...] = ()
    rollover_credits: Decimal = Decimal(0)
    rollover_days: int | None = None


class Grant(Row):
    """A grant, with what is used and held of it."""

    grant_id: UUID
    team_id: str
    kind: GrantKind
    status: str = Field(description="active, pending, spent, expired or voided.")
    priority: int
    credits_granted: Decimal
    credits_taken: Decimal = Field(description="Expired, voided or corrected away.")
    credits_used: Decimal
    credits_held: Decimal = Field(description="By calls in flight and by jobs.")
    credits_left: Decimal = Field(description="Neither taken nor used nor held.")
    credits_available: Decimal = Field(description="What is left, while it may be spent.")
    earmarked: bool = Field(description="Whether it has an expiry, a restriction or a priority of its own.")
    effective_at: datetime
    expires_at: datetime | None
    model_aliases: list[str]
    job_types: list[str]
    rollover_credits: Decimal
    rollover_days: int | None
    reason: str
    voided_at: datetime | None
    created_at: datetime


class Grants:
    """The grants of all teams."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def grant(
        self,
        team_id: str,
        credits: Decimal,
        *,
        reason: str,
        terms: Terms = Terms(),
        transaction_type: TransactionType = TransactionType.allocation,
        idempotency_key: str | None = None,
    ) -> CreditTransaction:
        """Give credits; once per `idempotency_key`. Returns the ledger entry.

        Raises:
            NotFound: no such team.
            BadInput: the grant would never be effective.
            IdempotencyConflict: the key was used before for something else.
        """
        if not _pays_ever(terms) and not await self._is_repeated(team_id, idempotency_key):
            raise BadInput(problem="expires_at must come after effective_at, and after now", param="expires_at")
        params = _grant_params(team_id, credits, reason, terms, transaction_type, idempotency_key)
        try:
            row = await self._db.one(_SQL.grant, params)
        except UniqueViolation:
            row = None
        if row is None or row["transaction_id"] is None:
            # The same key at the same moment, perhaps: the first one's entry can be seen by now, in a fresh snapshot.
            row = await self._db.one(_SQL.grant, params)
        if row is None:
            raise NotFound(what="team", id=team_id)
        if row["same"] is False:
            raise IdempotencyConflict(key=idempotency_key, param="idempotency_key")
        entry = await self._db.one(_SQL.transaction, {"transaction_id": row["transaction_id"]})
        return CreditTransaction.model_validate(entry)

    async def _is_repeated(self, team_id: str, idempotency_key: str | None) -> bool:
        key = {"team_id": team_id, "idempotency_key": idempotency_key}
        return await self._db.one(_SQL.earlier_entry, key) is not None

    async def adjust(
        self, team_id: str, credits: Decimal, *, reason: str, idempotency_key: str | None = None
    ) -> CreditTransaction:
        """Correct a balance; once per `idempotency_key`. Upwards it is a compensation grant, downwards it takes from plain
        grants, the newest first, what is neither spent nor held. Returns the ledger entry.

        Raises:
            NotFound: no such team.
            BalanceTooLow: less than that can be taken from the plain balance.
            IdempotencyConflict: the key was used before for something else.
        """
        if credits > 0:
            return await self.grant(
                team_id,
                credits,
                reason=reason,
                terms=Terms(kind=GrantKind.compensation),
                transaction_type=TransactionType.adjustment,
                idempotency_key=idempotency_key,
            )
        async with self._db.transaction() as tx:
            await _lock(tx, team_id)
            earlier = await earlier_entry(tx, team_id, idempotency_key)
            if earlier is not None:
                if (earlier.credits_amount, earlier.transaction_type) != (credits, TransactionType.adjustment):
                    raise IdempotencyConflict(key=idempotency_key, param="idempotency_key")
                return earlier
            grants = [grant for grant in await _grants(tx, team_id) if not grant.earmarked and grant.credits_left]
            available, wanted, takes = sum((grant.credits_left for grant in grants), Decimal(0)), -credits, []
            for grant in grants:
                take = min(grant.credits_left, wanted)
                wanted -= take
                takes.append((grant.grant_id, take))
            if wanted:
                raise BalanceTooLow(team_id=team_id, required=-credits, available=available, param="credits")
            entry = await take_back(
                tx,
                team_id,
                [one for one in takes if one[1]],
                transaction_type=TransactionType.adjustment,
                reason=reason,
                idempotency_key=idempotency_key,
            )
            assert entry is not None
            return entry

    async def void(self, grant_id: UUID, *, team_id: str, reason: str) -> Grant:
        """Take back what is neither spent nor held of a grant, now and for good. Again: nothing changes.

        What is held of an earmarked grant is taken back when it comes free; of a plain one it then stays with the team.

        Raises:
            NotFound: the team has no such grant.
            NotOpen: it has expired.
        """
        async with self._db.transaction() as tx:
            await _lock(tx, team_id)
            grant = await _grant(tx, team_id, grant_id)
            if grant.status == "expired":
                raise NotOpen(what="grant", id=grant_id, state="expired")
            if grant.status != "voided":
                await tx.all(_SQL.end_now, {"grant_id": grant_id})
                await take_back(
                    tx,
                    team_id,
                    [(grant_id, grant.credits_left)],
                    transaction_type=TransactionType.void,
                    reason=reason,
                )
                await tx.all(_SQL.end_grant, {"grant_id": grant_id})
            return await _grant(tx, team_id, grant_id)

    async def get(self, grant_id: UUID, *, team_id: str) -> Grant:
        """One grant of a team. Raises NotFound."""
        async with self._db.transaction() as tx:
            return await _grant(tx, team_id, grant_id)

    async def page(
        self, team_id: str, *, before: Cursor | None = None, limit: int = 50, open: bool = False
    ) -> list[Grant]:
        """A team's grants, newest first. `open`: those that are not spent, expired or voided."""
        place = {"before_time": before and before.at, "before_id": before and before.id}
        params = place | {"team_id": team_id, "grant_id": None, "open": open, "limit": limit}
        return [Grant.model_validate(row) for row in await self._db.all(_SQL.grants, params)]

    async def end_expired(self) -> int:
        """Take back what is left of grants past their time, and roll over what their terms say. Returns how many entries it made.

        Any number of workers may do so at once: each credit is taken back once.
        """
        entries = 0
        while rows := await self._db.all(_SQL.expired_grants, {"limit": _SWEEP_BATCH}):
            for row in rows:
                async with self._db.transaction() as tx:
                    entries += await _end(tx, row["team_id"], row["grant_id"])
        return entries


async def earlier_entry(tx: Transaction, team_id: str, idempotency_key: str | None) -> CreditTransaction | None:
    """The entry that this key made, if there is one."""
    if idempotency_key is None:
        return None
    row = await tx.one(_SQL.earlier_entry, {"team_id": team_id, "idempotency_key": idempotency_key})
    return CreditTransaction.model_validate(row) if row else None


async def add_grant(
    tx: Transaction,
    team_id: str,
    credits: Decimal,
    *,
    reason: str,
    terms: Terms = Terms(),
    idempotency_key: str | None = None,
) -> DbRow:
    """As `Grants.grant`, in a transaction that does more and has locked the balance or just made it."""
    params = _grant_params(team_id, credits, reason, terms, TransactionType.allocation, idempotency_key)
    row = await tx.one(_SQL.grant, params)
    assert row is not None
    return row


async def take_back(
    tx: Transaction,
    team_id: str,
    takes: Iterable[tuple[UUID, Decimal]],
    *,
    transaction_type: TransactionType,
    reason: str,
    idempotency_key: str | None = None,
) -> CreditTransaction | None:
    """Take these credits from these grants, as one entry; None when that is nothing. The transaction has locked the balance."""
    takes = list(takes)
    params = {
        "team_id": team_id,
        "grant_ids": [grant_id for grant_id, _ in takes],
        "amounts": [credits for _, credits in takes],
        "grant_id": takes[0][0] if len(takes) == 1 else None,
        "transaction_type": transaction_type,
        "reason": reason,
        "idempotency_key": idempotency_key,
    }
    row = await tx.one(_SQL.take_back, params)
    return CreditTransaction.model_validate(row) if row else None


async def _end(tx: Transaction, team_id: str, grant_id: UUID) -> int:
    await tx.one(_SQL.lock_account, {"team_id": team_id})
    row = await tx.one(_SQL.lock_expired_grant, {"grant_id": grant_id})
    if row is None:
        return 0
    entries = 0
    if row["credits_left"]:
        taken = [(grant_id, row["credits_left"])]
        voided = row["voided_at"] is not None
        kind, reason = (TransactionType.void, "Voided") if voided else (TransactionType.expiry, "Expired")
        await take_back(tx, team_id, taken, transaction_type=kind, reason=f"{reason}: {row['reason']}"[:500])
        entries = 1
        rolled = (
            Decimal(0) if voided else _rolls_over(row["credits_taken"], row["credits_left"], row["rollover_credits"])
        )
        if rolled:
            life = row["rollover_days"]
            terms = Terms(
                kind=row["kind"],
                priority=row["priority"],
                expires_at=None if life is None else row["expires_at"] + timedelta(days=life),
                model_aliases=row["model_aliases"],
                job_types=row["job_types"],
            )
            await add_grant(tx, team_id, rolled, reason=f"Rolled over: {row['reason']}"[:500], terms=terms)
            entries = 2
    await tx.all(_SQL.end_grant, {"grant_id": grant_id})
    return entries


def _pays_ever(terms: Terms) -> bool:
    now = datetime.now(UTC)
    return terms.expires_at is None or terms.expires_at > max(terms.effective_at or now, now)


def _rolls_over(taken: Decimal, left: Decimal, most: Decimal) -> Decimal:
    """How much of what is left rolls over: what sweeps took before, while calls held the rest, counts towards the most."""
    return min(taken + left, most) - min(taken, most)


async def _lock(tx: Transaction, team_id: str) -> None:
    if await tx.one(_SQL.lock_account, {"team_id": team_id}) is None:
        raise NotFound(what="team", id=team_id)


async def _grants(tx: Transaction, team_id: str, grant_id: UUID | None = None) -> list[Grant]:
    place = {"before_time": None, "before_id": None, "open": False, "limit": _ALL}
    rows = await tx.all(_SQL.grants, place | {"team_id": team_id, "grant_id": grant_id})
    return [Grant.model_validate(row) for row in rows]


async def _grant(tx: Transaction, team_id: str, grant_id: UUID) -> Grant:
    for grant in await _grants(tx, team_id, grant_id):
        return grant
    raise NotFound(what="grant", id=grant_id)


def _grant_params(
    team_id: str,
    credits: Decimal,
    reason: str,
    terms: Terms,
    transaction_type: TransactionType,
    idempotency_key: str | None,
) -> DbRow:
    return asdict(terms) | {
        "team_id": team_id,
        "credits": credits,
        "reason": reason,
        "transaction_type": transaction_type,
        "idempotency_key": idempotency_key,
        "model_aliases": list(terms.model_aliases),
        "job_types": list(terms.job_types),
    }
