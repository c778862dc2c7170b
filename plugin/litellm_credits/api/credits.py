"""/credits: what changes a balance by hand or by itself (admin), and what a team may read of its own."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, Field, model_validator

from litellm_credits.api.access import ReadableTeamId, any_key, needs_admin
from litellm_credits.api.answers import documented
from litellm_credits.api.fields import Before, Credits, Limit, Moment, Name, RequestModel, Text255, Text500
from litellm_credits.api.route import Route
from litellm_credits.api.services import InServices
from litellm_credits.db.cursors import next_cursor
from litellm_credits.errors import BadInput, NotFound
from litellm_credits.ledger.grants import PLAIN_PRIORITY, Grant, Terms
from litellm_credits.ledger.refills import RefillTerms
from litellm_credits.models import (
    CreditTransaction,
    GrantKind,
    Refill,
    RefillPeriod,
    RefillRequest,
    RefillRequestStatus,
    Row,
    TeamCredits,
)

refund_router = APIRouter(prefix="/credits", tags=["credits"], route_class=Route, dependencies=[Depends(needs_admin)])
admin_router = APIRouter(
    prefix="/credits/teams", tags=["credits"], route_class=Route, dependencies=[Depends(needs_admin)]
)
router = APIRouter(prefix="/credits/teams", tags=["credits"], route_class=Route, dependencies=[Depends(any_key)])

_MOST_SHOWN = 200
_LONGEST_DAYS = {RefillPeriod.daily: 1, RefillPeriod.weekly: 7, RefillPeriod.monthly: 31}
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


class NewGrant(Addition):
    """Credits to give, and what they are good for."""

    reason: Text500 = "Grant"
    kind: GrantKind = GrantKind.paid
    priority: Annotated[int, Field(strict=True, ge=0, le=1000)] = Field(
        PLAIN_PRIORITY, description="Lower burns first; then the earlier expiry, then the earlier creation."
    )
    effective_at: Moment | None = Field(None, description="From then on it pays; default: now.")
    expires_at: Moment | None = Field(None, description="Then, what is neither spent nor held is taken back.")
    model_aliases: Annotated[list[Name], Field(max_length=100)] = Field(
        [], description="It pays only for calls that nothing but these aliases can serve; empty: for any."
    )
    job_types: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=100)] = Field(
        [], description="It pays only for jobs of these types and their calls; empty: for any."
    )
    rollover_credits: Annotated[Credits, Field(ge=0)] = Field(
        Decimal(0), description="At expiry, at most this much of what is left becomes a new grant, once."
    )
    rollover_days: Annotated[int, Field(strict=True, ge=1, le=3660)] | None = Field(
        None, description="How long that new grant lives; unset: it does not expire."
    )


class Voiding(RequestModel):
    """Why."""

    reason: Text500 = "Voided"


class Refunding(RequestModel):
    """What to give back: of a call, or of a job with its calls."""

    call_id: UUID | None = None
    job_id: UUID | None = None
    credits: Annotated[Credits, Field(gt=0)] | None = Field(None, description="Unset: all that is left to give back.")
    reason: Text500
    idempotency_key: Text255 | None = Field(None, description=_ONCE)

    @model_validator(mode="after")
    def _one_of_both(self) -> "Refunding":
        if (self.call_id is None) == (self.job_id is None):
            raise ValueError("name either a call_id or a job_id")
        return self


class NewRefill(RequestModel):
    """When credits come by themselves: each period, or on request when the balance falls low, or both."""

    period: RefillPeriod | None = Field(None, description="daily, weekly or monthly, in UTC.")
    credits: Annotated[Credits, Field(gt=0)] | None = Field(None, description="Granted each period.")
    starts_at: Moment | None = Field(None, description="When the first period begins; the others are counted from it.")
    kind: GrantKind = GrantKind.paid
    lapses: bool = Field(False, description="Each grant expires when the next one comes.")
    rollover_credits: Annotated[Credits, Field(ge=0)] = Field(
        Decimal(0), description="With lapses: at most this much of what is left stays, without expiry."
    )
    threshold: Annotated[Credits, Field(ge=0)] | None = Field(None, description="Below it, a refill request is made.")
    target: Annotated[Credits, Field(gt=0)] | None = Field(None, description="What the request lifts the balance to.")
    monthly_cap: Annotated[Credits, Field(gt=0)] | None = Field(
        None, description="The most that is asked for in a calendar month (UTC)."
    )

    @model_validator(mode="after")
    def _complete(self) -> "NewRefill":
        if not (self.period is None) == (self.credits is None) == (self.starts_at is None):
            raise ValueError("period, credits and starts_at belong together")
        if (self.threshold is None) != (self.target is None):
            raise ValueError("threshold and target belong together")
        if self.threshold is not None and self.target is not None and self.target <= self.threshold:
            raise ValueError("target must be above threshold")
        if self.period is None and self.threshold is None:
            raise ValueError("name a period, a threshold, or both")
        if self.rollover_credits and not (self.period and self.lapses):
            raise ValueError("rollover_credits: what does not lapse does not roll over")
        if self.monthly_cap is not None and self.threshold is None:
            raise ValueError("monthly_cap: without a threshold nothing is asked for")
        return self


class CurrentRefill(BaseModel):
    """A team's automatic refills, if it has any."""

    team_id: str
    refill: Refill | None


class Granted(BaseModel):
    """A grant and its ledger entry."""

    grant: Grant
    transaction: CreditTransaction


class GrantPage(BaseModel):
    """A page of a team's grants, newest first."""

    team_id: str
    grants: list[Grant]
    next_cursor: str | None


class Refunded(BaseModel):
    """The ledger entry of a refund."""

    team_id: str
    credits_refunded: Decimal
    credits_remaining: Decimal = Field(description="Right after this entry.")
    transaction: CreditTransaction


class RequestPage(BaseModel):
    """A page of refill requests, newest first."""

    requests: list[RefillRequest]
    next_cursor: str | None


class Fulfilment(RequestModel):
    """How it was paid."""

    reason: Text500 = "Refill request paid"


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
    """A balance in credits, in whole and by grant."""

    credits_available: Decimal = Field(
        description="What any call can hold now: of the plain balance, its overdraft, and the unrestricted grants."
    )
    grants: list[Grant] = Field(description="Those that are not spent, expired or voided: the 200 newest.")


class Ledger(Row):
    """A page of a team's ledger, newest first."""

    team_id: str
    transactions: list[CreditTransaction]
    next_cursor: int | None


@admin_router.post("/{team_id}/add", responses=documented(404, 409))
async def add(team_id: str, request: Addition, services: InServices) -> Added:
    """Add credits: a paid grant that pays for anything and does not expire."""
    entry = await services.grants.grant(
        team_id, request.credits, reason=request.reason, idempotency_key=request.idempotency_key
    )
    return Added(
        team_id=team_id,
        credits_added=entry.credits_amount,
        credits_remaining=entry.credits_after,
        transaction=entry,
    )


@admin_router.post("/{team_id}/adjust", responses=documented(404, 409))
async def adjust(team_id: str, request: Adjustment, services: InServices) -> Adjusted:
    """Correct a balance; downwards no further than what is neither spent nor held of the plain balance."""
    entry = await services.grants.adjust(
        team_id, request.credits, reason=request.reason, idempotency_key=request.idempotency_key
    )
    return Adjusted(
        team_id=team_id,
        credits_adjusted=entry.credits_amount,
        credits_remaining=entry.credits_after,
        transaction=entry,
    )


@admin_router.post("/{team_id}/grants", responses=documented(404, 409))
async def grant(team_id: str, request: NewGrant, services: InServices) -> Granted:
    """Give credits on terms: a time, a purpose, a place in the order in which grants burn."""
    terms = Terms(**{name: getattr(request, name) for name in Terms.__dataclass_fields__})
    if request.rollover_credits and request.expires_at is None:
        raise BadInput(problem="rollover_credits: what does not expire does not roll over", param="rollover_credits")
    await services.aliases.require(request.model_aliases, param="model_aliases")
    entry = await services.grants.grant(
        team_id, request.credits, reason=request.reason, terms=terms, idempotency_key=request.idempotency_key
    )
    assert entry.grant_id is not None
    return Granted(grant=await services.grants.get(entry.grant_id, team_id=team_id), transaction=entry)


@admin_router.post("/{team_id}/grants/{grant_id}/void", responses=documented(404, 409))
async def void(team_id: str, grant_id: str, services: InServices, request: Voiding | None = None) -> Grant:
    """Take back what is neither spent nor held of a grant. Again: nothing changes."""
    reason = (request or Voiding()).reason
    return await services.grants.void(_id(grant_id, "grant"), team_id=team_id, reason=reason)


@refund_router.post("/refund", responses=documented(404, 409))
async def refund(request: Refunding, services: InServices) -> Refunded:
    """Give back what a call or a job was charged, in whole or in part, to the grants that paid."""
    entry = await services.refunds.refund(**request.model_dump())
    return Refunded(
        team_id=entry.team_id,
        credits_refunded=entry.credits_amount,
        credits_remaining=entry.credits_after,
        transaction=entry,
    )


@admin_router.put("/{team_id}/refill", responses=documented(404))
async def set_refill(team_id: str, request: NewRefill, services: InServices) -> Refill:
    """Replace the team's automatic refills. The same period and start go on where they are."""
    await services.teams.require(team_id)
    current = await services.refills.get(team_id)
    if current is None or (current.period, current.starts_at) != (request.period, request.starts_at):
        _check_start(request)
    return await services.refills.set(team_id, RefillTerms(**request.model_dump()))


@admin_router.delete("/{team_id}/refill", responses=documented(404))
async def delete_refill(team_id: str, services: InServices) -> dict[str, str]:
    """End the team's automatic refills; what they gave stays."""
    await services.teams.require(team_id)
    await services.refills.delete(team_id)
    return {"team_id": team_id, "message": f"Refills of team '{team_id}' ended"}


@refund_router.get("/refill-requests")
async def refill_requests(
    services: InServices, before: Before, status: RefillRequestStatus | None = None, limit: Limit = 50
) -> RequestPage:
    """All teams' refill requests, newest first."""
    rows = await services.refills.requests(None, status=status, before=before, limit=limit)
    return RequestPage(requests=rows, next_cursor=next_cursor(rows, limit, "request_id"))


@admin_router.post("/{team_id}/refill-requests/{request_id}/fulfil", responses=documented(404, 409))
async def fulfil(team_id: str, request_id: str, services: InServices, request: Fulfilment | None = None) -> Added:
    """Answer a refill request with the credits it asks for, and close it. Again: the same answer."""
    await services.teams.require(team_id)
    reason = (request or Fulfilment()).reason
    entry = await services.refills.fulfil(team_id, _id(request_id, "refill request"), reason=reason)
    return Added(
        team_id=team_id,
        credits_added=entry.credits_amount,
        credits_remaining=entry.credits_after,
        transaction=entry,
    )


@router.get("/{team_id}/balance", responses=documented(403, 404))
async def balance(team_id: ReadableTeamId, services: InServices) -> Balance:
    """The team's balance."""
    row = await services.ledger.balance(team_id)
    grants = await services.grants.page(team_id, limit=_MOST_SHOWN, open=True)
    return Balance.model_validate({**row, "grants": grants})


@router.get("/{team_id}/grants", responses=documented(403, 404))
async def grants(team_id: ReadableTeamId, services: InServices, before: Before, limit: Limit = 50) -> GrantPage:
    """The team's grants, newest first, with what is used and held of each."""
    rows = await services.grants.page(team_id, before=before, limit=limit)
    return GrantPage(team_id=team_id, grants=rows, next_cursor=next_cursor(rows, limit, "grant_id"))


@router.get("/{team_id}/refill", responses=documented(403, 404))
async def refill(team_id: ReadableTeamId, services: InServices) -> CurrentRefill:
    """The team's automatic refills."""
    return CurrentRefill(team_id=team_id, refill=await services.refills.get(team_id))


@router.get("/{team_id}/refill-requests", responses=documented(403, 404))
async def own_refill_requests(
    team_id: ReadableTeamId,
    services: InServices,
    before: Before,
    status: RefillRequestStatus | None = None,
    limit: Limit = 50,
) -> RequestPage:
    """The team's refill requests, newest first."""
    rows = await services.refills.requests(team_id, status=status, before=before, limit=limit)
    return RequestPage(requests=rows, next_cursor=next_cursor(rows, limit, "request_id"))


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


def _check_start(request: NewRefill) -> None:
    """Raises BadInput for a start so long ago that several periods would be granted at once."""
    if request.period is None or request.starts_at is None:
        return
    if request.starts_at < datetime.now(UTC) - timedelta(days=_LONGEST_DAYS[request.period]):
        raise BadInput(
            problem="starts_at lies more than a period back, and all since would be granted at once: "
            "name the beginning of the current period, or a later time",
            param="starts_at",
        )


def _id(text: str, what: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(what=what, id=text) from None
