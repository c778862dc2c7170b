"""What LiteLLM knows of the deployments behind a model name: limits, prices, tokenizer, fallbacks."""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import litellm
from litellm.router_utils.fallback_event_handlers import get_fallback_model_group

from litellm_credits.money import TOKENS_PER_PRICE
from litellm_credits.pricing.charge import Price
from litellm_credits.pricing.usage import Unit

_TTL_SECONDS = 30.0
_EXACT_PROVIDERS = {"openai", "azure", "text-completion-openai"}
"""Providers whose tokens LiteLLM counts with the providers' own tokenizer."""

_RATES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
    "audio_input": "input_cost_per_audio_token",
    "audio_output": "output_cost_per_audio_token",
}
"""Our rates of tokens, and LiteLLM's names of them (USD for one token)."""

_DEAREST_INPUT = ("input_cost_per_token", "cache_creation_", "input_cost_per_audio_token", "input_cost_per_image_token")
_DEAREST_OUTPUT = (
    "output_cost_per_token",
    "output_cost_per_reasoning_token",
    "output_cost_per_audio_token",
    "output_cost_per_image_token",
)
_UNITS = {
    Unit.REQUEST: ("input_cost_per_request",),
    Unit.IMAGE: ("output_cost_per_image", "input_cost_per_image"),
    Unit.SECOND: ("input_cost_per_second", "output_cost_per_second"),
    Unit.CHARACTER: ("input_cost_per_character",),
    Unit.QUERY: ("input_cost_per_query",),
    Unit.PAGE: ("ocr_cost_per_page",),
}
"""LiteLLM's names for the price of one unit; where it knows both, they are two names for the same."""

_TIER = re.compile(r"_above_(\d+)k_tokens")


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model_name of LiteLLM's model_list: the most that any of its deployments takes, writes and costs.

    `price` and `dearest` are LiteLLM's own; `dearest` has the highest rates that a token or unit can have (cache writes,
    long prompts, reasoning, priority, sizes of images). None: LiteLLM knows no price.
    """

    name: str
    model: str
    """What LiteLLM calls the model itself, for its tokenizer."""
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    price: Price | None = None
    dearest: Price | None = None
    exact_tokens: bool = False


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
    prices = [price for info in infos if (price := _price(info)) is not None]
    priced = len(prices) == len(infos)
    return Deployment(
        name=name,
        model=_model(listed[0]),
        context_tokens=_most(info.get("max_input_tokens") or info.get("max_tokens") for info in infos),
        max_output_tokens=_most(info.get("max_output_tokens") for info in infos),
        price=_highest(prices) if priced else None,
        dearest=_highest([_dearest(info) for info in infos]) if priced else None,
        exact_tokens=bool(providers) and providers <= _EXACT_PROVIDERS,
    )


def _model(entry: Mapping[str, Any]) -> str:
    return str((entry.get("model_info") or {}).get("base_model") or (entry.get("litellm_params") or {}).get("model"))


def _info(entry: Mapping[str, Any]) -> dict[str, Any]:
    """LiteLLM's facts of one deployment, overridden by what the configuration states for it."""
    params, stated = entry.get("litellm_params") or {}, entry.get("model_info") or {}
    try:
        # get_model_info says first whether it knows the model, and makes zeros of what it does not know of it.
        known = dict(litellm.get_model_info(_model(entry)))
        known |= litellm.model_cost.get(str(known.get("key"))) or {}
    except Exception:
        known = {}
    for source in (params, stated):
        known.update(
            {
                name: value
                for name, value in source.items()
                if value is not None and ("cost" in name or "max_" in name or name == "mode")
            }
        )
    if "litellm_provider" not in known and "/" in str(params.get("model")):
        known["litellm_provider"] = str(params["model"]).split("/", 1)[0]
    return known


def _most(values: Iterable[Any]) -> int | None:
    """The largest of the stated limits; None as soon as one deployment states none."""
    limits = list(values)
    return max(map(int, limits)) if limits and all(limits) else None


def _price(info: Mapping[str, Any]) -> Price | None:
    """LiteLLM's price of one deployment; None when it knows none. Zeros are its way of knowing none, but for moderations."""
    if info.get("mode") == "moderation" and not any(_rate(info, name) for name in _RATES.values()):
        return Price(units={Unit.REQUEST: Decimal(0)}, tokens=False)
    rates = {ours: rate for ours, theirs in _RATES.items() if (rate := _rate(info, theirs))}
    units = {unit: rate for unit, names in _UNITS.items() if (rate := max(_amount(info.get(name)) for name in names))}
    if not rates and not units:
        return None
    base = Price(units=units, tokens="input" in rates or "output" in rates).changed(rates)
    above = sorted({int(match[1]) for name in info if (match := _TIER.search(name))})
    tiers = []
    for thousands in above:
        changed = {
            ours: rate
            for ours, theirs in _RATES.items()
            if (rate := _rate(info, f"{theirs}_above_{thousands}k_tokens"))
        }
        tiers.append((thousands * 1000, base.changed(changed)))
    return replace(base, tiers=tuple(tiers))


def _dearest(info: Mapping[str, Any]) -> Price:
    def highest(*prefixes: str) -> Decimal:
        amounts = [_amount(value) for name, value in info.items() if name.startswith(prefixes)]
        return max(amounts, default=Decimal(0))

    units = {
        unit: max(
            (_amount(value) for name, value in info.items() if name.startswith(names) and "token" not in name),
            default=Decimal(0),
        )
        for unit, names in _UNITS.items()
    }
    return Price(
        highest(*_DEAREST_INPUT) * TOKENS_PER_PRICE,
        highest(*_DEAREST_OUTPUT) * TOKENS_PER_PRICE,
        units={unit: rate for unit, rate in units.items() if rate},
    )


def _highest(prices: list[Price]) -> Price:
    """Each rate as the dearest of the deployments has it; long prompts as the first one has them."""
    first, *others = prices
    for other in others:
        rates = {
            name: max((rate for rate in (getattr(first, name), getattr(other, name)) if rate is not None), default=None)
            for name in _RATES
        }
        units = {
            unit: max(first.units.get(unit, Decimal(0)), other.units.get(unit, Decimal(0)))
            for unit in {*first.units, *other.units}
        }
        first = replace(first.changed(rates), units=units, tokens=first.tokens or other.tokens)
    return first


def _rate(info: Mapping[str, Any], name: str) -> Decimal:
    """USD per 1,000 tokens."""
    return _amount(info.get(name)) * TOKENS_PER_PRICE


def _amount(value: object) -> Decimal:
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else Decimal(0)
