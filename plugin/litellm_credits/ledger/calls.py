"""What goes into the ledger for one call: the hold it starts with, the ending it gets, and the answers of both."""

import os
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from litellm_credits.models import CallBasis


def new_call_id() -> UUID:
    """An id for a call: a UUID of version 7 (RFC 9562), 48 bits of time in milliseconds and then 74 random ones.

    Ids that grow with time keep the indexes of calls growing at their end, however many calls there are.
    """
    milliseconds, randoms = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | randoms
    return UUID(int=value & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62)


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """A call about to leave, and the most it can cost."""

    team_id: str
    key_id: UUID
    job_id: UUID | None
    credits: Decimal
    endpoint: str
    stream: bool
    requested_model: str
    model_group_used: str
    model_alias: str
    pricing_input: Decimal
    pricing_output: Decimal
    aliases: tuple[str, ...] = ()
    """Every alias that may serve the call; none given: model_alias only. A grant restricted to aliases pays if it allows all."""
    purpose: str | None = None
    litellm_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Credits are reserved: the call may leave. `available` is what another call like it could be held from beside it.

    `credits` is 0, whatever was asked for, where the price of the call's job pays for it.
    """

    call_id: UUID
    credits: Decimal
    available: Decimal


@dataclass(frozen=True, slots=True)
class Short:
    """The hold did not fit into what is available for this call. `held` credits are promised to others and may come free."""

    available: Decimal
    held: Decimal


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended and what it costs. With `basis` it is settled, without it is voided and costs nothing."""

    call_id: UUID
    team_id: str
    model_alias: str
    pricing_input: Decimal
    pricing_output: Decimal
    basis: CallBasis | None = None
    credits: Decimal = Decimal(0)
    cost_usd: Decimal | None = None
    provider_cost_usd: Decimal | None = None
    resolved_model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    units: dict[str, Decimal] | None = None
    pricing_rates: dict[str, object] | None = None
    policy: str | None = None
    flags: list[str] = field(default_factory=list)
    latency_ms: int | None = None
    time_to_first_token_ms: int | None = None
    request_data: bytes | None = None
    response_data: bytes | None = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A call has ended, durably. `remaining` is allocated - used; `available` also leaves out what is held."""

    charged: Decimal
    uncollected: Decimal
    remaining: Decimal
    available: Decimal
