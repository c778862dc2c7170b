"""Laws of prices and bounds, on whatever Hypothesis comes up with (DESIGN 3, P7)."""

import json
import os
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from litellm_credits import money
from litellm_credits.errors import BadInput
from litellm_credits.pricing.bound import input_bound, output_limit
from litellm_credits.pricing.charge import Price, affordable_output, charge
from litellm_credits.pricing.plan import BudgetMode, Plan
from litellm_credits.pricing.usage import Usage

STEP = Fraction(1, 10**10)

counts = st.integers(0, 999_999_999) | st.integers(0, 5000)
rates = st.integers(0, 10**20 - 1).map(lambda steps: Decimal(steps).scaleb(-10)) | st.decimals(0, 1, places=7)
prices = st.builds(Price, rates, rates)
amounts = st.integers(0, 10**23 - 1).map(lambda steps: Decimal(steps).scaleb(-10)) | st.decimals(0, 1, places=10)
plans = st.builds(
    Plan,
    budget_mode=st.sampled_from(BudgetMode),
    credits_per_dollar=st.decimals(Decimal("1e-10"), Decimal("999999999"), places=10)
    | st.sampled_from([Decimal(10), Decimal(3)]),
    tokens_per_credit=st.integers(1, 1_000_000_000) | st.sampled_from([10_000, 3]),
)


def exact_credits(usage: Usage, price: Price, plan: Plan) -> Fraction:
    """What a usage costs, before rounding, in arithmetic that cannot round."""
    if plan.budget_mode is BudgetMode.CONSUMPTION_TOKENS:
        return Fraction(usage.total, plan.tokens_per_credit)
    dollars = (usage.prompt * Fraction(price.input) + usage.completion * Fraction(price.output)) / 1000
    return dollars * Fraction(plan.credits_per_dollar)


@settings(max_examples=500)
@given(counts, counts, prices, plans)
def test_charge_is_the_exact_cost_rounded_up_once(prompt: int, completion: int, price: Price, plan: Plan) -> None:
    usage = Usage(prompt, completion)
    made = charge(usage, price, plan)
    exact = exact_credits(usage, price, plan)
    assert exact <= Fraction(made.credits) < exact + STEP
    assert Fraction(made.credits) % STEP == 0
    assert Fraction(made.cost_usd) * 1000 == prompt * Fraction(price.input) + completion * Fraction(price.output)


@settings(max_examples=300)
@given(counts, counts, st.data(), prices, plans)
def test_charge_within_the_bound_never_exceeds_the_charge_of_the_bound(
    prompt: int, completion: int, data: st.DataObject, price: Price, plan: Plan
) -> None:
    actual = Usage(data.draw(st.integers(0, prompt)), data.draw(st.integers(0, completion)))
    assert charge(actual, price, plan).credits <= charge(Usage(prompt, completion), price, plan).credits


@settings(max_examples=500)
@given(amounts, counts, prices, plans)
@example(Decimal("0.000195"), 15, Price(Decimal("0.0005"), Decimal("0.0015")), Plan())
def test_affordable_output_is_safe_and_maximal(credits: Decimal, prompt: int, price: Price, plan: Plan) -> None:
    tokens = affordable_output(credits, prompt, price, plan)
    if tokens is None:
        assert charge(Usage(prompt, 10**12), price, plan).credits <= credits
    elif tokens < 0:
        assert charge(Usage(prompt, 0), price, plan).credits > credits
    else:
        assert charge(Usage(prompt, tokens), price, plan).credits <= credits
        assert exact_credits(Usage(prompt, tokens + 2), price, plan) > Fraction(credits)


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
stated_usages = garbage | st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": likely,
        "completion_tokens": likely,
        "prompt_tokens_details": garbage | st.fixed_dictionaries({"cached_tokens": likely}),
        "completion_tokens_details": garbage | st.fixed_dictionaries({"reasoning_tokens": likely}),
    },
)


@given(stated_usages)
def test_usage_parse_never_raises_and_only_believes_what_can_be_true(stated: Any) -> None:
    usage = Usage.parse(stated)
    if usage is None:
        return
    assert type(usage.prompt) is type(usage.completion) is int
    assert (usage.prompt, usage.completion) == (stated["prompt_tokens"], stated["completion_tokens"])
    assert 0 <= usage.prompt < 10**9
    assert 0 <= usage.completion < 10**9
    assert usage.cached is None or 0 <= usage.cached <= usage.prompt
    assert usage.reasoning is None or 0 <= usage.reasoning <= usage.completion


# Bounds ---------------------------------------------------------------------------------------------------------------

texts = (
    st.text(max_size=200)
    | st.text("\U0001f600\u0301\u200d<|endoftext|> \n\t", max_size=60)
    | st.text("Zaltyko ", max_size=60)
)
names = st.text("abcdefghij_-", min_size=1, max_size=20)
schemas: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "number", "integer", "boolean", "null"])},
        optional={"description": texts, "enum": st.lists(texts, min_size=1, max_size=4)},
    ),
    lambda inner: (
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}, optional={"description": texts})
        | st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(names, inner, max_size=4)},
            optional={"required": st.lists(names, max_size=3), "description": texts},
        )
    ),
    max_leaves=5,
)
tools = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {
                "name": names,
                "parameters": st.fixed_dictionaries(
                    {"type": st.just("object"), "properties": st.dictionaries(names, schemas, max_size=4)},
                    optional={"required": st.lists(names, max_size=3)},
                ),
            },
            optional={"description": texts},
        ),
    }
)
tool_calls = st.fixed_dictionaries(
    {"id": names, "type": st.just("function"), "function": st.fixed_dictionaries({"name": names, "arguments": texts})}
)
text_parts = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}), max_size=3)
messages = (
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "developer"]), "content": texts | text_parts},
        optional={"name": names},
    )
    | st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": texts | st.none()},
        optional={"tool_calls": st.lists(tool_calls, min_size=1, max_size=3), "name": names},
    )
    | st.fixed_dictionaries({"role": st.just("tool"), "content": texts, "tool_call_id": names})
)
requests = st.fixed_dictionaries(
    {"messages": st.lists(messages, min_size=1, max_size=4)},
    optional={
        "tools": st.lists(tools, min_size=1, max_size=3),
        "tool_choice": st.sampled_from(["auto", "none", "required"])
        | st.fixed_dictionaries({"type": st.just("function"), "function": st.fixed_dictionaries({"name": names})}),
    },
)


@pytest.mark.parametrize("model", ["gpt-4", "gpt-4o"])
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(request=requests)
def test_input_bound_is_never_below_what_the_tokenizer_counts(model: str, request: dict[str, Any]) -> None:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else LiteLLM asks the network for prices
    from litellm import token_counter

    counted = token_counter(
        model=model, messages=request["messages"], tools=request.get("tools"), tool_choice=request.get("tool_choice")
    )
    bound = input_bound(request, None)
    assert bound.text
    assert bound.tokens >= counted


@given(st.dictionaries(st.sampled_from(["messages", "tools", "response_format"]), garbage))
def test_input_bound_of_garbage_is_a_number_or_a_refusal(request: dict[str, Any]) -> None:
    try:
        bound = input_bound(request, 1000)
    except BadInput:
        return
    assert 0 < bound.tokens <= 1000


@given(st.dictionaries(st.sampled_from(["n", "max_tokens", "max_completion_tokens"]), likely))
def test_output_limit_of_garbage_is_a_whole_number_or_a_refusal(request: dict[str, Any]) -> None:
    try:
        limit = output_limit(request)
    except BadInput:
        return
    assert type(limit.choices) is int
    assert 1 <= limit.choices <= 128
    stated = [request.get(name) for name in ("max_tokens", "max_completion_tokens") if request.get(name) is not None]
    assert limit.per_choice == max(stated, default=None)


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
