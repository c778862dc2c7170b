"""Exact JSON, by example. Its laws are in tests/property/test_pricing.py."""

from decimal import Decimal

import pytest

from litellm_credits import money


@pytest.mark.parametrize("number", ["1e999999999", "-1E+500", "1e-999999999", "NaN", "Infinity"])
def test_a_number_that_no_double_could_be_is_not_json(number: str) -> None:
    """Written out in full, as money is, 1e999999999 would take a gigabyte."""
    with pytest.raises(ValueError, match=r"out of range|not a JSON number"):
        money.loads(f'{{"temperature": {number}}}')


def test_numbers_keep_their_digits() -> None:
    assert (
        money.dumps({"credits": Decimal("0.0001950000"), "big": Decimal("1E+3")}) == b'{"credits":0.000195,"big":1000}'
    )
