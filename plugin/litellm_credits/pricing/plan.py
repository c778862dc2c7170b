"""A team's plan: how its calls are counted in credits, and what it is charged where usage alone does not decide."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from litellm_credits.money import CREDIT_STEP
from litellm_credits.pricing import rates
from litellm_credits.pricing.rates import Rates

Rate = Annotated[Decimal, Field(gt=0, lt=Decimal("1e9"), max_digits=19, decimal_places=10)]


Credits = Annotated[Decimal, Field(ge=0, lt=Decimal("1e9"), max_digits=19, decimal_places=10)]
Alias = Annotated[str, Field(min_length=1, max_length=255)]
JobType = Annotated[str, Field(min_length=1, max_length=100)]


class BudgetMode(StrEnum):
    """What a credit stands for (DESIGN 4)."""

    CONSUMPTION_USD = "consumption_usd"
    CONSUMPTION_TOKENS = "consumption_tokens"
    JOB_BASED = "job_based"
    HYBRID = "hybrid"


class Rounding(StrEnum):
    """Which way a call's charge is rounded, at the plan's rounding_step."""

    UP = "up"
    HALF_EVEN = "half_even"
    DOWN = "down"


class OnDisconnect(StrEnum):
    """The client hangs up before the answer is complete."""

    CHARGE_OUTPUT = "charge_output"
    CHARGE_NOTHING = "charge_nothing"
    CHARGE_HOLD = "charge_hold"


class OnMissingUsage(StrEnum):
    """The provider answers without usage, or with one that cannot be true."""

    COUNT = "count"
    CHARGE_HOLD = "charge_hold"
    CHARGE_NOTHING = "charge_nothing"


class OnZeroOutput(StrEnum):
    """The answer is empty and its usage zero or missing."""

    CHARGE_NOTHING = "charge_nothing"
    CHARGE_USAGE = "charge_usage"


class OnProcessDeath(StrEnum):
    """The process that held for a call died, or lost the database for longer than a lease. Read by `expire` in ledger.sql."""

    RELEASE = "release"
    CHARGE_HOLD = "charge_hold"


class AliasPrice(BaseModel):
    """What an alias costs one team: as on the alias itself, the whole of it. USD per 1,000 tokens, and for one of each unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pricing_input: rates.Rate | None = None
    pricing_output: rates.Rate | None = None
    pricing_rates: Rates = Field(default_factory=Rates)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.pricing_input is None) != (self.pricing_output is None):
            raise ValueError("pricing_input and pricing_output go together: set both, or neither")
        if self.pricing_input is None and not self.pricing_rates.stored():
            raise ValueError("a price must state something")
        return self


class Plan(BaseModel):
    """All of a plan, with its defaults. A team stores only what it sets differently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget_mode: BudgetMode = BudgetMode.CONSUMPTION_USD
    credits_per_dollar: Rate = Field(Decimal(10), description="consumption_usd: credits for one US dollar of cost.")
    tokens_per_credit: int = Field(
        10_000, strict=True, gt=0, le=1_000_000_000, description="consumption_tokens: tokens that one credit pays for."
    )
    cost_markup_percentage: Decimal = Field(
        Decimal(0),
        ge=0,
        le=10_000,
        max_digits=9,
        decimal_places=4,
        description="Added to LiteLLM's own price, for aliases that state none.",
    )
    credits_per_job: Credits = Field(
        Decimal(1),
        description="job_based and hybrid: credits for a job, held when it is created, charged when it is completed.",
    )
    credits_by_job_type: dict[JobType, Credits] = Field(
        {}, max_length=200, description="The same for jobs of some types: {job_type: credits}."
    )
    minimum_charge: Credits = Field(
        Decimal(0), description="The least that a call costs which costs anything; its hold is at least that."
    )
    rounding: Rounding = Field(Rounding.UP, description="How a call's charge is rounded to rounding_step.")
    rounding_step: Rate = Field(CREDIT_STEP, description="Charges are multiples of this many credits.")
    alias_prices: dict[Alias, AliasPrice] = Field(
        {},
        max_length=1000,
        description="This team's own prices of aliases, in the place of those that the aliases state.",
    )
    max_calls_in_flight: int | None = Field(
        None,
        strict=True,
        ge=1,
        le=1_000_000,
        description="Further calls are refused with 429 while so many are in flight.",
    )
    max_held_share: Decimal | None = Field(
        None,
        gt=0,
        le=1,
        decimal_places=4,
        description="Calls and jobs are refused with 429 that would hold more than this share of the remaining credits.",
    )
    require_job: bool = Field(False, description="Refuse calls that belong to no job.")
    fit_to_balance: bool = Field(
        False, description="Lower max_tokens to what the balance can pay instead of refusing the call."
    )
    fit_min_tokens: int = Field(
        64, strict=True, ge=1, le=1_000_000, description="Refuse rather than fit below this many tokens."
    )
    on_disconnect: OnDisconnect = Field(
        OnDisconnect.CHARGE_OUTPUT,
        description="Charged when the client hangs up: what was produced, nothing, or the hold.",
    )
    on_missing_usage: OnMissingUsage = Field(
        OnMissingUsage.COUNT,
        description="Charged when the provider states no usage: what is counted, the hold, or nothing.",
    )
    on_zero_output: OnZeroOutput = Field(
        OnZeroOutput.CHARGE_NOTHING, description="Charged for an empty answer: nothing, or the prompt."
    )
    on_process_death: OnProcessDeath = Field(
        OnProcessDeath.RELEASE,
        description="Charged when the process dies mid-call: nothing, or the hold; corrected should the call end after all.",
    )
    cache_hit_rate: Decimal = Field(
        Decimal(0),
        ge=0,
        le=1,
        decimal_places=4,
        description="Share of the price that an answer from LiteLLM's cache costs.",
    )
    record_bodies: bool = Field(True, description="Keep request_data and response_data on the call row.")

    @property
    def needs_job(self) -> bool:
        """Whether every call must belong to a job: where it is the job that is paid for, always."""
        return self.require_job or self.calls_included

    @property
    def calls_included(self) -> bool:
        """Whether the price of a job pays for its calls. A job keeps what held when it was created."""
        return self.budget_mode is BudgetMode.JOB_BASED

    def job_price(self, job_type: str) -> Decimal | None:
        """Credits for a job of this type; None: the plan has no price for jobs."""
        if self.budget_mode not in (BudgetMode.JOB_BASED, BudgetMode.HYBRID):
            return None
        return self.credits_by_job_type.get(job_type, self.credits_per_job)

    @classmethod
    def of(cls, stored: dict[str, object]) -> "Plan":
        """The plan of a team that stored these differences."""
        return cls.model_validate(stored)

    def differences(self) -> dict[str, object]:
        """What to store: the fields that differ from the defaults, as JSON values (Decimals as text)."""
        return self.model_dump(mode="json", exclude_defaults=True)
