"""Prices, charges, limits and plans, by example (DESIGN 3 and 4). Their laws are in tests/property/test_pricing.py."""

from decimal import Decimal
from fractions import Fraction
from math import ceil
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from litellm_credits.errors import BadInput
from litellm_credits.pricing.bound import InputBound, OutputLimit, input_bound, output_limit, set_output_limit
from litellm_credits.pricing.charge import Price, affordable_output, charge
from litellm_credits.pricing.plan import Plan
from litellm_credits.pricing.usage import Usage

SEED = Price(Decimal("0.0005"), Decimal("0.0015"))
DEFAULT = Plan()
TOKENS = Plan.of({"budget_mode": "consumption_tokens"})


# Charge ---------------------------------------------------------------------------------------------------------------


def test_charge_of_the_seed() -> None:
    made = charge(Usage(15, 8), SEED, DEFAULT)
    assert (made.cost_usd, made.credits) == (Decimal("0.0000195"), Decimal("0.000195"))


def test_charge_is_rounded_once_and_up() -> None:
    price = Price(Decimal("0.0000000001"), Decimal(0))
    made = charge(Usage(1, 0), price, DEFAULT)
    assert made.cost_usd == Decimal("1e-13"), "dollars are exact"
    assert made.credits == Decimal("1e-10"), "credits are the next step up from 1e-12"
    assert charge(Usage(0, 0), price, DEFAULT).credits == 0


def test_charge_of_a_known_cost() -> None:
    made = charge(Usage(15, 8), SEED, DEFAULT, cost_usd=Decimal("0.5"))
    assert (made.cost_usd, made.credits) == (Decimal("0.5"), Decimal(5))


def test_charge_by_tokens_ignores_the_price_but_states_the_cost() -> None:
    made = charge(Usage(15, 8), SEED, TOKENS)
    assert (made.cost_usd, made.credits) == (Decimal("0.0000195"), Decimal("0.0023"))
    assert charge(
        Usage(1, 0), SEED, Plan.of({"budget_mode": "consumption_tokens", "tokens_per_credit": 3})
    ).credits == (Decimal("0.3333333334"))


def test_charge_is_exact_beyond_the_digits_that_decimal_keeps_by_default() -> None:
    price = Price(Decimal("1234567890.0123456789"), Decimal("0.0000000001"))
    made = charge(Usage(999_999_999, 1), price, DEFAULT)
    dollars = Fraction(12345678900123456789 * 999_999_999 + 1, 10**13)
    assert Fraction(made.cost_usd) == dollars
    assert Fraction(made.credits) == Fraction(ceil(dollars * 10 * 10**10), 10**10)


@pytest.mark.parametrize(
    ("credits", "prompt", "price", "plan", "tokens"),
    [
        ("0.000195", 15, SEED, DEFAULT, 8),
        ("0.0001949999", 15, SEED, DEFAULT, 7),
        ("0.000075", 15, SEED, DEFAULT, 0),
        ("0.0000749999", 15, SEED, DEFAULT, -1),
        ("1", 15, Price(Decimal("0.0005"), Decimal(0)), DEFAULT, None),
        ("0", 15, Price(Decimal(0), Decimal(0)), DEFAULT, None),
        ("0.0023", 15, SEED, TOKENS, 8),
        ("0.0014", 15, SEED, TOKENS, -1),
    ],
)
def test_affordable_output(credits: str, prompt: int, price: Price, plan: Plan, tokens: int | None) -> None:
    assert affordable_output(Decimal(credits), prompt, price, plan) == tokens


# Usage ----------------------------------------------------------------------------------------------------------------

FULL = {
    "prompt_tokens": 15,
    "completion_tokens": 8,
    "total_tokens": 9999,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def test_usage_of_a_mapping_and_of_an_object() -> None:
    expected = Usage(15, 8, cached=4, reasoning=3)
    assert Usage.parse(FULL) == expected
    nested = {name: SimpleNamespace(**value) if isinstance(value, dict) else value for name, value in FULL.items()}
    assert Usage.parse(SimpleNamespace(**nested)) == expected
    assert expected.total == 23, "the total that the provider states is not believed"


@pytest.mark.parametrize("wrong", [-1, "8", 8.0, True, None, 10**9, [8], Decimal(8)])
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
def test_usage_that_cannot_be_true(field: str, wrong: object) -> None:
    assert Usage.parse(FULL | {field: wrong}) is None


def test_usage_details_that_cannot_be_true_are_dropped() -> None:
    assert Usage.parse(FULL | {"prompt_tokens_details": "x", "completion_tokens_details": None}) == Usage(15, 8)
    assert Usage.parse(FULL | {"prompt_tokens_details": {"cached_tokens": -1}}) == Usage(15, 8, None, 3)
    assert Usage.parse(FULL | {"prompt_tokens_details": {"cached_tokens": 16}}) == Usage(15, 8, 15, 3)


# Bounds ---------------------------------------------------------------------------------------------------------------


def test_input_bound_counts_bytes_not_characters() -> None:
    letters = input_bound({"messages": [{"role": "user", "content": "o" * 100}]}, None)
    umlauts = input_bound({"messages": [{"role": "user", "content": "\u00f6" * 100}]}, None)
    assert umlauts.tokens - letters.tokens == 100
    assert letters.text


def test_input_bound_is_at_most_the_context_window() -> None:
    request = {"messages": [{"role": "user", "content": "x" * 10_000}]}
    assert input_bound(request, 4096) == InputBound(4096, text=True)
    assert input_bound(request, None).tokens > 10_000


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "input_audio", "input_audio": {}}]},
        {"role": "user", "content": [{"type": "something new"}]},
        {"role": "user", "content": [None]},
        {"role": "assistant", "audio": {"id": "a"}},
    ],
)
def test_input_bound_of_what_is_not_text_is_the_context_window(message: dict[str, object]) -> None:
    assert input_bound({"messages": [message]}, 128_000) == InputBound(128_000, text=False)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ("hi", "messages"),
        ({}, "messages"),
        (["hi"], "messages[0]"),
        ([{"role": "user"}, None], "messages[1]"),
    ],
)
def test_input_bound_refuses_what_is_not_a_list_of_messages(messages: object, param: str) -> None:
    with pytest.raises(BadInput) as refusal:
        input_bound({"messages": messages}, None)
    assert refusal.value.param == param


@pytest.mark.parametrize("name", ["tools", "functions", "response_format", "tool_choice", "prediction"])
def test_input_bound_grows_with_everything_that_becomes_prompt(name: str) -> None:
    request: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    extra = {"type": "function", "text": "x" * 500}
    assert input_bound(request | {name: extra}, None).tokens >= input_bound(request, None).tokens + 500


@pytest.mark.parametrize(
    ("request_", "limit"),
    [
        ({}, OutputLimit(None, 1)),
        ({"max_tokens": 5}, OutputLimit(5, 1)),
        ({"max_completion_tokens": 7, "n": 3}, OutputLimit(7, 3)),
        ({"max_tokens": 5, "max_completion_tokens": 7}, OutputLimit(7, 1)),
        ({"max_tokens": 7, "max_completion_tokens": 5}, OutputLimit(7, 1)),
        ({"max_tokens": None, "n": None}, OutputLimit(None, 1)),
    ],
)
def test_output_limit(request_: dict[str, object], limit: OutputLimit) -> None:
    assert output_limit(request_) == limit


@pytest.mark.parametrize("wrong", [0, -1, True, False, "5", 5.0, Decimal(5), [5], {}, 10**12])
@pytest.mark.parametrize("name", ["n", "max_tokens", "max_completion_tokens"])
def test_output_limit_refuses_all_but_whole_numbers_in_range(name: str, wrong: object) -> None:
    with pytest.raises(BadInput) as refusal:
        output_limit({"max_tokens": 5, "max_completion_tokens": 5} | {name: wrong})
    assert refusal.value.param == name


def test_output_limit_of_choices() -> None:
    assert output_limit({"n": 128}).choices == 128
    with pytest.raises(BadInput):
        output_limit({"n": 129})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"max_tokens": 5}),
        ({"max_tokens": 9}, {"max_tokens": 5}),
        ({"max_completion_tokens": 9}, {"max_completion_tokens": 5}),
        ({"max_completion_tokens": 9, "max_tokens": 8}, {"max_completion_tokens": 5, "max_tokens": 5}),
        ({"max_completion_tokens": None}, {"max_completion_tokens": None, "max_tokens": 5}),
    ],
)
def test_set_output_limit(before: dict[str, object], after: dict[str, object]) -> None:
    set_output_limit(before, 5)
    assert before == after


# Plan -----------------------------------------------------------------------------------------------------------------


def test_plan_stores_only_differences() -> None:
    assert DEFAULT.differences() == {}
    stored = {"credits_per_dollar": "12.5", "require_job": True, "on_process_death": "charge_hold"}
    plan = Plan.of(stored)
    assert plan.credits_per_dollar == Decimal("12.5")
    assert plan.differences() == stored


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("credits_per_dollar", 0),
        ("credits_per_dollar", -1),
        ("credits_per_dollar", "NaN"),
        ("credits_per_dollar", "Infinity"),
        ("credits_per_dollar", "1e9"),
        ("credits_per_dollar", "0.00000000001"),
        ("tokens_per_credit", 0),
        ("tokens_per_credit", "1.5"),
        ("cost_markup_percentage", -1),
        ("cost_markup_percentage", "0.00001"),
        ("fit_min_tokens", 0),
        ("budget_mode", "consumption_wishes"),
        ("on_process_death", "charge_double"),
        ("cache_hit_rate", "1.1"),
        ("require_job", "perhaps"),
        ("credit_per_dollar", 10),
    ],
)
def test_plan_refuses(field: str, wrong: object) -> None:
    with pytest.raises(ValidationError) as refusal:
        Plan.of({field: wrong})
    assert [error["loc"] for error in refusal.value.errors()] == [(field,)]
