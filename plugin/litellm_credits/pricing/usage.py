"""What a call used, in tokens and in other units: what a provider says of it, believed only when it can be true."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Self

from litellm_credits.attributes import field

_ABSURD = 1_000_000_000


class Unit(StrEnum):
    """What is counted beside tokens. Prices of units are USD for one."""

    REQUEST = "request"
    IMAGE = "image"
    SECOND = "second"
    CHARACTER = "character"
    QUERY = "query"
    PAGE = "page"


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call used. `cached`, `cache_write` and `audio_input` are parts of `prompt`, the rest parts of `completion`."""

    prompt: int = 0
    completion: int = 0
    cached: int | None = None
    reasoning: int | None = None
    cache_write: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    units: Mapping[Unit, Decimal] = dataclasses.field(default_factory=dict)

    @property
    def total(self) -> int:
        """Prompt and completion together: what is counted, whatever total the provider states."""
        return self.prompt + self.completion

    @property
    def empty(self) -> bool:
        """Whether nothing was used, but for the request itself."""
        return not self.total and not any(count for unit, count in self.units.items() if unit is not Unit.REQUEST)

    def with_units(self, units: Mapping[Unit, Decimal]) -> Self:
        """The same tokens, and these units."""
        return replace(self, units=units) if units else self

    @classmethod
    def parse(cls, stated: object) -> Self | None:
        """The tokens that a provider states, from a mapping or an object in any of these shapes:

        - OpenAI chat, completions and embeddings: `prompt_tokens`, `completion_tokens`, `*_tokens_details`;
        - OpenAI responses, images and transcriptions: `input_tokens`, `output_tokens`, `*_tokens_details`;
        - Anthropic: `input_tokens` without what was read from or written to its cache, `cache_*_input_tokens`;
        - Gemini: `promptTokenCount`, `candidatesTokenCount` without `thoughtsTokenCount`, ...

        None when there is none, or when it is malformed, negative or absurd: then the call is charged as one without.
        """
        if field(stated, "prompt_tokens") is not None:
            parts = _openai_chat(stated)
        elif field(stated, "input_tokens") is not None:
            parts = _anthropic(stated) if _is_anthropic(stated) else _openai_responses(stated)
        else:
            parts = _gemini(stated)
        prompt, completion = parts["prompt"], parts["completion"]
        if prompt is None or completion is None or max(prompt, completion) >= _ABSURD:
            return None
        cached, reasoning = _within(parts["cached"], prompt), _within(parts["reasoning"], completion)
        write = _within(parts["cache_write"], prompt - (cached or 0))
        return cls(
            prompt,
            completion,
            cached=cached,
            reasoning=reasoning,
            cache_write=write or None,
            audio_input=_within(parts["audio_input"], prompt - (cached or 0) - (write or 0)) or None,
            audio_output=_within(parts["audio_output"], completion - (reasoning or 0)) or None,
        )


def _openai_chat(stated: object) -> dict[str, int | None]:
    read, wrote = field(stated, "prompt_tokens_details"), field(stated, "completion_tokens_details")
    written = _count(field(read, "cache_creation_tokens"))
    return {
        "prompt": _count(field(stated, "prompt_tokens")),
        "completion": _count(field(stated, "completion_tokens")),
        "cached": _count(field(read, "cached_tokens")),
        # LiteLLM's own addition, for providers that charge for filling their cache.
        "cache_write": _count(field(stated, "cache_creation_input_tokens")) if written is None else written,
        "audio_input": _count(field(read, "audio_tokens")),
        "reasoning": _count(field(wrote, "reasoning_tokens")),
        "audio_output": _count(field(wrote, "audio_tokens")),
    }


def _openai_responses(stated: object) -> dict[str, int | None]:
    read = field(stated, "input_tokens_details") or field(stated, "input_token_details")
    wrote = field(stated, "output_tokens_details") or field(stated, "output_token_details")
    return {
        "prompt": _count(field(stated, "input_tokens")),
        "completion": _count(field(stated, "output_tokens")),
        "cached": _count(field(read, "cached_tokens")),
        "cache_write": None,
        "audio_input": _count(field(read, "audio_tokens")),
        "reasoning": _count(field(wrote, "reasoning_tokens")),
        "audio_output": _count(field(wrote, "audio_tokens")),
    }


def _is_anthropic(stated: object) -> bool:
    return any(field(stated, name) is not None for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))


def _anthropic(stated: object) -> dict[str, int | None]:
    fresh, output = _count(field(stated, "input_tokens")), _count(field(stated, "output_tokens"))
    read, written = (
        _count(field(stated, name)) or 0 for name in ("cache_read_input_tokens", "cache_creation_input_tokens")
    )
    return {
        "prompt": None if fresh is None else fresh + read + written,
        "completion": output,
        "cached": read,
        "cache_write": written,
        "audio_input": None,
        "reasoning": None,
        "audio_output": None,
    }


def _gemini(stated: object) -> dict[str, int | None]:
    prompt = _count(field(stated, "promptTokenCount"))
    tools = _count(field(stated, "toolUsePromptTokenCount")) or 0
    thoughts = _count(field(stated, "thoughtsTokenCount")) or 0
    # An answer that was blocked, or that consists of thoughts, states no candidates.
    answer = _count(field(stated, "candidatesTokenCount")) if field(stated, "candidatesTokenCount") is not None else 0
    return {
        "prompt": None if prompt is None else prompt + tools,
        "completion": None if answer is None else answer + thoughts,
        "cached": _count(field(stated, "cachedContentTokenCount")),
        "cache_write": None,
        "audio_input": _modality(field(stated, "promptTokensDetails")),
        "reasoning": thoughts or None,
        "audio_output": _modality(field(stated, "candidatesTokensDetails")),
    }


def _modality(details: object) -> int | None:
    """Gemini's tokens that are audio: `[{"modality": "AUDIO", "tokenCount": 3}, ...]`."""
    counts = [
        _count(field(one, "tokenCount")) or 0
        for one in (details if isinstance(details, list) else ())
        if field(one, "modality") == "AUDIO"
    ]
    return sum(counts) or None


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _ABSURD:
        return None
    return value


def _within(part: int | None, whole: int) -> int | None:
    return None if part is None else min(part, whole)
