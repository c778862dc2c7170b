"""Before dispatch: resolve the name, check access, bound the cost, hold, and leave LiteLLM no choice but what was held for."""

import asyncio
import logging
from dataclasses import replace
from decimal import Decimal
from typing import Any

import litellm

from litellm_credits.catalog.catalog import Alias, Catalog, Resolution
from litellm_credits.engine import Engine
from litellm_credits.errors import (
    BadInput,
    InsufficientCredits,
    JobRequired,
    ModelNotAllowed,
    ModelNotDeployed,
    PriceUnknown,
)
from litellm_credits.ledger.calls import Held, HoldRequest, Short
from litellm_credits.pricing.bound import OutputLimit, input_bound, output_limit, set_output_limit
from litellm_credits.pricing.charge import Price, affordable_output, charge
from litellm_credits.pricing.plan import Plan
from litellm_credits.pricing.usage import Usage
from litellm_credits.proxy.call import Admission, Call, Candidate
from litellm_credits.proxy.deployments import Deployments
from litellm_credits.proxy.request import read_labels, refuse_overrides, sent_by_client
from litellm_credits.proxy.tokens import prompt_tokens
from litellm_credits.tenancy.principals import Principal

log = logging.getLogger("litellm_credits.proxy")

_EXACT_MARGIN = Decimal("1.02")
_MARGIN_TOKENS = 32


class Admissions:
    """Admits calls, for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._deployments = Deployments()

    async def admit(self, call: Call, principal: Principal, request: dict[str, Any]) -> None:
        """Hold for the call and rewrite `request` so that only what was held for can serve it. Idempotent per call.

        Raises:
            CreditsError: 402, 403, 404, 409, 422 or 503; nothing is held then and nothing was sent.
        """
        if call.admission is None:
            body = sent_by_client(request)
            refuse_overrides(body)
            read_labels(call, request, body)
            if call.job_id is None and principal.plan.needs_job:
                raise JobRequired
            group, candidates = await self._resolve(principal, request)
            call.admission = await self._hold(call, principal, group, candidates, body)
        _dispatch_only(call.admission, principal, request)

    # Names ------------------------------------------------------------------------------------------------------------

    async def _resolve(self, principal: Principal, request: dict[str, Any]) -> tuple[str, tuple[Candidate, ...]]:
        requested = request.get("model")
        if not isinstance(requested, str) or not requested:
            raise BadInput(problem="'model' must be the name of a model alias or of an access group.", param="model")
        catalog = await self._engine.catalog.current()
        try:
            resolution = catalog.resolve(requested, team_id=principal.team_id, access_groups=principal.access_groups)
        except ModelNotAllowed:
            # What is cached may say yes; only the database says no.
            catalog = await self._engine.catalog.fresh()
            principal = await self._engine.authenticator.fresh(principal)
            resolution = catalog.resolve(requested, team_id=principal.team_id, access_groups=principal.access_groups)
        return resolution.group, self._candidates(resolution, catalog, principal)

    def _candidates(self, resolution: Resolution, catalog: Catalog, principal: Principal) -> tuple[Candidate, ...]:
        """The aliases that can serve, in order: those of the name, then the team's own among the router's fallbacks."""
        usable: list[Candidate] = []
        problem: Exception | None = None
        for alias in resolution.aliases:
            try:
                usable.append(self._candidate(alias, principal.plan))
            except (ModelNotDeployed, PriceUnknown) as unusable:
                problem = problem or unusable
        if not usable:
            assert problem is not None
            raise problem
        allowed = {
            name: catalog.aliases[name] for group in principal.access_groups for name in catalog.groups.get(group, ())
        }
        for name in [name for first in usable for name in self._deployments.fallbacks(first.deployment.name)]:
            for alias in allowed.values():
                if alias.actual_model == name and all(alias.actual_model != one.deployment.name for one in usable):
                    try:
                        usable.append(self._candidate(alias, principal.plan))
                    except (ModelNotDeployed, PriceUnknown):
                        log.warning("router fallback %s is not usable for alias %s", name, alias.name)
        return tuple(usable)

    def _candidate(self, alias: Alias, plan: Plan) -> Candidate:
        deployment = self._deployments.find(alias.actual_model, f"{alias.provider}/{alias.actual_model}")
        if deployment is None:
            raise ModelNotDeployed(model=alias.name, actual_model=alias.actual_model, param="model")
        if alias.pricing_input is not None and alias.pricing_output is not None:
            price = Price(alias.pricing_input, alias.pricing_output)
            return Candidate(alias, deployment, price, price, markup=None)
        if deployment.price is None or deployment.dearest is None:
            raise PriceUnknown(model=alias.name, actual_model=alias.actual_model, param="model")
        markup = 1 + plan.cost_markup_percentage / 100
        return Candidate(
            alias,
            deployment,
            Price(deployment.price.input * markup, deployment.price.output * markup),
            Price(deployment.dearest.input * markup, deployment.dearest.output * markup),
            markup=markup,
        )

    # The upper bound and the hold -------------------------------------------------------------------------------------

    async def _hold(
        self, call: Call, principal: Principal, group: str, candidates: tuple[Candidate, ...], request: dict[str, Any]
    ) -> Admission:
        """Hold for the bound: the cheap one, else the exact one, else what the balance affords."""
        limit = output_limit(request)
        prompt = input_bound(request, _most_context(candidates))
        output_tokens, written = self._output_bound(candidates, limit)
        admission = Admission(
            team_id=principal.team_id,
            plan=principal.plan,
            group=group,
            candidates=candidates,
            prompt_tokens=prompt.tokens,
            output_tokens=output_tokens,
            choices=limit.choices,
            max_tokens=output_tokens if written else None,
            request=request,
        )
        outcome = await self._try_hold(call, principal, admission)
        if isinstance(outcome, Short) and prompt.text:
            exact = await _exact_input(candidates, request)
            if exact is not None and exact < prompt.tokens:
                admission = replace(admission, prompt_tokens=exact)
                outcome = await self._try_hold(call, principal, admission)
        affordable = 0
        if isinstance(outcome, Short):
            affordable = min(_affordable(admission, outcome.available), output_tokens)
            if principal.plan.fit_to_balance and affordable >= min(principal.plan.fit_min_tokens, output_tokens):
                fitted = replace(admission, output_tokens=affordable, max_tokens=affordable)
                outcome = await self._try_hold(call, principal, fitted)
                if isinstance(outcome, Held):
                    admission = fitted
        if isinstance(outcome, Short):
            raise InsufficientCredits(
                required=_bound(admission),
                available=outcome.available,
                held=outcome.held,
                affordable_max_tokens=max(0, affordable),
            )
        call.held = outcome
        return admission

    def _output_bound(self, candidates: tuple[Candidate, ...], limit: OutputLimit) -> tuple[int, bool]:
        """Output tokens per choice to hold for, and whether the request must be made to state them.

        Stated, else the alias's cap, else the model's own limit, which needs no stating (and stating it could exceed the
        context window together with the prompt), else the configured default.
        """
        if limit.per_choice is not None:
            return limit.per_choice, False
        natural = [one.deployment.max_output_tokens for one in candidates if one.alias.max_output_tokens is None]
        if len(natural) == len(candidates) and all(natural):
            return max(tokens for tokens in natural if tokens), False
        default = self._engine.settings.default_max_output_tokens
        return max(
            one.alias.max_output_tokens or one.deployment.max_output_tokens or default for one in candidates
        ), True

    async def _try_hold(self, call: Call, principal: Principal, admission: Admission) -> Held | Short:
        first = admission.candidates[0]
        return await self._engine.ledger.hold(
            HoldRequest(
                team_id=principal.team_id,
                key_id=principal.key_id,
                job_id=call.job_id,
                credits=_bound(admission),
                endpoint=call.path,
                stream=admission.request.get("stream") is True,
                requested_model=str(admission.request["model"]),
                model_group_used=admission.group,
                model_alias=first.alias.name,
                aliases=tuple(one.alias.name for one in admission.candidates),
                pricing_input=first.price.input,
                pricing_output=first.price.output,
                purpose=call.purpose,
                litellm_call_id=call.litellm_call_id,
            )
        )


def _bound(admission: Admission) -> Decimal:
    """The most credits that any candidate can cost."""
    usage = Usage(admission.prompt_tokens, admission.output_tokens * admission.choices)
    return max(charge(usage, one.dearest, admission.plan).credits for one in admission.candidates)


def _affordable(admission: Admission, available: Decimal) -> int:
    """Output tokens per choice that `available` credits pay for, whoever serves."""
    limits = [
        affordable_output(available, admission.prompt_tokens, one.dearest, admission.plan)
        for one in admission.candidates
    ]
    stated = [limit for limit in limits if limit is not None]
    return min(stated) // admission.choices if stated else admission.output_tokens


def _most_context(candidates: tuple[Candidate, ...]) -> int | None:
    windows = [one.deployment.context_tokens for one in candidates]
    return max(window for window in windows if window) if all(windows) else None


async def _exact_input(candidates: tuple[Candidate, ...], request: dict[str, Any]) -> int | None:
    """Prompt tokens by the model's own tokenizer, plus a margin; None where LiteLLM has only a stand-in for it."""
    if not all(one.deployment.exact_tokens for one in candidates):
        return None
    try:
        counts = [await asyncio.to_thread(prompt_tokens, one.deployment, request) for one in candidates]
    except Exception:
        log.exception("the tokenizer failed; the bound by bytes stands")
        return None
    return int(max(counts) * _EXACT_MARGIN) + _MARGIN_TOKENS


def _dispatch_only(admission: Admission, principal: Principal, request: dict[str, Any]) -> None:
    """Name the deployment that serves, the only ones that may stand in for it, and the limit that was held for."""
    first, *others = admission.candidates
    request["model"] = first.deployment.name
    request["fallbacks"] = [one.deployment.name for one in others]
    request["context_window_fallbacks"] = []
    request["content_policy_fallbacks"] = []
    if admission.max_tokens is not None:
        set_output_limit(request, admission.max_tokens)
    if request.get("stream"):
        # LiteLLM asks the provider for usage by itself only when it knows the name that the client asked for.
        request["stream_options"] = (request.get("stream_options") or {}) | {"include_usage": True}
    if litellm.cache is not None:
        request["cache"] = {"namespace": f"team:{principal.team_id}"}  # else a team could be served another's answer
