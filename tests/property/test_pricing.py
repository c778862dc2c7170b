"""Laws of prices, charges and usages, on whatever Hypothesis comes up with (DESIGN 3, P7)."""

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from litellm_credits import money
from litellm_credits.pricing.charge import TOKEN_RATES, Price, affordable_output, charge
from litellm_credits.pricing.plan import BudgetMode, Plan
from litellm_credits.pricing.usage import Unit, Usage

STEP = Fraction(1, 10**10)

counts = st.integers(0, 999_999_999) | st.integers(0, 5000)
rates = st.integers(0, 10**20 - 1).map(lambda steps: Decimal(steps).scaleb(-10)) | st.decimals(0, 1, places=7)
prices = st.builds(Price, rates, rates)
units = st.dictionaries(st.sampled_from(Unit), st.decimals(0, 10**6, places=3), max_size=3)
tiers = st.fixed_dictionaries(
    {"above": st.integers(1, 10_000)}, optional=dict.fromkeys(("input", "output", *TOKEN_RATES), rates)
)
stated_rates = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys((*TOKEN_RATES, *map(str, Unit)), rates)
    | {"tiers": st.lists(tiers, max_size=3, unique_by=lambda tier: tier["above"])},
)
full_prices = st.builds(Price.stated, rates, rates, stated_rates)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """A usage that can be true: its parts are no more than the whole."""
    prompt, completion = draw(counts), draw(counts)
    cached = draw(st.none() | st.integers(0, prompt))
    written = draw(st.none() | st.integers(0, prompt - (cached or 0)))
    heard = draw(st.none() | st.integers(0, prompt - (cached or 0) - (written or 0)))
    reasoning = draw(st.none() | st.integers(0, completion))
    spoken = draw(st.none() | st.integers(0, completion - (reasoning or 0)))
    return Usage(prompt, completion, cached, reasoning, written, heard, spoken, draw(units))


amounts = st.integers(0, 10**23 - 1).map(lambda steps: Decimal(steps).scaleb(-10)) | st.decimals(0, 1, places=10)
plans = st.builds(
    Plan,
    budget_mode=st.sampled_from(BudgetMode),
    credits_per_dollar=st.decimals(Decimal("1e-10"), Decimal("999999999"), places=10)
    | st.sampled_from([Decimal(10), Decimal(3)]),
    tokens_per_credit=st.integers(1, 1_000_000_000) | st.sampled_from([10_000, 3]),
)


def exact_dollars(usage: Usage, price: Price) -> Fraction:
    """What a usage costs, in arithmetic that cannot round: each token at the rate that is its own."""
    for above, tier in sorted(price.tiers):
        if usage.prompt > above:
            price = tier
    kinds = [
        (usage.cached, price.cache_read, price.input),
        (usage.cache_write, price.cache_write, price.input),
        (usage.audio_input, price.audio_input, price.input),
        (usage.reasoning, price.reasoning, price.output),
        (usage.audio_output, price.audio_output, price.output),
    ]
    read = sum(part or 0 for part, _, _ in kinds[:3])
    written = sum(part or 0 for part, _, _ in kinds[3:])
    thousand = (usage.prompt - read) * Fraction(price.input) + (usage.completion - written) * Fraction(price.output)
    for part, rate, otherwise in kinds:
        thousand += (part or 0) * Fraction(otherwise if rate is None else rate)
    each = sum(Fraction(count) * Fraction(price.units.get(unit, 0)) for unit, count in usage.units.items())
    return thousand / 1000 + each


def exact_credits(usage: Usage, price: Price, plan: Plan) -> Fraction:
    """What a usage costs on a plan, before rounding."""
    if plan.budget_mode is BudgetMode.CONSUMPTION_TOKENS:
        others = exact_dollars(Usage(units=usage.units), price) * Fraction(plan.credits_per_dollar)
        return Fraction(usage.total, plan.tokens_per_credit) + others
    return exact_dollars(usage, price) * Fraction(plan.credits_per_dollar)


@settings(max_examples=250)
@given(usages(), prices | full_prices, plans)
def test_charge_is_the_exact_cost_rounded_up_once(usage: Usage, price: Price, plan: Plan) -> None:
    made = charge(usage, price, plan)
    exact = exact_credits(usage, price, plan)
    assert exact <= Fraction(made.credits) < exact + STEP
    assert Fraction(made.credits) % STEP == 0
    assert Fraction(made.cost_usd) == exact_dollars(usage, price)


@settings(max_examples=250)
@given(usages(), full_prices)
def test_no_tokens_cost_more_than_at_the_dearest_price(usage: Usage, price: Price) -> None:
    dearest = price.dearest
    assert price.cost(usage) <= dearest.cost(usage)
    assert dearest.cost(usage) == dearest.cost(Usage(usage.prompt, usage.completion, units=usage.units)), (
        "it does not matter there which tokens they are"
    )


@settings(max_examples=250)
@given(usages(), st.integers(0, 10**6), st.integers(0, 10**6), st.decimals(0, 10**3, places=3), full_prices, plans)
def test_charge_within_the_bound_never_exceeds_the_charge_of_the_bound(
    actual: Usage, prompt: int, completion: int, count: Decimal, price: Price, plan: Plan
) -> None:
    bound = Usage(
        actual.prompt + prompt,
        actual.completion + completion,
        units={unit: actual.units.get(unit, Decimal(0)) + count for unit in Unit},
    )
    assert charge(actual, price, plan).credits <= charge(bound, price.dearest, plan).credits


@given(usages(), full_prices, rates)
def test_every_rate_times_a_factor_is_the_cost_times_the_factor(usage: Usage, price: Price, factor: Decimal) -> None:
    assert Fraction(price.times(factor).cost(usage)) == exact_dollars(usage, price) * Fraction(factor)


@settings(max_examples=250)
@given(amounts, counts, units, full_prices, plans)
@example(Decimal("0.000195"), 15, {}, Price(Decimal("0.0005"), Decimal("0.0015")), Plan())
def test_affordable_output_is_safe_and_maximal(
    credits: Decimal, prompt: int, units: dict[Unit, Decimal], price: Price, plan: Plan
) -> None:
    price = price.dearest
    tokens = affordable_output(credits, Usage(prompt, units=units), price, plan)

    def usage(completion: int) -> Usage:
        return Usage(prompt, completion, units=units)

    if tokens is None:
        assert charge(usage(10**12), price, plan).credits <= credits
    elif tokens < 0:
        assert charge(usage(0), price, plan).credits > credits
    else:
        assert charge(usage(tokens), price, plan).credits <= credits
        assert exact_credits(usage(tokens + 2), price, plan) > Fraction(credits)


# Usage ----------------------------------------------------------------------------------------------------------------

garbage: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.just(object()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)
likely = garbage | st.integers(-5, 5) | st.integers(10**9 - 2, 10**9 + 2)
counted = dict.fromkeys(
    (
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "promptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "toolUsePromptTokenCount",
        "cachedContentTokenCount",
    ),
    likely,
)
details = garbage | st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("cached_tokens", "cache_creation_tokens", "audio_tokens", "reasoning_tokens"), likely),
)
detailed = dict.fromkeys(
    ("prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_token_details"), details
)
modalities = garbage | st.lists(st.fixed_dictionaries({"modality": st.just("AUDIO") | garbage, "tokenCount": likely}))
spoken = dict.fromkeys(("promptTokensDetails", "candidatesTokensDetails"), modalities)
stated_usages = garbage | st.fixed_dictionaries({}, optional=counted | detailed | spoken)


@settings(max_examples=200)
@given(stated_usages)
def test_usage_parse_never_raises_and_only_believes_what_can_be_true(stated: Any) -> None:
    usage = Usage.parse(stated)
    if usage is None:
        return
    assert type(usage.prompt) is type(usage.completion) is int
    assert 0 <= usage.prompt < 10**9
    assert 0 <= usage.completion < 10**9
    read = [usage.cached, usage.cache_write, usage.audio_input]
    written = [usage.reasoning, usage.audio_output]
    assert all(part is None or part >= 0 for part in read + written)
    assert sum(part or 0 for part in read) <= usage.prompt
    assert sum(part or 0 for part in written) <= usage.completion
    if "prompt_tokens" in stated and stated["prompt_tokens"] is not None:
        assert (usage.prompt, usage.completion) == (stated["prompt_tokens"], stated["completion_tokens"])


# Money ----------------------------------------------------------------------------------------------------------------

exact_numbers = st.decimals(
    allow_nan=False, allow_infinity=False, min_value=Decimal("-1e30"), max_value=Decimal("1e30")
)
documents: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | exact_numbers,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(documents)
def test_json_keeps_every_digit(document: Any) -> None:
    body = money.dumps(document)
    assert money.loads(body) == document
    json.loads(body)


@given(st.floats())
def test_no_number_of_a_request_becomes_a_float(number: float) -> None:
    text = json.dumps(number)
    if text in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(ValueError, match="not a JSON number"):
            money.loads(text)
    else:
        assert money.loads(text) == Decimal(text)
        assert isinstance(money.loads(text), Decimal)


@given(exact_numbers)
def test_plain_form_is_the_same_number_without_exponent(number: Decimal) -> None:
    text = money.plain(number)
    assert Decimal(text) == number
    assert "E" not in text.upper()


# Plan -----------------------------------------------------------------------------------------------------------------


@given(plans)
def test_plan_is_what_its_stored_differences_say(plan: Plan) -> None:
    stored = money.loads(money.dumps(plan.differences()))
    assert Plan.of(stored) == plan


@given(st.dictionaries(st.sampled_from(sorted(Plan.model_fields)), garbage, min_size=1))
def test_plan_of_garbage_is_a_plan_or_a_refusal(stored: dict[str, Any]) -> None:
    try:
        plan = Plan.of(stored)
    except ValueError:
        return
    assume(plan.differences())
    assert plan.credits_per_dollar > 0
    assert plan.tokens_per_credit > 0
    assert 0 <= plan.cache_hit_rate <= 1
