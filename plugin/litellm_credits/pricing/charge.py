"""From tokens and other units to US dollars to credits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import cached_property
from typing import Any, Self

from litellm_credits.money import TOKENS_PER_PRICE
from litellm_credits.pricing.plan import BudgetMode, Plan, Rounding
from litellm_credits.pricing.usage import Unit, Usage

_EXACT = Context(prec=80)
"""Digits enough for any product of tokens, prices and rates; Decimal's default of 28 would round some."""

_ROUNDINGS = {Rounding.UP: ROUND_CEILING, Rounding.HALF_EVEN: ROUND_HALF_EVEN, Rounding.DOWN: ROUND_FLOOR}

TOKEN_RATES = ("cache_read", "cache_write", "reasoning", "audio_input", "audio_output")
"""Rates that a price may state beside input and output, for parts of them. USD per 1,000 tokens."""


@dataclass(frozen=True)
class Price:
    """What usage costs: USD per 1,000 tokens, and USD for one of each unit. A part without a rate costs as what it is part of.

    `tokens` says whether tokens have a price at all; 0 is one. `tiers` are prices of calls with long prompts, the shortest
    first: (prompt tokens from which on, the whole price then).
    """

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    reasoning: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    units: Mapping[Unit, Decimal] = field(default_factory=dict)
    tokens: bool = True
    tiers: tuple[tuple[int, "Price"], ...] = ()

    @classmethod
    def stated(cls, input: Decimal | None, output: Decimal | None, rates: Mapping[str, Any]) -> Self | None:
        """The price that an alias states: `rates` holds the other rates by name (`Rates.stored`). None: it states none."""
        amounts = {name: Decimal(value) for name, value in rates.items() if name != "tiers"}
        if input is None and not amounts:
            return None
        base = cls(
            input or Decimal(0),
            output or Decimal(0),
            units={unit: amounts[unit] for unit in Unit if unit in amounts},
            tokens=input is not None,
        )
        base = base.changed({name: amounts.get(name) for name in TOKEN_RATES})
        tiers = sorted(rates.get("tiers", ()), key=lambda tier: int(tier["above"]))
        return replace(
            base,
            tiers=tuple(
                (
                    int(tier["above"]),
                    base.changed({name: Decimal(value) for name, value in tier.items() if name != "above"}),
                )
                for tier in tiers
            ),
        )

    def rates(self) -> dict[str, object]:
        """The rates beside input and output, as `stated` takes them: what is kept on a call's row."""
        kept: dict[str, object] = {name: rate for name in TOKEN_RATES if (rate := getattr(self, name)) is not None}
        tiers = [
            {"above": above, "input": price.input, "output": price.output} | replace(price, units={}).rates()
            for above, price in self.tiers
        ]
        return kept | {str(unit): rate for unit, rate in self.units.items()} | ({"tiers": tiers} if tiers else {})

    def covers(self, units: Iterable[Unit]) -> bool:
        """Whether at least one of these units has a price."""
        return any(unit in self.units for unit in units)

    def changed(self, rates: Mapping[str, Decimal | None]) -> Self:
        """The same price with other rates of tokens, by name."""
        changes: dict[str, Any] = dict(rates)
        return replace(self, **changes)

    def times(self, factor: Decimal) -> Self:
        """Every rate times `factor`."""
        with localcontext(_EXACT):
            rates = {
                name: rate * factor
                for name in ("input", "output", *TOKEN_RATES)
                if (rate := getattr(self, name)) is not None
            }
            units = {unit: rate * factor for unit, rate in self.units.items()}
            tiers = tuple((above, price.times(factor)) for above, price in self.tiers)
        return replace(self.changed(rates), units=units, tiers=tiers)

    @cached_property
    def dearest(self) -> "Price":
        """The price at which every token of a prompt, and every token of an answer, has the highest rate that it can have."""
        prices = [self, *(price for _, price in self.tiers)]
        return Price(
            input=max(_highest(one.input, one.cache_read, one.cache_write, one.audio_input) for one in prices),
            output=max(_highest(one.output, one.reasoning, one.audio_output) for one in prices),
            units=self.units,
            tokens=self.tokens,
        )

    def cost(self, usage: Usage) -> Decimal:
        """US dollars, exact."""
        price = self
        for above, tier in self.tiers:
            if usage.prompt > above:
                price = tier
        with localcontext(_EXACT):
            parts = (
                (usage.cached, price.cache_read, price.input),
                (usage.cache_write, price.cache_write, price.input),
                (usage.audio_input, price.audio_input, price.input),
                (usage.reasoning, price.reasoning, price.output),
                (usage.audio_output, price.audio_output, price.output),
            )
            total = usage.prompt * price.input + usage.completion * price.output
            for tokens, rate, otherwise in parts:
                if tokens and rate is not None:
                    total += tokens * (rate - otherwise)
            each = sum((count * price.units.get(unit, 0) for unit, count in usage.units.items()), Decimal(0))
            return total / TOKENS_PER_PRICE + each


def _highest(first: Decimal, *others: Decimal | None) -> Decimal:
    return max(first, *(other for other in others if other is not None), first)


@dataclass(frozen=True, slots=True)
class Charge:
    """What a usage costs, in US dollars and in the plan's credits."""

    cost_usd: Decimal
    credits: Decimal


def charge(usage: Usage, price: Price, plan: Plan, *, cost_usd: Decimal | None = None) -> Charge:
    """What `usage` costs at `price`, or at a total `cost_usd` that is known, on `plan`. Rounded once, as the plan says.

    A plan that counts tokens counts what has none (images, seconds, ...) by its dollars.
    """
    if cost_usd is None:
        cost_usd = price.cost(usage)
    with localcontext(_EXACT):
        if plan.budget_mode is BudgetMode.CONSUMPTION_TOKENS:
            others = price.cost(Usage(units=usage.units)) * plan.credits_per_dollar
            return Charge(cost_usd, _rounded(Decimal(usage.total) / plan.tokens_per_credit + others, plan))
        return Charge(cost_usd, _rounded(cost_usd * plan.credits_per_dollar, plan))


def _rounded(credits: Decimal, plan: Plan) -> Decimal:
    """Whole steps of the plan's, and no less than its minimum, of what costs anything. Never falls where `credits` rises."""
    if not credits:
        return Decimal(0)
    steps = (credits / plan.rounding_step).to_integral_value(_ROUNDINGS[plan.rounding])
    return max(steps * plan.rounding_step, plan.minimum_charge)


def affordable_output(credits: Decimal, before: Usage, price: Price, plan: Plan) -> int | None:
    """How many output tokens `credits` still pay for after `before`; None: any number; below 0: not even that.

    `price` is one without tiers, as `Price.dearest`. The result is safe: `charge` for it never exceeds `credits`.
    """

    def total(tokens: int) -> Decimal:
        return charge(replace(before, completion=tokens), price, plan).credits

    if total(0) > credits:
        return -1
    with localcontext(_EXACT):
        if plan.budget_mode is BudgetMode.CONSUMPTION_TOKENS:
            others = price.cost(Usage(units=before.units)) * plan.credits_per_dollar
            tokens = int((credits - others) * plan.tokens_per_credit) - before.prompt
        elif not price.output:
            return None
        else:
            left = credits / plan.credits_per_dollar - price.cost(before)
            tokens = int(left * TOKENS_PER_PRICE / price.output)
    # Rounding, and what a call costs at least, can make the last of these too dear; what is dearer never fits again.
    low, high = 0, max(tokens, 0)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if total(middle) <= credits else (low, middle - 1)
    return low
