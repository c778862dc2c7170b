"""OpenAI's responses."""

from collections.abc import Mapping
from typing import Any

from openai.types.responses.response_create_params import ResponseCreateParamsBase

from litellm_credits.attributes import field
from litellm_credits.endpoints.endpoint import Demand, Endpoint, Reader
from litellm_credits.endpoints.reading import (
    MOST_OUTPUT_TOKENS,
    TOKENS_PER_PART,
    TOKENS_PER_REPLY,
    items,
    json_bytes,
    kind,
    listed,
    parts_bytes,
    refuse_fields,
    refuse_stored,
    refuse_tools,
    text_bytes,
    tool_tokens,
    whole,
)
from litellm_credits.errors import BadInput, ParameterNotAllowed
from litellm_credits.money import dumps

LEAST_RESPONSE_TOKENS = 16
"""LiteLLM raises lower limits to this, the least that OpenAI takes."""

_TEXT_PARTS = {"input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text"}
_TEXT_ITEMS = {
    None,
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
}
_BESIDE_INPUT = ("instructions", "tools", "tool_choice", "text")
_STORED_STATE = ("background", "conversation", "prompt", "context_management")
_WRITTEN = ("text", "refusal", "arguments", "input", "name")
_ENDS = {"response.completed", "response.incomplete", "response.failed"}


class Responses(Endpoint):
    """`/v1/responses`. An answer that goes on from an earlier one can have a whole context window as its prompt."""

    name = "responses"
    call_types = frozenset({"aresponses", "responses"})
    fields = frozenset(ResponseCreateParamsBase.__annotations__) | {"stream"}

    def refuse(self, body: Mapping[str, Any]) -> None:
        # In the background nobody could settle it; conversations and prompts are the operator's, all teams share them.
        refuse_fields(body, _STORED_STATE)
        refuse_tools(body.get("tools"), lambda tool: kind(tool) in ("function", "custom"))
        earlier = body.get("previous_response_id")
        if earlier is not None and (not isinstance(earlier, str) or not earlier):
            # LiteLLM asks whose it is only where it is text.
            raise BadInput(problem="'previous_response_id' must be the id of a response.", param="previous_response_id")
        given = body.get("input")
        refuse_stored(given, "input")
        for index, item in enumerate(given if isinstance(given, list) else ()):
            # One that says nothing but an id refers to what is stored, whether it says so or not.
            if isinstance(item, Mapping) and (
                kind(item) == "item_reference" or (kind(item) is None and item.get("role") is None)
            ):
                raise ParameterNotAllowed(name="item_reference", param=f"input[{index}]")

    def demand(self, body: Mapping[str, Any]) -> Demand:
        stated = whole(body, "max_output_tokens", least=1, most=MOST_OUTPUT_TOKENS)
        return Demand(_prompt_bytes(body), stated and max(stated, LEAST_RESPONSE_TOKENS), 1)

    def limit_output(self, request: dict[str, Any], tokens: int) -> None:
        request["max_output_tokens"] = tokens

    def countable(self, body: Mapping[str, Any]) -> dict[str, Any]:
        given = body.get("input")
        parts = [given if isinstance(given, str) else dumps(given).decode()]
        return {
            "text": "\n".join(
                parts + [dumps(body[name]).decode() for name in _BESIDE_INPUT if body.get(name) is not None]
            )
        }

    def stated(self, answer: object) -> object:
        return field(answer, "usage")

    def text(self, answer: object) -> list[str]:
        found: list[str] = []
        for item in listed(field(answer, "output")):
            for holder in [item, *listed(field(item, "content")), *listed(field(item, "summary"))]:
                found += [text for name in _WRITTEN if isinstance(text := field(holder, name), str) and text]
        return found

    def reader(self) -> Reader:
        return _EventReader()


class _EventReader(Reader):
    def feed(self, chunk: Any) -> None:
        kind = str(getattr(field(chunk, "type"), "value", field(chunk, "type")))
        delta = field(chunk, "delta")
        if isinstance(delta, str) and kind.endswith(".delta"):
            self.text.append(delta)
        self.closing = kind in _ENDS
        if self.closing:
            self.stated = field(chunk, "response", "usage") or self.stated
            self.model = field(chunk, "response", "model")


def _prompt_bytes(body: Mapping[str, Any]) -> int | None:
    if body.get("previous_response_id") is not None:
        return None
    total = TOKENS_PER_REPLY + sum(json_bytes(body[name]) for name in _BESIDE_INPUT if body.get(name) is not None)
    total += tool_tokens(body.get("tools"), body.get("text"))
    given = body.get("input")
    if isinstance(given, str):
        return total + TOKENS_PER_PART + text_bytes(given)
    for item in items(given, "input"):
        content = item.get("content")
        if kind(item) not in _TEXT_ITEMS or _is_stored(item):
            return None
        for parts in (content, item.get("output")):
            if isinstance(parts, list) and parts_bytes(parts, lambda part: kind(part) in _TEXT_PARTS) is None:
                return None
        total += TOKENS_PER_PART + json_bytes(item)
    return total


def _is_stored(item: Mapping[str, Any]) -> bool:
    """Whether it is reasoning that the provider has kept: it says which, not how much."""
    return kind(item) == "reasoning" and not item.get("encrypted_content")
