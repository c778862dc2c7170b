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
    record_bodies: bool = Field(True, description="Keep request_data and response_data on the call row.")

    @classmethod
    def of(cls, stored: dict[str, object]) -> "Plan":
        """The plan of a team that stored these differences."""
        return cls.model_validate(stored)

    def differences(self) -> dict[str, object]:
        """What to store: the fields that differ from the defaults, as JSON values (Decimals as text)."""
        return self.model_dump(mode="json", exclude_defaults=True)
