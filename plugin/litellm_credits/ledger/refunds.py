"""Giving back what calls and jobs were charged: never more than that, to the grants that paid, the last burnt first.

What an expired grant had paid comes back as a plain compensation grant: given back to the expired one, it would be lost at once.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from litellm_credits.db.database import Database, Transaction
from litellm_credits.db.database import Row as DbRow
from litellm_credits.db.queries import load
from litellm_credits.errors import IdempotencyConflict, NotFound, NotRefundable
from litellm_credits.ledger.grants import Terms, add_grant, earlier_entry, take_back
from litellm_credits.models import CreditTransaction, GrantKind, TransactionType

_SQL = load("ledger")
_JOBS = load("jobs")


@dataclass(frozen=True, slots=True)
class _Part:
    """Credits that one grant paid of one charge. `grant_id` None: the plain balance."""

    holder_id: UUID
    grant_id: UUID | None
    credits: Decimal
    expired: bool = False


class Refunds:
    """Refunds of all teams' calls and jobs."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def refund(
        self,
        *,
        call_id: UUID | None = None,
        job_id: UUID | None = None,
        credits: Decimal | None = None,
        reason: str,
        idempotency_key: str | None = None,
    ) -> CreditTransaction:
        """Give back `credits`, or all that is left to give back, of a call or of a job; once per `idempotency_key`.

        Of a job: its calls, the newest first, after its price. Returns the ledger entry.

        Raises:
            NotFound: no such call or job.
            NotRefundable: more than was charged and not refunded yet, or nothing is left.
            IdempotencyConflict: the key was used before for something else.
        """
        what, id = ("call", call_id) if call_id is not None else ("job", job_id)
        async with self._db.transaction() as tx:
            team_id = await self._lock(tx, what, id)
            earlier = await earlier_entry(tx, team_id, idempotency_key)
            if earlier is not None:
                same = earlier.transaction_type is TransactionType.refund and credits in (None, earlier.credits_amount)
                if not same or (earlier.call_id, earlier.job_id)[what == "job"] != id:
                    raise IdempotencyConflict(key=idempotency_key, param="idempotency_key")
                return earlier
            if what == "call":
                charges = await tx.all(_SQL.refundable_call, {"call_id": id})
                job_id = charges[0]["job_id"]
            else:
                charges = await tx.all(_SQL.refundable_job, {"job_id": id})
            available = sum((charge["credits"] for charge in charges), Decimal(0))
            credits = available if credits is None else credits
            if not 0 < credits <= available:
                raise NotRefundable(what=what, id=id, required=credits, available=available, param="credits")
            entry = {"team_id": team_id, "call_id": call_id, "job_id": job_id, "credits": credits}
            return await _give_back(tx, charges, entry | {"reason": reason, "idempotency_key": idempotency_key})

    async def _lock(self, tx: Transaction, what: str, id: UUID | None) -> str:
        """Lock the balance that paid, and then the job that was paid for. Returns the team."""
        query, key = (_SQL.call_team, "call_id") if what == "call" else (_JOBS.job, "job_id")
        row = await tx.one(query, {key: id})
        if row is None or await tx.one(_SQL.lock_account, {"team_id": row["team_id"]}) is None:
            raise NotFound(what=what, id=id, param=key)
        if what == "job" and await tx.one(_JOBS.lock_job, {"job_id": id}) is None:
            raise NotFound(what=what, id=id, param=key)
        return str(row["team_id"])


async def _give_back(tx: Transaction, charges: list[DbRow], entry: dict[str, Any]) -> CreditTransaction:
    left, parts = entry["credits"], []
    for charge in charges:
        refund = min(charge["credits"], left)
        left -= refund
        if not refund:
            break
        holder_id = charge["call_id"] or entry["job_id"]
        if charge["call_id"] is None:
            await tx.all(_SQL.refund_job, {"job_id": holder_id, "credits": refund})
        else:
            await tx.all(_SQL.refund_call, {"call_id": holder_id, "credits": refund})
        parts += _payers(
            await tx.all(_SQL.paying_grants, {"holder_id": holder_id}), holder_id, charge["credits"], refund
        )
    earmarked = [part for part in parts if part.grant_id is not None]
    for part in earmarked:
        await tx.all(
            _SQL.refund_grant, {"holder_id": part.holder_id, "grant_id": part.grant_id, "credits": part.credits}
        )
    sums = {"earmarked": sum((part.credits for part in earmarked), Decimal(0))}
    row = await tx.one(_SQL.refund_balance, entry | sums)
    for part in earmarked:
        if part.grant_id is not None and part.expired:
            await _compensate(tx, entry["team_id"], part.grant_id, part.credits)
    return CreditTransaction.model_validate(row)


def _payers(draws: list[DbRow], holder_id: UUID, charged: Decimal, refund: Decimal) -> list[_Part]:
    """Who of those that paid `charged` gets how much of `refund`: the last to burn first."""
    plain = charged - sum((draw["credits"] for draw in draws), Decimal(0))
    late = [draw for draw in draws if draw["burns_after_plain"]]
    early = [draw for draw in draws if not draw["burns_after_plain"]]
    queue = [*late, {"grant_id": None, "credits": plain, "expired": False}, *early]
    parts = []
    for payer in queue:
        credits = min(payer["credits"], refund)
        refund -= credits
        if credits:
            parts.append(_Part(holder_id, payer["grant_id"], credits, payer["expired"]))
    return parts


async def _compensate(tx: Transaction, team_id: str, grant_id: UUID, credits: Decimal) -> None:
    await take_back(
        tx, team_id, [(grant_id, credits)], transaction_type=TransactionType.expiry, reason="Refunded after its expiry"
    )
    terms = Terms(kind=GrantKind.compensation)
    await add_grant(tx, team_id, credits, reason="Refund of credits that have expired", terms=terms)
