"""Exact money: `Decimal` from end to end, and JSON that keeps every digit.

One rounding per call, at the step from USD or tokens to credits, upwards to 10⁻¹⁰ credit (`to_credits`). A hold's
upper bound goes through the same step, so rounding alone can never lift a charge above its hold.
"""

import json
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

import orjson

CREDIT_STEP = Decimal("1e-10")
"""The smallest amount of credits: the scale of the database's NUMERIC(24,10)."""

MAX_CREDITS = Decimal("1e13")
"""Amounts at or above this are refused as input, so that sums of them still fit NUMERIC(24,10)."""

_MOST_DIGITS = 400

TOKENS_PER_PRICE = Decimal(1000)
"""Prices are USD per this many tokens."""


def to_credits(amount: Decimal) -> Decimal:
    """`amount` rounded up to the smallest step of credits. The only rounding in the life of a call."""
    return amount.quantize(CREDIT_STEP, rounding=ROUND_CEILING)


def plain(amount: Decimal) -> str:
    """`amount` without exponent and trailing zeros: Decimal('0.0001950000') → '0.000195'."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _default(value: object) -> object:
    if isinstance(value, Decimal):
        return orjson.Fragment(plain(value))
    raise TypeError(f"{type(value).__name__} does not go into JSON")


def dumps(value: object) -> bytes:
    """JSON in UTF-8; a `Decimal` becomes a plain number with all its digits, a datetime RFC 3339 in UTC.

    Raises:
        TypeError: for a value that has no JSON form.
    """
    return orjson.dumps(value, default=_default, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


def loads(body: bytes | str) -> Any:
    """Parse JSON; numbers with a fraction or exponent become `Decimal`, never float.

    Raises:
        ValueError: when `body` is not JSON (NaN and Infinity are not), or holds a number that no double could.
    """
    return json.loads(body, parse_float=_decimal, parse_constant=_refuse_constant)


def _decimal(text: str) -> Decimal:
    number = Decimal(text)
    if abs(number.adjusted()) > _MOST_DIGITS:  # written out, 1e999999999 would take a gigabyte
        raise ValueError(f"{text[:32]} is out of range")
    return number


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def utc(moment: datetime) -> str:
    """RFC 3339 with a Z, for messages."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
