"""Before dispatch: resolve the name, check access, bound the cost, hold, and leave LiteLLM no choice but what was held for."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import litellm

from litellm_credits.endpoints.endpoint import ONE, Demand, Endpoint
from litellm_credits.engine import Engine
from litellm_credits.errors import BadInput, InsufficientCredits, JobRequired, ParameterNotAllowed
from litellm_credits.ledger.calls import Held, HoldRequest, Short
from litellm_credits.pricing.charge import affordable_output, charge
from litellm_credits.pricing.usage import Unit
from litellm_credits.proxy.call import Admission, Call, Candidate
from litellm_credits.proxy.request import check_stream, client_body, read_labels, refuse_overrides
from litellm_credits.proxy.resolution import Names
from litellm_credits.proxy.tokens import prompt_tokens
from litellm_credits.tenancy.principals import Principal

log = logging.getLogger("litellm_credits.proxy")

DEFAULT_CONTEXT_TOKENS = 2_000_000
"""Context window assumed for a model that states none, for prompts whose tokens cannot be counted."""

_BILLED_BY_TIME = ("gemini/", "vertex_ai/", "vertex_ai_beta/")
_FROM_HEADERS = (
    "api_version",
    "extra_headers",
    "keepalive_seconds",
    "max_retries",
    "num_retries",
    "provider_specific_header",
    "stream_timeout",
    "timeout",
    "ttl",
)
"""What LiteLLM takes from the headers and the query of a request; in its body these are refused."""

_EXACT_MARGIN = Decimal("1.02")
_MARGIN_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Quote:
    """What a request would hold: `credits`, of `available` ones. `affordable`: the output tokens per choice that these pay for,
    where a request can limit them at all."""

    admission: Admission
    credits: Decimal
    available: Decimal
    affordable: int | None


class Admissions:
    """Admits calls, for one engine."""

    def __init__(self, engine: Engine, names: Names) -> None:
        self._engine = engine
        self._names = names

    async def admit(self, call: Call, principal: Principal, endpoint: Endpoint, request: dict[str, Any]) -> None:
        """Hold for the call and rewrite `request` so that only what was held for can serve it. Idempotent per call.

        Raises:
            CreditsError: 402, 403, 404, 409, 422 or 503; nothing is held then and nothing was sent.
        """
        if call.admission is None:
            body = await client_body(call, endpoint, request)
            read_labels(call, request, body)
            _require_job(call, principal)
            name = request.get("model") or endpoint.default_model if endpoint.routed else call.path
            admission = await self._admission(principal, endpoint, name, body, stream=request.get("stream") is True)

            def hold(wanted: Admission) -> Awaitable[Held | Short]:
                return self._engine.ledger.hold(_hold_request(call, principal, wanted))

            admission, outcome, affordable = await _fitted(admission, hold)
            if isinstance(outcome, Short):
                raise InsufficientCredits(
                    required=bound(admission),
                    available=outcome.available,
                    held=outcome.held,
                    affordable_max_tokens=affordable,
                )
            call.admission, call.held = admission, outcome
        _dispatch_only(call.admission, principal, request)

    async def quote(
        self, call: Call, principal: Principal, endpoint: Endpoint, name: object, body: dict[str, Any]
    ) -> Quote:
        """What `admit` would hold for this request now. Nothing is held, and nothing is sent.

        Raises:
            CreditsError: as `admit`, but for too few credits.
        """
        read_labels(call, {}, body)
        _require_job(call, principal)
        admission = await self._admission(principal, endpoint, name, body, stream=body.get("stream") is True)

        def rehearse(wanted: Admission) -> Awaitable[Held | Short]:
            return self._engine.ledger.rehearse(_hold_request(call, principal, wanted))

        admission, outcome, _ = await _fitted(admission, rehearse)
        held = isinstance(outcome, Held)
        credits = outcome.credits if isinstance(outcome, Held) else bound(admission)
        available = outcome.available + credits if held else outcome.available
        included = held and credits < bound(admission)  # the price of the job pays for its calls, however long they are
        output = admission.output_tokens if included else max(0, _affordable(admission, available))
        return Quote(admission, credits, available, output if endpoint.limits_output else None)

    # The upper bound --------------------------------------------------------------------------------------------------

    async def _admission(
        self, principal: Principal, endpoint: Endpoint, name: object, body: dict[str, Any], *, stream: bool
    ) -> Admission:
        if endpoint.routed:
            refuse_overrides(body, endpoint)
            if not endpoint.form:
                check_stream(body)
        try:
            endpoint.refuse(body)
            demand = endpoint.demand(body)
        except RecursionError:
            raise BadInput(problem="The request is nested too deeply.") from None
        resolution, catalog = await self._names.resolve(principal, name)
        candidates = self._names.candidates(resolution, catalog, principal, endpoint)
        _refuse_dearer_tiers(body, candidates)
        _refuse_storage(body, candidates)
        output_tokens, written = self._output_bound(candidates, demand)
        windows = [one.deployment.context_tokens for one in candidates]
        window = max(window for window in windows if window) if all(windows) else DEFAULT_CONTEXT_TOKENS
        return Admission(
            team_id=principal.team_id,
            plan=principal.plan,
            endpoint=endpoint,
            requested=resolution.requested,
            group=resolution.group,
            candidates=candidates,
            prompt_tokens=window if demand.prompt is None else min(demand.prompt, window),
            countable=demand.prompt is not None,
            output_tokens=output_tokens,
            choices=demand.choices,
            units={**demand.units, Unit.REQUEST: ONE},
            max_tokens=output_tokens if written and endpoint.limits_output else None,
            stream=stream,
            request=body,
        )

    def _output_bound(self, candidates: tuple[Candidate, ...], demand: Demand) -> tuple[int, bool]:
        """Output tokens per choice to hold for, and whether the request must be made to state them.

        Stated, else the alias's cap, else the model's own limit, which needs no stating (and stating it could exceed the
        context window together with the prompt), else the configured default.
        """
        if not demand.choices:
            return 0, False
        if demand.per_choice is not None:
            return demand.per_choice, False
        natural = [one.deployment.max_output_tokens for one in candidates if one.alias.max_output_tokens is None]
        if len(natural) == len(candidates) and all(natural):
            return max(tokens for tokens in natural if tokens), False
        default = self._engine.settings.default_max_output_tokens
        return max(
            one.alias.max_output_tokens or one.deployment.max_output_tokens or default for one in candidates
        ), True


def _require_job(call: Call, principal: Principal) -> None:
    if call.job_id is None and principal.plan.needs_job:
        raise JobRequired


async def _fitted(
    admission: Admission, hold: Callable[[Admission], Awaitable[Held | Short]]
) -> tuple[Admission, Held | Short, int]:
    """Hold for the bound: the cheap one, else the exact one, else what the balance affords.

    The last that was tried, what came of it, and the output tokens per choice that would fit where it did not.
    """
    outcome = await hold(admission)
    if isinstance(outcome, Short) and admission.countable:
        exact = await _exact_input(admission)
        if exact is not None and exact < admission.prompt_tokens:
            admission = replace(admission, prompt_tokens=exact)
            outcome = await hold(admission)
    if isinstance(outcome, Held) or not admission.endpoint.limits_output:
        return admission, outcome, 0
    plan = admission.plan
    affordable = min(_affordable(admission, outcome.available), admission.output_tokens)
    if plan.fit_to_balance and 0 < affordable >= min(plan.fit_min_tokens, admission.output_tokens):
        fitted = replace(admission, output_tokens=affordable, max_tokens=affordable)
        outcome = await hold(fitted)
        if isinstance(outcome, Held):
            return fitted, outcome, affordable
    return admission, outcome, max(0, affordable)


def _hold_request(call: Call, principal: Principal, admission: Admission) -> HoldRequest:
    first = admission.candidates[0]
    return HoldRequest(
        team_id=principal.team_id,
        key_id=principal.key_id,
        job_id=call.job_id,
        credits=bound(admission),
        endpoint=call.path,
        stream=admission.stream,
        requested_model=admission.requested,
        model_group_used=admission.group,
        model_alias=first.alias.name,
        aliases=tuple(one.alias.name for one in admission.candidates),
        pricing_input=first.price.input,
        pricing_output=first.price.output,
        purpose=call.purpose,
        litellm_call_id=call.litellm_call_id,
    )


def bound(admission: Admission) -> Decimal:
    """The most credits that any candidate can cost."""
    return max(charge(admission.most, one.dearest, admission.plan).credits for one in admission.candidates)


def _affordable(admission: Admission, available: Decimal) -> int:
    """Output tokens per choice that `available` credits pay for, whoever serves."""
    before = replace(admission.most, completion=0)
    limits = [affordable_output(available, before, one.dearest, admission.plan) for one in admission.candidates]
    stated = [limit for limit in limits if limit is not None]
    return min(stated) // max(admission.choices, 1) if stated else admission.output_tokens


async def _exact_input(admission: Admission) -> int | None:
    """Prompt tokens by the model's own tokenizer, plus a margin; None where LiteLLM has only a stand-in for it."""
    if not all(one.deployment.exact_tokens for one in admission.candidates):
        return None
    try:
        counts = [
            await asyncio.to_thread(prompt_tokens, one.deployment, admission.endpoint, admission.request)
            for one in admission.candidates
        ]
    except Exception:
        log.exception("the tokenizer failed; the bound by bytes stands")
        return None
    return int(max(counts) * _EXACT_MARGIN) + _MARGIN_TOKENS


def _refuse_dearer_tiers(body: dict[str, Any], candidates: tuple[Candidate, ...]) -> None:
    """Refuse a provider's dearer service tiers where the alias has a price of its own, which knows no tiers of service."""
    if body.get("service_tier") in (None, "auto", "default", "flex", "standard_only"):
        return
    if any(one.markup is None for one in candidates):
        raise ParameterNotAllowed(name="service_tier", param="service_tier")


def _refuse_storage(body: object, candidates: tuple[Candidate, ...]) -> None:
    """Refuse caching that the provider bills by time: Gemini's, which LiteLLM makes of cache_control, and unusually long ones."""
    by_time = any(one.deployment.model.startswith(_BILLED_BY_TIME) for one in candidates)
    if isinstance(body, dict):
        control = body.get("cache_control")
        if control is not None:
            ttl = control.get("ttl") if isinstance(control, dict) else control
            if by_time or ttl not in (None, "5m", "1h"):
                raise ParameterNotAllowed(name="cache_control", param="cache_control")
    for inner in body.values() if isinstance(body, dict) else body if isinstance(body, list) else ():
        if isinstance(inner, dict | list):
            _refuse_storage(inner, candidates)


def _dispatch_only(admission: Admission, principal: Principal, request: dict[str, Any]) -> None:
    """Name the deployment that serves, the only ones that may stand in for it, and the limit that was held for."""
    if not admission.endpoint.routed:
        return
    for name in _FROM_HEADERS:
        request.pop(name, None)
    first, *others = admission.candidates
    request["model"] = first.deployment.name
    request["fallbacks"] = [one.deployment.name for one in others]
    request["context_window_fallbacks"] = []
    request["content_policy_fallbacks"] = []
    if admission.max_tokens is not None:
        admission.endpoint.limit_output(request, admission.max_tokens)
    if admission.stream and admission.endpoint.asks_for_usage:
        # LiteLLM asks the provider for usage by itself only when it knows the name that the client asked for.
        request["stream_options"] = (request.get("stream_options") or {}) | {"include_usage": True}
    if litellm.cache is not None:
        request["cache"] = {"namespace": f"team:{principal.team_id}"}  # else a team could be served another's answer
