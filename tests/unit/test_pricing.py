"""Prices, charges, usages and plans, by example (DESIGN 3 and 4). Their laws are in tests/property/test_pricing.py."""

from decimal import Decimal
from fractions import Fraction
from math import ceil
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from litellm_credits import money
from litellm_credits.pricing.charge import Price, affordable_output, charge
from litellm_credits.pricing.plan import Plan
from litellm_credits.pricing.rates import Rates
from litellm_credits.pricing.usage import Unit, Usage

SEED = Price(Decimal("0.0005"), Decimal("0.0015"))
DEFAULT = Plan()
TOKENS = Plan.of({"budget_mode": "consumption_tokens"})


def as_object(stated: Any) -> Any:
    """The same, as objects with attributes."""
    if isinstance(stated, dict):
        return SimpleNamespace(**{name: as_object(value) for name, value in stated.items()})
    return [as_object(one) for one in stated] if isinstance(stated, list) else stated


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
    assert affordable_output(Decimal(credits), Usage(prompt), price, plan) == tokens


def test_affordable_output_pays_the_units_first() -> None:
    price = Price(Decimal("0.0005"), Decimal("0.0015"), units={Unit.REQUEST: Decimal("0.01")})
    before = Usage(15, units={Unit.REQUEST: Decimal(1)})
    assert affordable_output(Decimal("0.100195"), before, price, DEFAULT) == 8
    assert affordable_output(Decimal("0.1"), before, price, DEFAULT) == -1
    assert affordable_output(Decimal("0.1023"), before, price, TOKENS) == 8, "a request costs its dollars, tokens count"
    assert affordable_output(Decimal("0.1014"), before, price, TOKENS) == -1


# Price ----------------------------------------------------------------------------------------------------------------

PARTS = Price.stated(
    Decimal(10),
    Decimal(20),
    {"cache_read": "1", "cache_write": "12.5", "audio_input": "40", "reasoning": "30", "audio_output": "80"},
)
assert PARTS is not None


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(100, 10), "1.2"),
        (Usage(100, 10, cached=40), "0.84"),
        (Usage(100, 10, cache_write=40), "1.3"),
        (Usage(100, 10, audio_input=40), "2.4"),
        (Usage(100, 10, reasoning=4), "1.24"),
        (Usage(100, 10, audio_output=4), "1.44"),
        (Usage(100, 10, cached=10, cache_write=20, audio_input=30, reasoning=4, audio_output=6), "2.46"),
        (Usage(100, 10, cached=100, reasoning=10), "0.4"),
    ],
)
def test_parts_of_tokens_cost_their_own_rates(usage: Usage, dollars: str) -> None:
    assert PARTS is not None
    assert PARTS.cost(usage) == Decimal(dollars)


def test_parts_without_a_rate_cost_as_what_they_are_part_of() -> None:
    parts = Usage(100, 10, cached=10, cache_write=20, audio_input=30, reasoning=4, audio_output=6)
    assert SEED.cost(parts) == SEED.cost(Usage(100, 10))


def test_a_rate_of_zero_is_a_rate() -> None:
    price = Price.stated(Decimal(10), Decimal(20), {"cache_read": 0, "reasoning": "0"})
    assert price is not None
    assert price.cost(Usage(100, 10, cached=100, reasoning=10)) == 0


def test_units_cost_each_and_beside_tokens() -> None:
    price = Price.stated(Decimal(1), Decimal(2), {"request": "0.01", "second": "0.0001"})
    assert price is not None
    units = {Unit.REQUEST: Decimal(1), Unit.SECOND: Decimal("2.5"), Unit.PAGE: Decimal(7)}
    assert price.cost(Usage(1000, 500, units=units)) == Decimal("2.01025"), "pages have no price here"


def test_a_long_prompt_has_the_price_of_its_tier() -> None:
    tiers = [{"above": 200, "input": "4", "cache_read": "3"}, {"above": 100, "input": "2"}]
    price = Price.stated(Decimal(1), Decimal(10), {"cache_read": "0.5", "tiers": tiers})
    assert price is not None
    costs = [price.cost(Usage(prompt, 1)) * 1000 for prompt in (100, 101, 200, 201)]
    assert costs == [110, 212, 410, 814], "above, not from; the whole prompt; whatever order they are stated in"
    assert [price.cost(Usage(prompt, 0, cached=prompt)) * 1000 for prompt in (100, 200, 201)] == [50, 100, 603]


def test_the_dearest_price_is_the_highest_that_any_token_can_have() -> None:
    tiers = [{"above": 100, "input": "2", "audio_output": "70"}]
    rates = {"cache_write": "12.5", "audio_input": "40", "reasoning": "30", "request": "0.5", "tiers": tiers}
    price = Price.stated(Decimal(10), Decimal(20), rates)
    assert price is not None
    assert price.dearest == Price(Decimal(40), Decimal(70), units={Unit.REQUEST: Decimal("0.5")})
    assert price.dearest.dearest == price.dearest
    assert SEED.dearest == SEED


def test_a_markup_raises_every_rate() -> None:
    tiers = [{"above": 100, "input": "2", "output": "3"}]
    price = Price.stated(Decimal(1), Decimal(2), {"cache_read": "0.1", "request": "0.5", "tiers": tiers})
    assert price is not None
    assert price.times(Decimal("1.5")) == Price.stated(
        Decimal("1.5"),
        Decimal(3),
        {
            "cache_read": "0.15",
            "request": "0.75",
            "tiers": [{"above": 100, "input": "3", "output": "4.5"}],
        },
    )


def test_a_price_that_states_nothing_is_none() -> None:
    assert Price.stated(None, None, {}) is None
    assert Price.stated(None, None, {"tiers": []}) is None


def test_a_price_of_units_alone_has_no_tokens() -> None:
    price = Price.stated(None, None, {"image": "0.04"})
    assert price is not None
    assert not price.tokens
    assert price.covers((Unit.IMAGE, Unit.REQUEST))
    assert not price.covers((Unit.SECOND, Unit.REQUEST))
    assert Price.stated(Decimal(0), Decimal(0), {}) == Price(tokens=True), "free is a price"


@pytest.mark.parametrize(
    "rates",
    [
        {},
        {"cache_read": "0.1", "cache_write": "1.25", "reasoning": "3", "audio_input": "4", "audio_output": "5"},
        {"request": "0.01", "image": "0.04", "second": "0.0001", "character": "0.00003", "query": "0.002", "page": "1"},
        {"cache_read": "0.1", "tiers": [{"above": 100, "input": "2"}, {"above": 200, "cache_read": "0.2"}]},
    ],
)
def test_rates_are_what_stated_takes(rates: dict[str, Any]) -> None:
    stored = Rates.model_validate(rates).stored()
    price = Price.stated(Decimal(1), Decimal(2), stored)
    assert price is not None
    assert Price.stated(Decimal(1), Decimal(2), price.rates()) == price
    assert Price.stated(Decimal(1), Decimal(2), money.loads(money.dumps(price.rates()))) == price, "and as JSON"


@pytest.mark.parametrize(
    "wrong",
    [
        {"cache_read": -1},
        {"cache_read": "NaN"},
        {"cache_read": "1e9"},
        {"cache_read": "0.00000000001"},
        {"cash_read": 1},
        {"tiers": [{"input": 1}]},
        {"tiers": [{"above": 0}]},
        {"tiers": [{"above": "100"}]},
        {"tiers": [{"above": 100, "request": 1}]},
        {"tiers": [{"above": above} for above in range(1, 10)]},
    ],
)
def test_rates_refuse(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rates.model_validate(wrong)


def test_charge_by_tokens_counts_units_by_their_dollars() -> None:
    price = Price(Decimal(1), Decimal(1), units={Unit.IMAGE: Decimal("0.04")})
    made = charge(Usage(1000, 0, units={Unit.IMAGE: Decimal(2)}), price, TOKENS)
    assert (made.cost_usd, made.credits) == (Decimal("1.08"), Decimal("0.9"))


@pytest.mark.parametrize(("rounding", "credits"), [("up", "0.0002"), ("half_even", "0.0002"), ("down", "0.0001")])
def test_charge_is_rounded_as_the_plan_says(rounding: str, credits: str) -> None:
    plan = Plan.of({"rounding": rounding, "rounding_step": "0.0001"})
    assert charge(Usage(15, 8), SEED, plan).credits == Decimal(credits)
    assert charge(Usage(0, 0), SEED, plan).credits == 0


def test_what_costs_anything_costs_the_minimum() -> None:
    plan = Plan.of({"minimum_charge": "0.01"})
    assert charge(Usage(1, 0), SEED, plan).credits == Decimal("0.01")
    assert charge(Usage(0, 0), SEED, plan).credits == 0
    assert charge(Usage(10**6, 0), SEED, plan).credits == 5


@pytest.mark.parametrize("rounding", ["up", "half_even", "down"])
@pytest.mark.parametrize("credits", ["0.0099", "0.01", "0.5", "1.5", "1000.5"])
def test_what_is_affordable_fits_after_rounding_too(rounding: str, credits: str) -> None:
    plan = Plan.of({"rounding": rounding, "rounding_step": "1", "minimum_charge": "0.01"})
    tokens = affordable_output(Decimal(credits), Usage(15), SEED, plan)
    assert tokens is not None
    if tokens >= 0:
        assert charge(Usage(15, tokens), SEED, plan).credits <= Decimal(credits)
    else:
        assert charge(Usage(15, 0), SEED, plan).credits > Decimal(credits)


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
    assert Usage.parse(as_object(FULL)) == expected
    assert expected.total == 23, "the total that the provider states is not believed"


@pytest.mark.parametrize("wrong", [-1, "8", 8.0, True, None, 10**9, [8], Decimal(8)])
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
def test_usage_that_cannot_be_true(field: str, wrong: object) -> None:
    assert Usage.parse(FULL | {field: wrong}) is None


def test_usage_details_that_cannot_be_true_are_dropped() -> None:
    assert Usage.parse(FULL | {"prompt_tokens_details": "x", "completion_tokens_details": None}) == Usage(15, 8)
    assert Usage.parse(FULL | {"prompt_tokens_details": {"cached_tokens": -1}}) == Usage(15, 8, None, 3)
    assert Usage.parse(FULL | {"prompt_tokens_details": {"cached_tokens": 16}}) == Usage(15, 8, 15, 3)


ANTHROPIC = {
    "input_tokens": 40,
    "cache_read_input_tokens": 50,
    "cache_creation_input_tokens": 10,
    "output_tokens": 20,
}
RESPONSES = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 120,
}
TRANSCRIPTION = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
    "output_tokens": 45,
}
GEMINI = {
    "promptTokenCount": 100,
    "toolUsePromptTokenCount": 7,
    "cachedContentTokenCount": 40,
    "candidatesTokenCount": 15,
    "thoughtsTokenCount": 5,
    "totalTokenCount": 127,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 97}, {"modality": "AUDIO", "tokenCount": 3}],
    "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}],
}


@pytest.mark.parametrize(
    ("stated", "usage"),
    [
        (
            FULL
            | {
                "prompt_tokens_details": {"cached_tokens": 4, "cache_creation_tokens": 5, "audio_tokens": 6},
                "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 2},
            },
            Usage(15, 8, cached=4, reasoning=3, cache_write=5, audio_input=6, audio_output=2),
        ),
        (FULL | {"cache_creation_input_tokens": 5}, Usage(15, 8, cached=4, reasoning=3, cache_write=5)),
        (RESPONSES, Usage(100, 20, cached=40, reasoning=5)),
        ({"input_tokens": 100, "output_tokens": 20}, Usage(100, 20)),
        (TRANSCRIPTION, Usage(14, 45, audio_input=10)),
        (ANTHROPIC, Usage(100, 20, cached=50, cache_write=10)),
        (
            {"input_tokens": 40, "output_tokens": 20, "cache_read_input_tokens": 0},
            Usage(40, 20, cached=0),
        ),
        (GEMINI, Usage(107, 20, cached=40, reasoning=5, audio_input=3, audio_output=2)),
        ({"promptTokenCount": 100}, Usage(100, 0)),
        ({"promptTokenCount": 100, "thoughtsTokenCount": 5}, Usage(100, 5, reasoning=5)),
    ],
)
def test_usage_in_the_shapes_of_all_vendors(stated: dict[str, Any], usage: Usage) -> None:
    assert Usage.parse(stated) == usage
    assert Usage.parse(as_object(stated)) == usage


@pytest.mark.parametrize("wrong", [-1, "8", 8.0, True, 10**9, [8], {}])
@pytest.mark.parametrize(
    ("stated", "field"),
    [
        (RESPONSES, "input_tokens"),
        (RESPONSES, "output_tokens"),
        (ANTHROPIC, "input_tokens"),
        (ANTHROPIC, "output_tokens"),
        (GEMINI, "promptTokenCount"),
        (GEMINI, "candidatesTokenCount"),
    ],
)
def test_usage_of_any_shape_that_cannot_be_true(stated: dict[str, object], field: str, wrong: object) -> None:
    assert Usage.parse(stated | {field: wrong}) is None


def test_usage_that_becomes_absurd_only_as_a_sum() -> None:
    most = 10**9 - 1
    assert Usage.parse({"input_tokens": most, "output_tokens": 1, "cache_read_input_tokens": 1}) is None
    assert Usage.parse({"promptTokenCount": 1, "candidatesTokenCount": most, "thoughtsTokenCount": 1}) is None


@pytest.mark.parametrize(
    "nothing", [None, {}, [], "usage", 5, object(), {"total_tokens": 5}, {"candidatesTokenCount": 5}]
)
def test_no_usage(nothing: object) -> None:
    assert Usage.parse(nothing) is None


def test_parts_never_are_more_than_the_whole() -> None:
    details = {"cached_tokens": 10, "cache_creation_tokens": 10}
    usage = Usage.parse(FULL | {"prompt_tokens_details": details})
    assert usage == Usage(15, 8, cached=10, cache_write=5, reasoning=3), "what is read from a cache is counted first"
    wrote = {"reasoning_tokens": 5, "audio_tokens": 5}
    assert Usage.parse(FULL | {"completion_tokens_details": wrote}) == Usage(15, 8, 4, 5, audio_output=3)


def test_usage_is_empty_when_only_the_request_itself_was_used() -> None:
    assert Usage(units={Unit.REQUEST: Decimal(1), Unit.IMAGE: Decimal(0)}).empty
    assert not Usage(units={Unit.IMAGE: Decimal(1)}).empty
    assert not Usage(0, 1).empty


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


# To be added to tests/unit/test_pricing.py when the code is mended ----------------------------------------------------


def test_audio_is_never_less_than_nothing() -> None:
    details = {"cached_tokens": 10, "cache_creation_tokens": 10, "audio_tokens": 10}
    usage = Usage.parse(FULL | {"prompt_tokens_details": details})
    assert usage == Usage(15, 8, cached=10, cache_write=5, reasoning=3)


def test_rates_of_units_and_tiers_are_what_stated_takes() -> None:
    rates = {"request": "0.01", "tiers": [{"above": 100, "input": "2"}]}
    price = Price.stated(Decimal(1), Decimal(2), rates)
    assert price is not None
    assert Price.stated(Decimal(1), Decimal(2), price.rates()) == price
