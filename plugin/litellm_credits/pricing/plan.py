"""A team's plan: how its calls are counted in credits, and what it is charged where usage alone does not decide."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[Decimal, Field(gt=0, lt=Decimal("1e9"), max_digits=19, decimal_places=10)]


class BudgetMode(StrEnum):
    """What a credit stands for (DESIGN 4)."""

    CONSUMPTION_USD = "consumption_usd"
    CONSUMPTION_TOKENS = "consumption_tokens"


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


class Plan(BaseModel):
    """All of a plan, with its defaults. A team stores only what it sets differently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget_mode: BudgetMode = BudgetMode.CONSUMPTION_USD
    credits_per_dollar: Rate = Field(Decimal(10), description="consumption_usd: credits for one US dollar of cost.")
    tokens_per_credit: int = Field(
        10_000, gt=0, le=1_000_000_000, description="consumption_tokens: tokens that one credit pays for."
    )
    cost_markup_percentage: Decimal = Field(
        Decimal(0),
        ge=0,
        le=10_000,
        max_digits=9,
        decimal_places=4,
        description="Added to LiteLLM's own price, for aliases that state none.",
    )
    require_job: bool = Field(False, description="Refuse calls that belong to no job.")
    fit_to_balance: bool = Field(
        False, description="Lower max_tokens to what the balance can pay instead of refusing the call."
    )
    fit_min_tokens: int = Field(64, ge=1, le=1_000_000, description="Refuse rather than fit below this many tokens.")
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

    @classmethod
    def of(cls, stored: dict[str, object]) -> "Plan":
        """The plan of a team that stored these differences."""
        return cls.model_validate(stored)

    def differences(self) -> dict[str, object]:
        """What to store: the fields that differ from the defaults, as JSON values (Decimals as text)."""
        return self.model_dump(mode="json", exclude_defaults=True)
