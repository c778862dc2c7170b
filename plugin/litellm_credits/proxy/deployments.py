"""What LiteLLM knows of the deployments behind a model name: limits, prices, tokenizer, fallbacks."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import litellm
from litellm.router_utils.fallback_event_handlers import get_fallback_model_group

from litellm_credits.money import TOKENS_PER_PRICE
from litellm_credits.pricing.charge import Price

_TTL_SECONDS = 30.0
_EXACT_PROVIDERS = {"openai", "azure", "text-completion-openai"}
"""Providers whose tokens LiteLLM counts with the providers' own tokenizer."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model_name of LiteLLM's model_list: the most that any of its deployments takes, writes and costs.

    `price` and `dearest` are LiteLLM's own, USD per 1,000 tokens; `dearest` is the highest rate that a token can have
    (cache writes, long-context tiers, reasoning). None: LiteLLM knows no price.
    """

    name: str
    model: str
    """What LiteLLM calls the model itself, for its tokenizer."""
    context_tokens: int | None
    max_output_tokens: int | None
    price: Price | None
    dearest: Price | None
    exact_tokens: bool


class Deployments:
    """The live router's deployments, looked up by model_name."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Deployment]] = {}

    def find(self, *names: str) -> Deployment | None:
        """The first of these model_names that the router serves, also through a wildcard entry."""
        for name in names:
            known = self._known.get(name)
            if known is not None and time.monotonic() - known[0] < _TTL_SECONDS:
                return known[1]
            deployment = _read(name)
            if deployment is not None:
                self._known[name] = (time.monotonic(), deployment)
                return deployment
        return None

    @staticmethod
    def fallbacks(name: str) -> list[str]:
        """The model_names that the router's own configuration falls back to from `name`, of every kind, in order."""
        router = _router()
        if router is None:
            return []
        chains = (router.fallbacks, router.context_window_fallbacks, router.content_policy_fallbacks)
        found: list[str] = []
        for chain in chains:
            if chain:
                group, _ = get_fallback_model_group(fallbacks=chain, model_group=name)
                found += [entry for entry in group or [] if isinstance(entry, str)]
        return list(dict.fromkeys(found))


def _router() -> Any:
    from litellm.proxy import proxy_server  # noqa: PLC0415  (the router is replaced when the configuration is)

    return proxy_server.llm_router


def _read(name: str) -> Deployment | None:
    router = _router()
    listed = router.get_model_list(model_name=name) if router is not None else None
    if not listed:
        return None
    infos = [_info(entry) for entry in listed]
    providers = {str(info.get("litellm_provider") or "") for info in infos}
    return Deployment(
        name=name,
        model=_model(listed[0]),
        context_tokens=_most(info.get("max_input_tokens") or info.get("max_tokens") for info in infos),
        max_output_tokens=_most(info.get("max_output_tokens") for info in infos),
        price=_price(infos, dearest=False),
        dearest=_price(infos, dearest=True),
        exact_tokens=bool(providers) and providers <= _EXACT_PROVIDERS,
    )


def _model(entry: Mapping[str, Any]) -> str:
    return str((entry.get("model_info") or {}).get("base_model") or (entry.get("litellm_params") or {}).get("model"))


def _info(entry: Mapping[str, Any]) -> dict[str, Any]:
    """LiteLLM's facts of one deployment, overridden by what the configuration states for it."""
    params, stated = entry.get("litellm_params") or {}, entry.get("model_info") or {}
    try:
        known = dict(litellm.get_model_info(_model(entry)))
    except Exception:
        known = {}
    for source in (params, stated):
        known.update(
            {name: value for name, value in source.items() if value is not None and ("cost" in name or "max_" in name)}
        )
    if "litellm_provider" not in known and "/" in str(params.get("model")):
        known["litellm_provider"] = str(params["model"]).split("/", 1)[0]
    return known


def _most(values: Iterable[Any]) -> int | None:
    """The largest of the stated limits; None as soon as one deployment states none."""
    limits = list(values)
    return max(map(int, limits)) if limits and all(limits) else None


def _price(infos: list[dict[str, Any]], *, dearest: bool) -> Price | None:
    """The highest input and output rates among the deployments; None when one of them has neither."""
    inputs = [
        _rate(info, ("input_cost_per_token", "cache_creation_input_token_cost"), dearest=dearest) for info in infos
    ]
    outputs = [
        _rate(info, ("output_cost_per_token", "output_cost_per_reasoning_token"), dearest=dearest) for info in infos
    ]
    if not all(one_input or one_output for one_input, one_output in zip(inputs, outputs, strict=True)):
        return None
    return Price(max(inputs), max(outputs))


def _rate(info: Mapping[str, Any], names: tuple[str, ...], *, dearest: bool) -> Decimal:
    """USD per 1,000 tokens: of the first name, or the highest of all names and their tiers (long context, priority...)."""
    values = [
        value
        for field, value in info.items()
        if isinstance(value, int | float) and (field.startswith(names) if dearest else field == names[0])
    ]
    return max((Decimal(str(value)) for value in values), default=Decimal(0)) * TOKENS_PER_PRICE
