"""Embeddings and moderations: text goes in, no tokens come out."""

from collections.abc import Mapping
from typing import Any

from openai.types import EmbeddingCreateParams, ModerationCreateParams

from litellm_credits.attributes import field
from litellm_credits.endpoints.chat import joined
from litellm_credits.endpoints.endpoint import Demand, Endpoint
from litellm_credits.endpoints.reading import TOKENS_PER_PART, text_bytes
from litellm_credits.errors import BadInput


class Embeddings(Endpoint):
    """`/v1/embeddings`."""

    fields = frozenset(EmbeddingCreateParams.__annotations__) | {"input_type"}

    name = "embeddings"
    call_types = frozenset({"aembedding", "embedding", "embeddings"})
    limits_output = False

    def demand(self, body: Mapping[str, Any]) -> Demand:
        return Demand(prompt=_input_tokens(body.get("input")))

    def countable(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"text": joined(body.get("input"))}

    def stated(self, answer: object) -> object:
        usage = field(answer, "usage")
        # OpenAI states no completion tokens here; zeros are what LiteLLM puts where a provider states nothing.
        stated = {name: field(usage, name) for name in ("prompt_tokens", "prompt_tokens_details")}
        return {**stated, "completion_tokens": 0} if stated["prompt_tokens"] else None

    def has_output(self, answer: object) -> bool:
        return bool(field(answer, "data"))


class Moderations(Endpoint):
    """`/v1/moderations`: a price per request, which may be 0. OpenAI's answers state no tokens."""

    name = "moderation"
    call_types = frozenset({"moderation", "amoderation"})
    fields = frozenset(ModerationCreateParams.__annotations__)
    tokens = False
    limits_output = False
    counts_itself = True
    default_model = "omni-moderation-latest"

    def demand(self, body: Mapping[str, Any]) -> Demand:
        if not body.get("input"):
            raise BadInput(problem="'input' must be a text, or a list of texts or parts.", param="input")
        return Demand()


def _input_tokens(value: object) -> int | None:
    """The most tokens of an input: a text, token numbers, or a list of either; None for what cannot be counted."""
    if isinstance(value, str):
        return TOKENS_PER_PART + text_bytes(value)
    if isinstance(value, list) and value:
        total = TOKENS_PER_PART
        for one in value:
            if isinstance(one, str):
                total += TOKENS_PER_PART + text_bytes(one)
            elif isinstance(one, list) and all(type(number) is int for number in one):
                total += TOKENS_PER_PART + len(one)
            elif type(one) is int:
                total += 1
            else:
                return None
        return total
    raise BadInput(problem="'input' must be a text, a list of texts, or a list of token numbers.", param="input")
