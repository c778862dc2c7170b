"""/jobs: for a team on its own jobs, and for the admin on any team's."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from litellm_credits.api.access import OwnTeamId, PathJobId, TeamScope, any_key
from litellm_credits.api.answers import documented
from litellm_credits.api.fields import (
    After,
    Before,
    Credits,
    Limit,
    Metadata,
    Moment,
    RequestModel,
    Text255,
    WantedJobs,
)
from litellm_credits.api.lists import TeamJobPage, team_job_page
from litellm_credits.api.route import Route
from litellm_credits.api.services import InServices
from litellm_credits.db.cursors import next_cursor
from litellm_credits.errors import BadInput, Forbidden
from litellm_credits.jobs.jobs import AdminCallRecord, CallRecord, CallSummary, JobCosts, PartCosts
from litellm_credits.models import CallBasis, CallStatus, Job, JobExpiry, JobStatus

router = APIRouter(
    prefix="/jobs", tags=["jobs"], route_class=Route, dependencies=[Depends(any_key)], responses=documented(403)
)


class NewJob(RequestModel):
    """What a job is made of."""

    team_id: str | None = Field(None, description="A team's own; the admin says which team's job it is.")
    job_type: Annotated[str, Field(min_length=1, max_length=100)]
    user_id: Text255 | None = None
    external_task_id: Text255 | None = None
    parent_job_id: UUID | None = Field(None, description="A job of the same team that this one is part of.")
    metadata: Metadata = Field(default_factory=dict)
    credit_cap: Annotated[Credits, Field(ge=0)] | None = Field(
        None, description="The most that its calls may cost together, held from now on."
    )
    expires_at: Moment | None = Field(None, description="When it is closed if it is still open.")
    on_expiry: JobExpiry = Field(
        JobExpiry.cancel, description="What an expired job becomes: completed and charged, or cancelled and released."
    )


class MetadataChanges(RequestModel):
    """Keys to set."""

    metadata: Metadata


class Completion(RequestModel):
    """How a job ended."""

    status: Literal["completed", "failed", "cancelled"]
    metadata: Metadata = Field(default_factory=dict)
    error_message: Annotated[str, Field(max_length=1000)] | None = None


class CompletedCosts(JobCosts):
    """What the job's calls add up to, and what the team has left."""

    credits_remaining: Decimal


class CompletedCall(BaseModel):
    """A call of a completed job."""

    call_id: UUID
    purpose: str | None
    model_alias: str
    model_group: str
    tokens: int
    cost_usd: Decimal | None
    credits_charged: Decimal
    latency_ms: int | None
    status: CallStatus
    basis: CallBasis | None
    error: dict[str, Any] | None

    @classmethod
    def of(cls, call: CallSummary) -> "CompletedCall":
        """The same call, in this route's names."""
        names = {"model_group": call.model_group_used, "tokens": call.total_tokens or 0}
        return cls.model_validate(call.model_dump() | names)


class CompletedJob(BaseModel):
    """A completed job, its costs and its first 1,000 calls."""

    job_id: UUID
    status: JobStatus
    completed_at: datetime
    costs: CompletedCosts
    calls: list[CompletedCall]


class CallCost(BaseModel):
    """What one call cost."""

    call_id: UUID
    model: str
    purpose: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: Decimal | None
    credits_charged: Decimal
    created_at: datetime


class CostBreakdown(BaseModel):
    """All calls' cost, by model alias and by purpose too, and that of each of the first 1,000."""

    total_cost_usd: Decimal
    credits_charged: Decimal
    by_model: dict[str, PartCosts]
    by_purpose: dict[str, PartCosts] = Field(description="Calls without a purpose under the empty name.")
    breakdown: list[CallCost]


class JobCostReport(BaseModel):
    """What a job cost until now."""

    job_id: UUID
    team_id: str
    job_type: str
    status: JobStatus
    costs: CostBreakdown


class JobCalls(BaseModel):
    """A page of a job's calls, oldest first."""

    job_id: UUID
    calls: list[AdminCallRecord | CallRecord]
    next_cursor: str | None


@router.post("/create", responses=documented(402, 404, 429))
async def create(request: NewJob, services: InServices, scope: TeamScope) -> Job:
    """Open a job. Its calls name it in the header `x-job-id`."""
    team_id = request.team_id if request.team_id is not None else scope
    if team_id is None:
        raise BadInput(problem="team_id: say which team's job it is", param="team_id")
    if scope is not None and team_id != scope:
        raise Forbidden(reason=f"This key belongs to another team than '{team_id}'.", param="team_id")
    return await services.jobs.create(
        team_id,
        job_type=request.job_type,
        user_id=request.user_id,
        external_task_id=request.external_task_id,
        parent_job_id=request.parent_job_id,
        metadata=request.metadata,
        credit_cap=request.credit_cap,
        expires_at=request.expires_at,
        on_expiry=request.on_expiry,
    )


@router.get("")
async def list_own(
    team_id: OwnTeamId, services: InServices, wanted: WantedJobs, before: Before, limit: Limit = 50
) -> TeamJobPage:
    """The calling team's jobs, newest first."""
    return await team_job_page(services, team_id, wanted, before, limit)


@router.get("/{job_id}", responses=documented(404))
async def get(job_id: PathJobId, services: InServices, scope: TeamScope) -> Job:
    """One job."""
    return await services.jobs.get(job_id, team_id=scope)


@router.patch("/{job_id}/metadata", responses=documented(404))
async def merge_metadata(job_id: PathJobId, request: MetadataChanges, services: InServices, scope: TeamScope) -> Job:
    """Set keys of the metadata and leave the others, whatever the job's status."""
    return await services.jobs.merge_metadata(job_id, request.metadata, team_id=scope)


@router.post("/{job_id}/complete", responses=documented(404, 409))
async def complete(job_id: PathJobId, request: Completion, services: InServices, scope: TeamScope) -> CompletedJob:
    """Close a job. The same status again gives the same answer; another one is refused with 409."""
    job = await services.jobs.complete(
        job_id,
        status=JobStatus(request.status),
        metadata=request.metadata,
        error_message=request.error_message,
        team_id=scope,
    )
    assert job.completed_at is not None
    costs = await services.jobs.costs(job_id)
    balance = await services.ledger.balance(job.team_id)
    return CompletedJob(
        job_id=job_id,
        status=job.status,
        completed_at=job.completed_at,
        costs=CompletedCosts(**dict(costs), credits_remaining=balance["credits_remaining"]),
        calls=[CompletedCall.of(call) for call in await services.jobs.call_summaries(job_id)],
    )


@router.get("/{job_id}/costs", responses=documented(404))
async def costs(job_id: PathJobId, services: InServices, scope: TeamScope) -> JobCostReport:
    """What a job cost until now."""
    job = await services.jobs.get(job_id, team_id=scope)
    total = await services.jobs.costs(job_id)
    return JobCostReport(
        job_id=job_id,
        team_id=job.team_id,
        job_type=job.job_type,
        status=job.status,
        costs=CostBreakdown(
            total_cost_usd=total.total_cost_usd,
            credits_charged=total.credits_charged,
            by_model=await services.jobs.costs_by(job_id, purpose=False),
            by_purpose=await services.jobs.costs_by(job_id, purpose=True),
            breakdown=[
                CallCost.model_validate(call.model_dump() | {"model": call.model_alias})
                for call in await services.jobs.call_summaries(job_id)
            ],
        ),
    )


@router.get("/{job_id}/calls", responses=documented(404))
async def list_calls(
    job_id: PathJobId, services: InServices, scope: TeamScope, after: After, limit: Limit = 50
) -> JobCalls:
    """A job's calls, oldest first, with what was asked and answered as far as it was recorded."""
    await services.jobs.get(job_id, team_id=scope)
    view = AdminCallRecord if scope is None else CallRecord
    calls = await services.jobs.calls(job_id, after=after, limit=limit, view=view)
    return JobCalls(job_id=job_id, calls=calls, next_cursor=next_cursor(calls, limit, "call_id"))


@router.delete("/{job_id}", responses=documented(404, 409))
async def delete(job_id: PathJobId, services: InServices, scope: TeamScope) -> dict[str, str]:
    """Delete a job with its calls; their ledger entries stay. A team's job with calls in flight is refused with 409."""
    await services.jobs.delete(job_id, team_id=scope)
    return {"job_id": str(job_id), "message": f"Job '{job_id}' deleted"}
