"""Tokens: what a provider says it used, believed only when it can be true."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_ABSURD_TOKENS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `cached` is part of `prompt`, `reasoning` part of `completion`."""

    prompt: int
    completion: int
    cached: int | None = None
    reasoning: int | None = None

    @property
    def total(self) -> int:
        """Prompt and completion together: what is counted, whatever total the provider states."""
        return self.prompt + self.completion

    @classmethod
    def parse(cls, stated: object) -> Self | None:
        """The usage in OpenAI's shape (`prompt_tokens`, `completion_tokens`, `*_tokens_details`), from a mapping or an object.

        None when there is none, or when it is malformed, negative or absurd: then the call is charged as one without.
        """
        prompt, completion = _count(_field(stated, "prompt_tokens")), _count(_field(stated, "completion_tokens"))
        if prompt is None or completion is None:
            return None
        cached = _count(_field(_field(stated, "prompt_tokens_details"), "cached_tokens"))
        reasoning = _count(_field(_field(stated, "completion_tokens_details"), "reasoning_tokens"))
        return cls(
            prompt,
            completion,
            None if cached is None else min(cached, prompt),
            None if reasoning is None else min(reasoning, completion),
        )


def _field(holder: object, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _ABSURD_TOKENS:
        return None
    return value
