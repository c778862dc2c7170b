"""The life of a job: created, worked on by calls, completed once, deleted.

Every method takes the team on whose behalf it acts; None is the operator, who may act on any team's jobs.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import Field

from litellm_credits import money
from litellm_credits.db.cursors import Cursor
from litellm_credits.db.database import Database, Transaction
from litellm_credits.db.database import Row as DbRow
from litellm_credits.db.queries import load
from litellm_credits.errors import (
    BadInput,
    JobCannotBeHeld,
    JobClosed,
    JobNotYours,
    NotFound,
    StillInUse,
    TooMuchHeld,
)
from litellm_credits.ledger.calls import Ending
from litellm_credits.ledger.statements import settle_params
from litellm_credits.models import CallBasis, CallStatus, Job, JobExpiry, JobStatus, Row
from litellm_credits.pricing.plan import Plan

MOST_METADATA_BYTES = 65_536
"""The most that a job's metadata may be, as PostgreSQL prints it."""

_SQL = load("jobs")
_LEDGER = load("ledger")
_OPEN = (JobStatus.pending, JobStatus.in_progress)
_MOST_SUMMARIES = 1000
_MOST_PARTS = 100
_SWEEP_BATCH = 500


class JobCosts(Row):
    """What the calls of a job add up to."""

    total_calls: int
    successful_calls: int = Field(description="Settled without an error.")
    failed_calls: int = Field(description="Voided, expired, or settled with an error. The rest is in flight.")
    total_tokens: int
    total_cost_usd: Decimal
    avg_latency_ms: int
    credits_charged: Decimal = Field(description="To the calls, and as the price of the job.")


class PartCosts(Row):
    """What some of a job's calls add up to."""

    count: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal
    credits_charged: Decimal


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs of a team, or of an organization's teams; None filters nothing. From `start` to before `end`."""

    status: JobStatus | None = None
    job_type: str | None = None
    user_id: str | None = None
    external_task_id: str | None = None
    parent_job_id: UUID | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls, likewise."""

    status: CallStatus | None = None
    model_alias: str | None = None
    purpose: str | None = None
    key_id: UUID | None = None
    flag: str | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose: a team's, or an organization's teams'."""

    team_id: str | None = None
    organization_id: str | None = None


class CallSummary(Row):
    """A call, as its job's summary shows it."""

    call_id: UUID
    purpose: str | None
    model_alias: str
    model_group_used: str
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cost_usd: Decimal | None
    credits_charged: Decimal
    latency_ms: int | None
    status: CallStatus
    basis: CallBasis | None
    error: dict[str, Any] | None
    created_at: datetime


class CallView(Row):
    """A call, without what was asked and answered, as its team may see it."""

    call_id: UUID
    job_id: UUID | None
    team_id: str
    key_id: UUID | None
    litellm_call_id: str | None
    endpoint: str
    purpose: str | None
    status: CallStatus
    basis: CallBasis | None
    policy: str | None
    flags: list[str]
    requested_model: str
    model_group_used: str
    model_alias: str
    resolved_model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    audio_input_tokens: int | None
    audio_output_tokens: int | None
    units: dict[str, Any] | None
    pricing_input: Decimal
    pricing_output: Decimal
    pricing_rates: dict[str, Any] | None
    cost_usd: Decimal | None
    credits_held: Decimal
    credits_charged: Decimal
    credits_uncollected: Decimal
    stream: bool
    latency_ms: int | None
    time_to_first_token_ms: int | None
    error: dict[str, Any] | None
    created_at: datetime
    settled_at: datetime | None


class CallRecord(CallView):
    """A call, with what was asked and answered, as far as it was recorded."""

    request_data: dict[str, Any] | None
    response_data: dict[str, Any] | None


class _ProviderCost(Row):
    provider_cost_usd: Decimal | None = Field(description="What LiteLLM says the provider charges. The admin sees it.")


class AdminCallView(CallView, _ProviderCost):
    """The same as the admin sees it."""


class AdminCallRecord(CallRecord, _ProviderCost):
    """The same as the admin sees it."""


class Jobs:
    """All jobs of all teams."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(
        self,
        team_id: str,
        *,
        job_type: str,
        user_id: str | None,
        external_task_id: str | None,
        metadata: dict[str, Any],
        parent_job_id: UUID | None = None,
        credit_cap: Decimal | None = None,
        expires_at: datetime | None = None,
        on_expiry: JobExpiry = JobExpiry.cancel,
    ) -> Job:
        """Open a job, as a part of another if `parent_job_id` says so, and hold what its team's plan charges for it and what
        its calls may cost at most, if that is said.

        Raises:
            NotFound: no such team, or no such parent.
            JobNotYours: the parent is another team's.
            BadInput: a cap on calls that cost nothing, or an expiry that has passed.
            JobCannotBeHeld: not enough credits.
            TooMuchHeld: the plan's guard; trying again later helps.
        """
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise BadInput(problem="expires_at has passed already", param="expires_at")
        if parent_job_id is not None:
            await self.get(parent_job_id, team_id=team_id)
        facts = {
            "team_id": team_id,
            "parent_job_id": parent_job_id,
            "job_type": job_type,
            "user_id": user_id,
            "external_task_id": external_task_id,
            "metadata": _json(metadata),
            "expires_at": expires_at,
            "on_expiry": on_expiry,
        }
        async with self._db.transaction() as tx:
            team = await tx.one(_SQL.plan_of, {"team_id": team_id})
            if team is None:
                raise NotFound(what="team", id=team_id, param="team_id")
            plan = Plan.of(team["plan"])
            if credit_cap is not None and plan.calls_included:
                raise BadInput(
                    problem="credit_cap: the price of a job pays for its calls on this team's plan", param="credit_cap"
                )
            money = plan.job_price(job_type) is not None or credit_cap is not None
            if money and await tx.one(_LEDGER.lock_account, {"team_id": team_id}) is None:
                raise NotFound(what="team", id=team_id, param="team_id")
            row = await tx.one(_SQL.create_job, facts)
            if row is None:  # gone meanwhile
                missing = ("job", parent_job_id, "parent_job_id") if parent_job_id else ("team", team_id, "team_id")
                raise NotFound(what=missing[0], id=missing[1], param=missing[2])
            if money:
                row = await _fund(tx, row, plan, credit_cap)
        return Job.model_validate(row)

    async def get(self, job_id: UUID, *, team_id: str | None) -> Job:
        """One job.

        Raises:
            NotFound: there is none of that id.
            JobNotYours: it is another team's.
        """
        row = await self._db.one(_SQL.job, {"job_id": job_id})
        if row is None:
            raise NotFound(what="job", id=job_id)
        if team_id is not None and row["team_id"] != team_id:
            raise JobNotYours(job_id=job_id)
        return Job.model_validate(row)

    async def page(self, owner: Owner, wanted: JobFilter, *, before: Cursor | None, limit: int) -> list[Job]:
        """Jobs, newest first."""
        rows = await self._db.all(_SQL.jobs, asdict(owner) | asdict(wanted) | {"limit": limit} | _before(before))
        return [Job.model_validate(row) for row in rows]

    async def merge_metadata(self, job_id: UUID, metadata: dict[str, Any], *, team_id: str | None) -> Job:
        """Set these keys of the job's metadata, whatever its status.

        Raises:
            NotFound, JobNotYours: as `get`.
            BadInput: the metadata would grow beyond MOST_METADATA_BYTES.
        """
        await self.get(job_id, team_id=team_id)
        change = {"job_id": job_id, "metadata": _json(metadata), "most_bytes": MOST_METADATA_BYTES}
        row = await self._db.one(_SQL.merge_metadata, change)
        if row is None:
            await self.get(job_id, team_id=team_id)
            raise _metadata_too_large()
        return Job.model_validate(row)

    async def complete(
        self,
        job_id: UUID,
        *,
        status: JobStatus,
        metadata: dict[str, Any],
        error_message: str | None,
        team_id: str | None,
    ) -> Job:
        """Close a job, once: completed, its price is charged; else it is released. Its calls in flight go on, and end as
        they would have; what they do not use is the team's again. Closing it again with the same status changes nothing.

        Raises:
            NotFound, JobNotYours: as `get`.
            JobClosed: it was closed with another status.
            BadInput: the metadata would grow beyond MOST_METADATA_BYTES.
        """
        job = await self.get(job_id, team_id=team_id)
        change = {"job_id": job_id, "team_id": job.team_id, "status": status, "error_message": error_message}
        size = {"metadata": _json(metadata), "most_bytes": MOST_METADATA_BYTES}
        row = await self._db.one(_LEDGER.close_job, change | size | {"expired": False})
        if row is not None:
            return Job.model_validate(row)
        job = await self.get(job_id, team_id=team_id)
        if job.status in _OPEN:
            raise _metadata_too_large()
        if job.status != status:
            raise JobClosed(job_id=job_id, state=job.status.value, param="status")
        return job

    async def delete(self, job_id: UUID, *, team_id: str | None) -> None:
        """Delete a job with its calls; the ledger entries of these stay.

        The operator may do so while calls are in flight: what they hold is given back and they are not charged. A team
        may not: it could have its answers for nothing.

        Raises:
            NotFound, JobNotYours: as `get`.
            StillInUse: a team's job has calls in flight.
        """
        job = await self.get(job_id, team_id=team_id)
        key = {"job_id": job_id, "team_id": job.team_id}
        async with self._db.transaction() as tx:
            await tx.all(_LEDGER.lock_account, {"team_id": job.team_id})
            if await tx.one(_SQL.lock_job, key) is None:
                raise NotFound(what="job", id=job_id)
            calls = await tx.all(_LEDGER.calls_in_flight, key)
            if team_id is not None and calls:
                raise StillInUse(what="job", id=job_id, users=f"{len(calls)} calls in flight")
            for call in calls:
                await tx.all(_LEDGER.settle, settle_params(Ending(**call)))
            cancel = {"status": JobStatus.cancelled, "error_message": None, "metadata": "{}", "expired": False}
            await tx.all(_LEDGER.close_job, key | cancel | {"most_bytes": 2 * MOST_METADATA_BYTES})
            await tx.all(_SQL.delete_job, key)

    async def end_expired(self) -> int:
        """Close the open jobs whose time has come, as each says. Returns how many this call closed; any number of workers may."""
        closed = 0
        size = {"status": None, "error_message": None, "metadata": "{}", "most_bytes": 2 * MOST_METADATA_BYTES}
        while rows := await self._db.all(_LEDGER.expired_jobs, {"limit": _SWEEP_BATCH}):
            for row in rows:
                closed += await self._db.one(_LEDGER.close_job, row | size | {"expired": True}) is not None
        return closed

    async def costs(self, job_id: UUID) -> JobCosts:
        """What the job's calls add up to now."""
        return JobCosts.model_validate(await self._db.one(_SQL.job_costs, {"job_id": job_id}))

    async def costs_by(self, job_id: UUID, *, purpose: bool) -> dict[str, PartCosts]:
        """The same by purpose, else by model alias; calls without a purpose under the empty name."""
        rows = await self._db.all(_SQL.job_costs_by, {"job_id": job_id, "by_purpose": purpose, "limit": _MOST_PARTS})
        return {row["name"] or "": PartCosts.model_validate(row) for row in rows}

    async def call_summaries(self, job_id: UUID) -> list[CallSummary]:
        """The job's first 1,000 calls, oldest first."""
        rows = await self._db.all(_SQL.job_call_summaries, {"job_id": job_id, "limit": _MOST_SUMMARIES})
        return [CallSummary.model_validate(row) for row in rows]

    async def calls(
        self, job_id: UUID, *, after: Cursor | None, limit: int, view: type[CallRecord]
    ) -> list[CallRecord]:
        """The job's calls, oldest first."""
        start = {"after_time": after and after.at, "after_id": after and after.id}
        rows = await self._db.all(_SQL.job_calls, {"job_id": job_id, "limit": limit} | start)
        return [view.model_validate(row) for row in rows]

    async def all_calls(
        self, owner: Owner, wanted: CallFilter, *, before: Cursor | None, limit: int, view: type[CallView]
    ) -> list[CallView]:
        """Calls of all jobs and of none, newest first."""
        rows = await self._db.all(_SQL.team_calls, asdict(owner) | asdict(wanted) | {"limit": limit} | _before(before))
        return [view.model_validate(row) for row in rows]


async def _fund(tx: Transaction, job: DbRow, plan: Plan, credit_cap: Decimal | None) -> DbRow:
    price = plan.job_price(job["job_type"]) or Decimal(0)
    credits = price + (credit_cap or Decimal(0))
    key = {"job_id": job["job_id"], "team_id": job["team_id"], "job_type": job["job_type"], "credits": credits}
    outcome = await tx.one(_LEDGER.fund_job, key)
    assert outcome is not None
    facts = {"required": credits, "available": outcome["available"], "held": outcome["held"]}
    if outcome["refusal"] == "held_share":
        raise TooMuchHeld(team_id=job["team_id"], **facts)
    if outcome["refusal"] is not None:
        raise JobCannotBeHeld(**facts)
    terms = {"credit_cap": credit_cap, "credits_price": price, "calls_included": plan.calls_included}
    row = await tx.one(_LEDGER.set_job_money, key | terms)
    assert row is not None
    return row


def _before(cursor: Cursor | None) -> DbRow:
    return {"before_time": cursor and cursor.at, "before_id": cursor and cursor.id}


def _json(metadata: dict[str, Any]) -> str:
    return money.dumps(metadata).decode()


def _metadata_too_large() -> BadInput:
    return BadInput(problem=f"metadata would grow beyond {MOST_METADATA_BYTES} bytes", param="metadata")
