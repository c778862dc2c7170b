"""A team's plan: what it takes, what it stores, what it charges for jobs."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from litellm_credits.pricing.plan import Plan


def test_default_plan_stores_nothing_and_prices_no_job() -> None:
    plan = Plan()
    assert plan.differences() == {}
    assert (plan.needs_job, plan.calls_included, plan.job_price("any")) == (False, False, None)


@pytest.mark.parametrize(("mode", "included"), [("job_based", True), ("hybrid", False)])
def test_jobs_are_priced_by_type(mode: str, included: bool) -> None:
    plan = Plan.of({"budget_mode": mode, "credits_by_job_type": {"big": "2.5"}})
    assert (plan.job_price("big"), plan.job_price("other")) == (Decimal("2.5"), 1)
    assert (plan.calls_included, plan.needs_job) == (included, included)


def test_a_stored_plan_is_read_as_it_was_written() -> None:
    fields: dict[str, Any] = {
        "budget_mode": "hybrid",
        "credits_by_job_type": {"big": "0.1"},
        "minimum_charge": "0.001",
        "rounding": "half_even",
        "rounding_step": "0.01",
        "alias_prices": {"gpt": {"pricing_input": "0.0005", "pricing_output": "0"}},
        "max_calls_in_flight": 4,
        "max_held_share": "0.5",
    }
    assert Plan.of(fields).differences() == fields
    assert Plan.of(Plan.of(fields).differences()) == Plan.of(fields)


@pytest.mark.parametrize(
    "wrong",
    [
        {"alias_prices": {"gpt": {"pricing": 1}}},
        {"alias_prices": {"gpt": {"pricing_input": -1}}},
        {"credits_per_job": -1},
        {"rounding": "sideways"},
        {"rounding_step": 0},
        {"max_calls_in_flight": 0},
        {"max_calls_in_flight": True},
        {"tokens_per_credit": True},
        {"fit_min_tokens": True},
        {"max_held_share": 2},
    ],
)
def test_fields_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Plan.of(wrong)
