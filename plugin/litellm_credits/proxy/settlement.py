"""After dispatch: what the call used, what it costs, and the end of its hold.

Whoever sees a call's end first (a hook of LiteLLM's, or the ring) takes it: `Call.ended` is set before anything is awaited,
so within a process a call is ended once, and the ledger sees to the rest.
"""

import asyncio
import logging
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from litellm_credits.endpoints.endpoint import ONE
from litellm_credits.ledger.calls import Ending
from litellm_credits.ledger.ledger import Ledger
from litellm_credits.models import CallBasis
from litellm_credits.money import dumps, to_credits
from litellm_credits.pricing.charge import Charge, Price, charge
from litellm_credits.pricing.endings import Evidence, Verdict, judge
from litellm_credits.pricing.usage import Unit, Usage
from litellm_credits.proxy.call import Admission, Call, Candidate
from litellm_credits.proxy.tokens import output_tokens, prompt_tokens

log = logging.getLogger("litellm_credits.proxy")

_USD_STEP = Decimal("1e-14")
_LONGEST_ERROR = 2000
_LONGEST_MODEL = 255


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a provider's answer.

    `usage` is the provider's, or LiteLLM's own when `estimated`, because the provider gave none. `malformed`: it gave one that
    cannot be true. `cost_usd` is LiteLLM's own cost of the call, `text` what the model wrote, `body` what to record of it.
    """

    usage: Usage | None = None
    malformed: bool = False
    estimated: bool = False
    text: list[str] = field(default_factory=list)
    has_output: bool = False
    cost_usd: object = None
    model: str | None = None
    body: object = None
    cached: bool = False
    disconnected: bool = False
    flags: tuple[str, ...] = ()
    error: BaseException | None = None


class Settlements:
    """Ends the holds of this worker's calls."""

    def __init__(self, ledger: Ledger, *, record_bytes: int) -> None:
        self._ledger = ledger
        self._record_bytes = record_bytes

    async def settle(self, call: Call, answer: Answer) -> None:
        """Charge a call that a provider answered, in full or in part, and return once that is durable.

        Cancelling the caller does not cancel it: tokens may have to be counted first.
        """
        self.begin(call, answer)
        await self.settled(call)

    def begin(self, call: Call, answer: Answer) -> None:
        """As `settle`, without waiting: `settled` does, or nobody, where the call's client or task has gone."""
        if call.open:
            call.ended = True
            call.settling = self._ledger.in_background(self._end(call, answer))

    @staticmethod
    async def settled(call: Call) -> None:
        """Return once the settle of this call that was begun here, if one was, is durable."""
        if call.settling is not None and not call.settling.done():
            await asyncio.wait((call.settling,))

    async def void(self, call: Call, error: BaseException | None, *, flags: tuple[str, ...] = ()) -> None:
        """Release the hold of a call that no provider answered, and keep why."""
        if call.open:
            call.ended = True
            call.receipt = await self._ledger.end(self._voided(call, Verdict(None, None, flags), error))

    async def _end(self, call: Call, answer: Answer) -> None:
        try:
            ending = await self._ending(call, answer)
        except Exception:  # whatever it is, the hold must not outlive it
            log.exception("an answer could not be priced; the call is voided and flagged")
            flags = (*answer.flags, "needs_reconciliation")
            ending = self._voided(call, Verdict(None, None, flags), answer.error)
        call.receipt = await self._ledger.end(ending)

    async def _ending(self, call: Call, answer: Answer) -> Ending:
        admission, held = call.admission, call.held
        assert held is not None
        assert admission is not None
        served = call.served or admission.candidates[0]
        usage = answer.usage
        verdict = judge(
            Evidence(
                usage=None if answer.estimated or not _pays(usage, served.price) else usage,
                has_output=answer.has_output,
                malformed=answer.malformed,
                cached=answer.cached,
                disconnected=answer.disconnected,
                counts_itself=admission.endpoint.counts_itself,
            ),
            admission.plan,
        )
        verdict = replace(verdict, flags=(*answer.flags, *verdict.flags))
        if verdict.basis is None:
            return self._voided(call, verdict, answer.error)
        provider_cost = None
        match verdict.basis:
            case CallBasis.provider_usage:
                assert usage is not None
                usage = usage.with_units({Unit.REQUEST: ONE, **usage.units})
                provider_cost = _dollars(answer.cost_usd)
                # LiteLLM says 0 also where it could not tell.
                by_litellm = provider_cost * served.markup if served.markup and provider_cost else None
                cost = charge(usage, served.price, admission.plan, cost_usd=by_litellm)
                credits = cost.credits
            case CallBasis.request_units:
                usage = Usage(units=admission.units)
                cost = charge(usage, served.price, admission.plan)
                credits = cost.credits
            case CallBasis.counted_output:
                if usage is None or not answer.estimated:
                    usage = await asyncio.to_thread(_count, served, admission, "".join(answer.text))
                usage = _within(usage, admission)
                cost = charge(usage, served.price, admission.plan)
                credits = min(cost.credits, held.credits)  # without the provider's word never more than was held
            case CallBasis.held_estimate:
                usage = admission.most
                cost = Charge(served.price.cost(usage), held.credits)
                credits = held.credits
            case CallBasis.cache_hit:
                usage = (usage or Usage()).with_units({Unit.REQUEST: ONE, **(usage.units if usage else {})})
                full = charge(usage, served.price, admission.plan)
                rate = admission.plan.cache_hit_rate
                cost = Charge(full.cost_usd * rate, to_credits(full.credits * rate))
                credits = min(cost.credits, held.credits)
            case CallBasis.zero_output:
                usage, cost, credits = Usage(), Charge(Decimal(0), Decimal(0)), Decimal(0)
        return Ending(
            call_id=held.call_id,
            team_id=admission.team_id,
            model_alias=served.alias.name,
            pricing_input=served.price.input,
            pricing_output=served.price.output,
            basis=verdict.basis,
            credits=credits,
            cost_usd=cost.cost_usd,
            provider_cost_usd=provider_cost,
            resolved_model=(answer.model or served.deployment.name)[:_LONGEST_MODEL],
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
            total_tokens=usage.total,
            cached_tokens=usage.cached,
            cache_write_tokens=usage.cache_write,
            reasoning_tokens=usage.reasoning,
            audio_input_tokens=usage.audio_input,
            audio_output_tokens=usage.audio_output,
            units={str(unit): count for unit, count in usage.units.items()},
            pricing_rates=served.price.rates(),
            policy=verdict.policy,
            flags=list(verdict.flags),
            latency_ms=call.milliseconds(),
            time_to_first_token_ms=None if call.first_token is None else call.milliseconds(call.first_token),
            request_data=self._recorded_request(call, admission),
            response_data=self._recorded(
                admission, answer.body or {"content": "".join(answer.text), "streaming": admission.stream}
            ),
            error=_described(answer.error),
        )

    def _voided(self, call: Call, verdict: Verdict, error: BaseException | None) -> Ending:
        admission, held = call.admission, call.held
        assert held is not None
        assert admission is not None
        candidate = call.served or admission.candidates[0]
        return Ending(
            call_id=held.call_id,
            team_id=admission.team_id,
            model_alias=candidate.alias.name,
            pricing_input=candidate.price.input,
            pricing_output=candidate.price.output,
            policy=verdict.policy,
            flags=list(verdict.flags),
            latency_ms=call.milliseconds(),
            request_data=self._recorded_request(call, admission),
            error=_described(error),
        )

    def _recorded_request(self, call: Call, admission: Admission) -> bytes | None:
        size = call.headers.get("content-length", "")
        if admission.plan.record_bodies and size.isdigit() and int(size) > self._record_bytes:
            return dumps({"truncated": True, "bytes": int(size)})
        return self._recorded(admission, admission.request)

    def _recorded(self, admission: Admission, body: object) -> bytes | None:
        """A body as JSON for the call row: whole while it is small, else only its size."""
        if not admission.plan.record_bodies or not self._record_bytes:
            return None
        try:
            data = dumps(body)
        except TypeError:
            return dumps({"unrecordable": True})
        if len(data) > self._record_bytes:
            return dumps({"truncated": True, "bytes": len(data)})
        return data.replace(b"\\u0000", b"\\ufffd")  # PostgreSQL's jsonb cannot hold NUL


def _pays(usage: Usage | None, price: Price) -> bool:
    """Whether this usage is counted in something that the price has a rate for: seconds say nothing of a price of tokens."""
    if usage is None:
        return False
    units = set(price.units) - {Unit.REQUEST}
    if not price.tokens and not units:
        return True
    return (price.tokens and usage.total > 0) or any(unit in units for unit in usage.units) or usage.empty


def _within(usage: Usage, admission: Admission) -> Usage:
    """What was counted, no more than was held for: counting may differ from the provider's own."""
    completion = min(usage.completion, admission.output_tokens * admission.choices)
    return Usage(min(usage.prompt, admission.prompt_tokens), completion, units=usage.units)


def _count(served: Candidate, admission: Admission, output: str) -> Usage:
    endpoint = admission.endpoint
    units = {**endpoint.estimated(admission.request), Unit.REQUEST: ONE}
    if not served.price.tokens:
        return Usage(units=units)
    if len(endpoint.units) > 1 and (admission.choices or not admission.countable):
        return replace(admission.most, units=units)  # tokens of sounds and images cannot be counted here
    try:
        prompt = prompt_tokens(served.deployment, endpoint, admission.request)
        return Usage(prompt, output_tokens(served.deployment, output), units=units)
    except Exception:
        log.exception("the tokenizer failed; a token is taken to be 4 bytes")
        return Usage(admission.prompt_tokens // 4, -(-len(output.encode()) // 4), units=units)


def _dollars(value: object) -> Decimal | None:
    """LiteLLM's cost of a call, a float, as the decimal number it prints as."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not 0 <= value < 1e9:
        return None
    return Decimal(str(value)).quantize(_USD_STEP)


def _described(error: BaseException | None) -> dict[str, Any] | None:
    if error is None:
        return None
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return {
        "type": type(error).__name__,
        "status": status if isinstance(status, int | str) else None,
        "message": str(getattr(error, "message", None) or error)[:_LONGEST_ERROR].replace("\x00", "\ufffd"),
    }
