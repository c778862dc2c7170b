"""The rows of the tables in the PostgreSQL schema "credits", written from schema.prisma by `make schema`."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """One row, as read."""

    model_config = ConfigDict(frozen=True)


class AccountStatus(StrEnum):
    active = "active"
    suspended = "suspended"
    paused = "paused"


class CatalogStatus(StrEnum):
    active = "active"
    inactive = "inactive"


class KeyStatus(StrEnum):
    active = "active"
    revoked = "revoked"


class JobStatus(StrEnum):
    pending = "pending"
    in_progress = "in_progress"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"


class CallStatus(StrEnum):
    held = "held"
    settled = "settled"
    voided = "voided"
    expired = "expired"


class CallBasis(StrEnum):
    """What the charge of a settled call was computed from."""

    provider_usage = "provider_usage"
    counted_output = "counted_output"
    held_estimate = "held_estimate"
    zero_output = "zero_output"
    cache_hit = "cache_hit"
    request_units = "request_units"


class TransactionType(StrEnum):
    allocation = "allocation"
    charge = "charge"
    refund = "refund"
    adjustment = "adjustment"
    closure = "closure"
    expiry = "expiry"
    void = "void"


class GrantKind(StrEnum):
    """Where credits come from."""

    paid = "paid"
    promotional = "promotional"
    compensation = "compensation"


class JobExpiry(StrEnum):
    """What becomes of an open job at its expires_at."""

    complete = "complete"
    cancel = "cancel"


class RefillPeriod(StrEnum):
    daily = "daily"
    weekly = "weekly"
    monthly = "monthly"


class RefillRequestStatus(StrEnum):
    open = "open"
    fulfilled = "fulfilled"
    withdrawn = "withdrawn"


class Organization(Row):
    """A customer of the operator; owns teams. Table credits.organizations."""

    organization_id: str
    name: str
    status: AccountStatus
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class Team(Row):
    """Who calls: owns keys, jobs, calls and one balance. Table credits.teams."""

    team_id: str
    organization_id: str
    team_alias: str | None
    status: AccountStatus
    metadata: dict[str, Any]
    plan: dict[str, Any]
    """What differs from the default plan (pricing/plan.py)."""
    rpm_limit: int | None
    """Requests and tokens a minute of all its keys together; null: as many as they like."""
    tpm_limit: int | None
    created_at: datetime
    updated_at: datetime


class VirtualKey(Row):
    """A team's bearer token. The clear key is shown once and never stored. Table credits.virtual_keys."""

    key_id: UUID
    key_hash: str
    """SHA-256 of the clear key, in hex."""
    key_prefix: str
    """The first characters of the clear key, for people to tell keys apart."""
    team_id: str
    name: str | None
    status: KeyStatus
    expires_at: datetime | None
    allowed_aliases: list[str]
    """What this key may call of what its team may; none: all of it."""
    credit_limit: Decimal | None
    """Most credits that this key may ever use; null: as many as its team has."""
    credits_used: Decimal
    credits_held: Decimal
    """Promised to calls in flight."""
    rpm_limit: int | None
    """Requests and tokens a minute; null: as many as the team may."""
    tpm_limit: int | None
    created_at: datetime
    revoked_at: datetime | None
    replaced_by: UUID | None
    """The key that a rotation put in its place."""
    last_used_at: datetime | None
    """To about a minute."""


class ModelAlias(Row):
    """The name a team calls, the deployment it stands for and the price of its tokens. Table credits.model_aliases."""

    model_alias: str
    display_name: str | None
    provider: str
    actual_model: str
    """A model_name of LiteLLM's model_list."""
    description: str | None
    pricing_input: Decimal | None
    """USD per 1,000 tokens; null: LiteLLM's own price of the model."""
    pricing_output: Decimal | None
    pricing_rates: dict[str, Any]
    """The other rates, by name (pricing/rates.py): parts of tokens per 1,000, units for one, tiers."""
    max_output_tokens: int | None
    """Cap on output tokens per choice, written into requests that state none."""
    status: CatalogStatus
    created_at: datetime
    updated_at: datetime


class ModelAccessGroup(Row):
    """A named, ordered set of aliases that teams are given access to. Table credits.model_access_groups."""

    group_name: str
    display_name: str | None
    description: str | None
    status: CatalogStatus
    created_at: datetime
    updated_at: datetime


class ModelAliasAccessGroup(Row):
    """Table credits.model_alias_access_groups."""

    group_name: str
    model_alias: str
    position: int
    """Order of preference inside the group, from 0."""
    assigned_at: datetime


class TeamAccessGroup(Row):
    """Table credits.team_access_groups."""

    team_id: str
    group_name: str
    position: int
    """Order in which the team's groups are searched, from 0."""
    assigned_at: datetime


class TeamCredits(Row):
    """A team's balance. Changed only by the statements of db/sql/ledger.sql. Table credits.team_credits."""

    team_id: str
    account_id: UUID
    """Names this balance in the ledger; a team made again under an old id gets a new one."""
    organization_id: str
    credits_allocated: Decimal
    """Everything ever granted, less what was taken back."""
    credits_used: Decimal
    """Everything ever charged, less refunds."""
    credits_held: Decimal
    """Promised to calls in flight and to jobs."""
    credits_earmarked: Decimal
    """What is neither spent nor held of the earmarked grants: the rest of what is available is the plain balance."""
    calls_held: int
    """How many calls are in flight."""
    credits_remaining: Decimal
    """Always allocated - used."""
    overdraft_limit: Decimal
    created_at: datetime
    updated_at: datetime


class CreditGrant(Row):
    """Where a team's credits come from. A plain grant (any kind; no expiry, restriction or priority of its own,
    effective at once) is part of the team's plain balance, which is spent in the order of the grants. Of an earmarked
    one, this row counts what is held and spent. Table credits.credit_grants.
    """

    grant_id: UUID
    team_id: str
    kind: GrantKind
    priority: int
    """Lower burns first; then the earlier expiry, then the earlier creation. Plain grants have 100."""
    credits_granted: Decimal
    credits_taken: Decimal
    """Expired, voided or corrected away."""
    credits_used: Decimal
    credits_held: Decimal
    earmarked: bool
    effective_at: datetime
    expires_at: datetime | None
    """From then on it pays for nothing, and what is neither spent nor held is taken back."""
    model_aliases: list[str]
    """It pays only for calls that nothing but these aliases can serve; empty: for any."""
    job_types: list[str]
    """It pays only for jobs of these types and their calls; empty: for any."""
    rollover_credits: Decimal
    """At expiry, at most this much of what is left becomes a new grant."""
    rollover_days: int | None
    """How long that new grant lives; null: it does not expire."""
    reason: str
    voided_at: datetime | None
    ended_at: datetime | None
    """When it had expired and nothing of it was left or held any more."""
    created_at: datetime


class GrantDraw(Row):
    """What a call or a job holds of an earmarked grant, and what it was charged to it. The rest comes from the plain
    balance. Table credits.grant_draws.
    """

    holder_id: UUID
    """A call_id or a job_id."""
    grant_id: UUID
    credits_held: Decimal
    credits_charged: Decimal
    """Less what was refunded."""


class Refill(Row):
    """A team's automatic refills: so many credits each period, or a request to a payer when the balance falls low, or
    both. Table credits.refills.
    """

    team_id: str
    period: RefillPeriod | None
    credits: Decimal | None
    """Granted each period."""
    starts_at: datetime | None
    """When the first period begins; the others are counted from it, in UTC."""
    periods: int
    """Periods granted since starts_at."""
    next_at: datetime | None
    """When the next period begins."""
    kind: GrantKind
    lapses: bool
    """Whether each grant expires when the next one comes."""
    rollover_credits: Decimal
    threshold: Decimal | None
    """Below this balance, a payer is asked for as much as lifts it to target."""
    target: Decimal | None
    monthly_cap: Decimal | None
    """The most that is asked for in a calendar month (UTC)."""
    updated_at: datetime


class RefillRequest(Row):
    """The balance fell below the threshold: so many credits are asked of whoever pays. At most one of a team is open.
    Table credits.refill_requests.
    """

    request_id: UUID
    team_id: str
    credits: Decimal
    balance: Decimal
    """What there was to spend when it was asked."""
    status: RefillRequestStatus
    created_at: datetime
    closed_at: datetime | None


class CreditTransaction(Row):
    """The ledger: append-only, one row for each change of a balance. Outlives the team, job and call it speaks of.
    Table credits.credit_transactions.
    """

    transaction_id: int
    account_id: UUID
    team_id: str
    organization_id: str
    job_id: UUID | None
    call_id: UUID | None
    grant_id: UUID | None
    """The grant that an allocation, expiry or void is about."""
    transaction_type: TransactionType
    credits_amount: Decimal
    """Change of credits_remaining: positive adds, negative takes."""
    credits_before: Decimal
    credits_after: Decimal
    reason: str
    idempotency_key: str | None
    created_at: datetime


class Job(Row):
    """A unit of the team's own work that groups calls. Table credits.jobs."""

    job_id: UUID
    parent_job_id: UUID | None
    """A job of the same team that this one is part of."""
    team_id: str
    organization_id: str
    user_id: str | None
    external_task_id: str | None
    job_type: str
    status: JobStatus
    metadata: dict[str, Any]
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None
    """When it is closed if it is still open, as on_expiry says."""
    on_expiry: JobExpiry
    credit_cap: Decimal | None
    """The most that its calls may cost together, held from its creation on."""
    credits_price: Decimal
    """Held from its creation on, charged when it is completed. As the team's plan was then."""
    calls_included: bool
    """Whether its price pays for its calls."""
    credits_held: Decimal
    """What it holds itself: its price, and what its calls have not drawn of its cap."""
    credits_charged: Decimal
    """Of its price."""
    credits_refunded: Decimal


class LlmCall(Row):
    """One metered HTTP request: its hold, how it ended, what it cost and why. Table credits.llm_calls."""

    call_id: UUID
    """Ours, made before the hold; the only key of a call."""
    job_id: UUID | None
    team_id: str
    key_id: UUID | None
    litellm_call_id: str | None
    """LiteLLM's id of the call. The client may choose it: never a key."""
    endpoint: str
    purpose: str | None
    status: CallStatus
    basis: CallBasis | None
    policy: str | None
    """The plan's rule that decided the charge, where a rule and not the usage did."""
    flags: list[str]
    requested_model: str
    """The name the client asked for."""
    model_group_used: str
    """The access group that allowed it."""
    model_alias: str
    """The alias that was held for and, once settled, the alias that served."""
    resolved_model: str | None
    """The model that the provider says it ran."""
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    audio_input_tokens: int | None
    audio_output_tokens: int | None
    units: dict[str, Any] | None
    """What was counted beside tokens, by unit: images, seconds, ..."""
    pricing_input: Decimal
    """USD per 1,000 tokens, as used for the charge."""
    pricing_output: Decimal
    pricing_rates: dict[str, Any] | None
    """The other rates of that price, as on the alias."""
    cost_usd: Decimal | None
    provider_cost_usd: Decimal | None
    """What LiteLLM says the provider charges."""
    credits_held: Decimal
    credits_charged: Decimal
    credits_refunded: Decimal
    """Of what was charged."""
    credits_uncollected: Decimal
    """What the call cost beyond what the balance could pay."""
    stream: bool
    latency_ms: int | None
    time_to_first_token_ms: int | None
    request_data: dict[str, Any] | None
    response_data: dict[str, Any] | None
    error: dict[str, Any] | None
    earmarked: bool
    """Whether earmarked grants pay for it (grant_draws)."""
    drawn_on_job: bool
    """Whether it draws on what its job holds."""
    counted_on_key: bool
    """Whether it counts towards its key's credit limit."""
    worker_id: UUID
    created_at: datetime
    settled_at: datetime | None
    lease_until: datetime
    """Until when the worker vouches for the hold."""


class IdempotencyKey(Row):
    """A request that must be done once: claimed by the process that does it, then kept with its answer for a while.
    Table credits.idempotency_keys.
    """

    scope: str
    """Whose key it is: "admin", or "team:" and the team's id."""
    method: str
    path: str
    idempotency_key: str
    fingerprint: str
    """SHA-256 of the request's path, query and body, in hex."""
    claim_id: UUID
    """The attempt that may do it."""
    lease_until: datetime
    """Until when its process vouches for the attempt."""
    done: bool
    """Set by the transaction that did it."""
    call_id: UUID | None
    """The metered call that it made."""
    status: int | None
    """Of the answer, once that is complete."""
    answer: bytes | None
    """The answer, sealed; null where it was streamed or too large to keep."""
    created_at: datetime
    expires_at: datetime


class AuditEntry(Row):
    """What was changed by hand, by whom and from where: append-only, written by triggers in the changing transaction.
    Table credits.audit_log.
    """

    audit_id: int
    request_id: UUID | None
    """The same on all entries of one request."""
    actor: str
    """"admin", "team", or "database" for what did not come through the API."""
    actor_key: str
    """The start of the SHA-256 of the key that was used; for "database" the database user."""
    client_address: str | None
    action: str
    """The route, such as "PUT /teams/{team_id}"."""
    organization_id: str | None
    team_id: str | None
    subject: str
    """The table, and the row's key in it."""
    subject_id: str
    change: str
    """insert, update or delete."""
    before: dict[str, Any] | None
    """Of an update only what changed; else the whole row. Without secrets."""
    after: dict[str, Any] | None
    created_at: datetime
