"""Anthropic's messages."""

from collections.abc import Mapping
from typing import Any

from litellm_credits.attributes import field
from litellm_credits.endpoints.endpoint import Demand, Dialect, Endpoint, Reader
from litellm_credits.endpoints.reading import (
    MOST_OUTPUT_TOKENS,
    TOKENS_PER_PART,
    TOKENS_PER_REPLY,
    as_json,
    items,
    json_bytes,
    kind,
    listed,
    parts_bytes,
    refuse_fields,
    refuse_stored,
    refuse_tools,
    tool_tokens,
    whole,
)
from litellm_credits.endpoints.responses import LEAST_RESPONSE_TOKENS
from litellm_credits.endpoints.sse import Events
from litellm_credits.money import dumps

_TEXT_BLOCKS = {"text", "tool_use", "thinking", "redacted_thinking"}
_BESIDE_MESSAGES = ("system", "tools", "tool_choice", "output_format", "output_config")
_AT_THE_CLIENT = ("bash_", "text_editor_", "computer_", "memory_")
_WRITTEN = ("text", "thinking", "name", "partial_json")
_FIELDS = frozenset(
    {
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "service_tier",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
"""Anthropic's API reference, less what is stored or run at the provider."""

_REFUSED = ("mcp_servers", "container", "context_management", "speed")


class Messages(Endpoint):
    """`/v1/messages`."""

    name = "messages"
    call_types = frozenset({"anthropic_messages"})
    fields = _FIELDS
    dialect = Dialect.ANTHROPIC

    def refuse(self, body: Mapping[str, Any]) -> None:
        refuse_fields(body, _REFUSED)
        refuse_tools(body.get("tools"), _runs_at_the_client)
        refuse_stored(body.get("messages"), "messages")

    def demand(self, body: Mapping[str, Any]) -> Demand:
        stated = whole(body, "max_tokens", least=1, most=MOST_OUTPUT_TOKENS)
        # LiteLLM may answer through OpenAI's responses.
        return Demand(_prompt_bytes(body), stated and max(stated, LEAST_RESPONSE_TOKENS), 1)

    def limit_output(self, request: dict[str, Any], tokens: int) -> None:
        request["max_tokens"] = tokens

    def countable(self, body: Mapping[str, Any]) -> dict[str, Any]:
        parts = (body.get("messages"), *(body.get(name) for name in _BESIDE_MESSAGES))
        return {"text": "\n".join(dumps(part).decode() for part in parts if part is not None)}

    def stated(self, answer: object) -> object:
        return field(answer, "usage")

    def text(self, answer: object) -> list[str]:
        found: list[str] = []
        for block in listed(field(answer, "content")):
            found += [text for name in _WRITTEN if isinstance(text := field(block, name), str) and text]
            if field(block, "input"):
                found.append(as_json(field(block, "input")))
        return found

    def reader(self) -> Reader:
        return _EventReader()


class _EventReader(Reader):
    def __init__(self) -> None:
        super().__init__()
        self._events = Events()
        self._usage: dict[str, Any] = {}

    def feed(self, chunk: Any) -> None:
        self.closing = False
        for event in self._events.feed(chunk):
            match event.get("type"):
                case "message_start":
                    self.model = field(event, "message", "model")
                    self._note(field(event, "message", "usage"))
                case "content_block_start":
                    self._collect(event.get("content_block"))
                case "content_block_delta":
                    self._collect(event.get("delta"))
                case "message_delta":
                    self._note(event.get("usage"))
                    self.stated = self._usage  # only now it says how much was written
                case "message_stop":
                    self.closing = True

    def _note(self, usage: object) -> None:
        if isinstance(usage, Mapping):
            self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _collect(self, holder: object) -> None:
        self.text += [text for name in _WRITTEN if isinstance(text := field(holder, name), str) and text]


def _prompt_bytes(body: Mapping[str, Any]) -> int | None:
    total = TOKENS_PER_REPLY + sum(json_bytes(body[name]) for name in _BESIDE_MESSAGES if body.get(name) is not None)
    total += tool_tokens(body.get("tools"), body.get("output_format"), body.get("output_config"))
    system = body.get("system")
    if isinstance(system, list) and parts_bytes(system, _is_text) is None:
        return None
    for message in items(body.get("messages"), "messages"):
        content = message.get("content")
        if isinstance(content, list) and parts_bytes(content, _is_text) is None:
            return None
        total += TOKENS_PER_PART * (1 + len(listed(content))) + json_bytes(message)
    return total


def _is_text(block: Mapping[str, Any]) -> bool:
    if kind(block) == "tool_result":
        content = block.get("content")
        return not isinstance(content, list) or parts_bytes(content, _is_text) is not None
    return kind(block) in _TEXT_BLOCKS


def _runs_at_the_client(tool: Mapping[str, Any]) -> bool:
    stated = kind(tool)
    if str(tool.get("name", "")).startswith(
        "web_search"
    ):  # on another vendor's model LiteLLM makes that vendor's search of it
        return False
    return stated in (None, "custom", "function") or stated.startswith(_AT_THE_CLIENT)
