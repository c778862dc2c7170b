"""/credits/teams/{team_id}: what changes a balance by hand (admin), and what a team may read of its own."""

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, Field

from litellm_credits.api.access import ReadableTeamId, any_key, needs_admin
from litellm_credits.api.answers import documented
from litellm_credits.api.fields import Credits, Limit, RequestModel, Text255, Text500
from litellm_credits.api.route import Route
from litellm_credits.api.services import InServices
from litellm_credits.models import CreditTransaction, Row, TeamCredits, TransactionType

admin_router = APIRouter(
    prefix="/credits/teams", tags=["credits"], route_class=Route, dependencies=[Depends(needs_admin)]
)
router = APIRouter(prefix="/credits/teams", tags=["credits"], route_class=Route, dependencies=[Depends(any_key)])

_ONCE = "Sent again with the same credits, the first entry is answered and nothing is repeated."


def _not_zero(credits: Decimal) -> Decimal:
    if credits == 0:
        raise ValueError("must not be 0")
    return credits


class Addition(RequestModel):
    """Credits to add."""

    credits: Annotated[Credits, Field(gt=0)]
    reason: Text500 = "Manual credit allocation"
    idempotency_key: Text255 | None = Field(None, description=_ONCE)


class Adjustment(RequestModel):
    """A correction, up or down."""

    credits: Annotated[Credits, AfterValidator(_not_zero)]
    reason: Text500
    idempotency_key: Text255 | None = Field(None, description=_ONCE)


class Added(BaseModel):
    """The ledger entry of an addition."""

    team_id: str
    credits_added: Decimal
    credits_remaining: Decimal = Field(description="Right after this entry.")
    transaction: CreditTransaction


class Adjusted(BaseModel):
    """The ledger entry of a correction."""

    team_id: str
    credits_adjusted: Decimal
    credits_remaining: Decimal = Field(description="Right after this entry.")
    transaction: CreditTransaction


class Balance(TeamCredits):
    """A balance in credits."""

    credits_available: Decimal = Field(description="What the next call can hold: remaining - held + overdraft_limit.")


class Ledger(Row):
    """A page of a team's ledger, newest first."""

    team_id: str
    transactions: list[CreditTransaction]
    next_cursor: int | None


@admin_router.post("/{team_id}/add", responses=documented(404, 409))
async def add(team_id: str, request: Addition, services: InServices) -> Added:
    """Add credits."""
    entry = await _grant(services, team_id, request, TransactionType.allocation)
    return Added(
        team_id=team_id,
        credits_added=entry.credits_amount,
        credits_remaining=entry.credits_after,
        transaction=entry,
    )


@admin_router.post("/{team_id}/adjust", responses=documented(404, 409))
async def adjust(team_id: str, request: Adjustment, services: InServices) -> Adjusted:
    """Correct a balance; downwards no further than what is neither spent nor held."""
    entry = await _grant(services, team_id, request, TransactionType.adjustment)
    return Adjusted(
        team_id=team_id,
        credits_adjusted=entry.credits_amount,
        credits_remaining=entry.credits_after,
        transaction=entry,
    )


@router.get("/{team_id}/balance", responses=documented(403, 404))
async def balance(team_id: ReadableTeamId, services: InServices) -> Balance:
    """The team's balance."""
    row = await services.ledger.balance(team_id)
    available = row["credits_remaining"] - row["credits_held"] + row["overdraft_limit"]
    return Balance.model_validate({**row, "credits_available": available})


@router.get("/{team_id}/transactions", responses=documented(403, 404))
async def transactions(
    team_id: ReadableTeamId,
    services: InServices,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="next_cursor of the page before.")] = None,
    limit: Limit = 50,
) -> Ledger:
    """The team's ledger, newest first."""
    rows = await services.ledger.transactions(team_id, before=before, limit=limit)
    entries = [CreditTransaction.model_validate(row) for row in rows]
    more = entries[-1].transaction_id if len(entries) == limit else None
    return Ledger(team_id=team_id, transactions=entries, next_cursor=more)


async def _grant(
    services: InServices, team_id: str, request: Addition | Adjustment, transaction_type: TransactionType
) -> CreditTransaction:
    entry = await services.ledger.grant(
        team_id,
        request.credits,
        transaction_type=transaction_type.value,
        reason=request.reason,
        idempotency_key=request.idempotency_key,
    )
    return CreditTransaction.model_validate(entry)
