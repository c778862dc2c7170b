"""From tokens to US dollars to credits."""

from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

from litellm_credits.money import TOKENS_PER_PRICE, to_credits
from litellm_credits.pricing.plan import BudgetMode, Plan
from litellm_credits.pricing.usage import Usage

_EXACT = Context(prec=80)
"""Digits enough for any product of tokens, prices and rates; Decimal's default of 28 would round some."""


@dataclass(frozen=True, slots=True)
class Price:
    """USD per 1,000 tokens."""

    input: Decimal
    output: Decimal

    @property
    def free(self) -> bool:
        """Whether every call at this price costs nothing."""
        return not self.input and not self.output

    def cost(self, usage: Usage) -> Decimal:
        """US dollars, exact."""
        with localcontext(_EXACT):
            return (usage.prompt * self.input + usage.completion * self.output) / TOKENS_PER_PRICE


@dataclass(frozen=True, slots=True)
class Charge:
    """What some tokens cost, in US dollars and in the plan's credits."""

    cost_usd: Decimal
    credits: Decimal


def charge(usage: Usage, price: Price, plan: Plan, *, cost_usd: Decimal | None = None) -> Charge:
    """What `usage` costs at `price`, or at a total `cost_usd` that is known, on `plan`. Rounded once, up, at 10⁻¹⁰ credit."""
    if cost_usd is None:
        cost_usd = price.cost(usage)
    with localcontext(_EXACT):
        if plan.budget_mode is BudgetMode.CONSUMPTION_TOKENS:
            return Charge(cost_usd, to_credits(Decimal(usage.total) / plan.tokens_per_credit))
        return Charge(cost_usd, to_credits(cost_usd * plan.credits_per_dollar))


def affordable_output(credits: Decimal, prompt_tokens: int, price: Price, plan: Plan) -> int | None:
    """How many output tokens `credits` still pay for after `prompt_tokens`; None: any number; below 0: not even the prompt.

    The result is safe: `charge` for it never exceeds `credits`.
    """
    with localcontext(_EXACT):
        if plan.budget_mode is BudgetMode.CONSUMPTION_TOKENS:
            return int(credits * plan.tokens_per_credit) - prompt_tokens
        left = credits / plan.credits_per_dollar - price.input * prompt_tokens / TOKENS_PER_PRICE
        if left < 0:
            return -1
        if not price.output:
            return None
        tokens = int(left * TOKENS_PER_PRICE / price.output)
        while tokens > 0 and charge(Usage(prompt_tokens, tokens), price, plan).credits > credits:
            tokens -= 1
        return tokens
