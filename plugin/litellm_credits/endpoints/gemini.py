"""Gemini's generateContent and streamGenerateContent."""

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
    listed,
    refuse_fields,
    refuse_tools,
    tool_tokens,
    whole,
)
from litellm_credits.endpoints.sse import Events
from litellm_credits.errors import BadInput
from litellm_credits.money import dumps

_CONFIG = "generationConfig"
_LIMITS = ("maxOutputTokens", "max_output_tokens")
_CHOICES = ("candidateCount", "candidate_count")
_SYSTEM = ("systemInstruction", "system_instruction")
_BESIDE_CONTENTS = (*_SYSTEM, "tools", "toolConfig", "tool_config", _CONFIG)
_AT_THE_CLIENT = {"functionDeclarations", "function_declarations"}
_MEDIA = {"inlineData", "inline_data", "fileData", "file_data"}
_MOST_CHOICES = 8
_REFUSED = ("config", "generation_config", "cachedContent", "cached_content")
"""LiteLLM takes `config` in the place of generationConfig, and drops `generation_config` unread. What is cached belongs to the
operator: all teams share it."""


class GenerateContent(Endpoint):
    """`/v1beta/models/{model}:generateContent` and `:streamGenerateContent`."""

    name = "generate_content"
    call_types = frozenset({"agenerate_content", "agenerate_content_stream", "generate_content"})
    dialect = Dialect.GOOGLE
    fields = frozenset({"contents", "model", "safetySettings", "safety_settings", *_BESIDE_CONTENTS})

    def refuse(self, body: Mapping[str, Any]) -> None:
        refuse_fields(body, _REFUSED)
        refuse_tools(body.get("tools"), lambda tool: set(tool) <= _AT_THE_CLIENT)

    def demand(self, body: Mapping[str, Any]) -> Demand:
        config = body.get(_CONFIG, {})
        if config is None:
            config = {}
        if not isinstance(config, dict):
            raise BadInput(problem=f"'{_CONFIG}' must be an object.", param=_CONFIG)
        limits = [whole(config, limit, least=1, most=MOST_OUTPUT_TOKENS) for limit in _LIMITS]
        choices = [whole(config, choice, least=1, most=_MOST_CHOICES) or 1 for choice in _CHOICES]
        stated = max((limit for limit in limits if limit is not None), default=None)
        return Demand(_prompt_bytes(body), stated, max(choices))

    def limit_output(self, request: dict[str, Any], tokens: int) -> None:
        config = {key: value for key, value in (request.get(_CONFIG) or {}).items() if key not in _LIMITS}
        request[_CONFIG] = config | {_LIMITS[0]: tokens}

    def countable(self, body: Mapping[str, Any]) -> dict[str, Any]:
        parts = (body.get("contents"), *(body.get(name) for name in (*_SYSTEM, "tools")))
        return {"text": "\n".join(dumps(part).decode() for part in parts if part is not None)}

    def stated(self, answer: object) -> object:
        return field(answer, "usageMetadata")

    def text(self, answer: object) -> list[str]:
        found: list[str] = []
        for candidate in listed(field(answer, "candidates")):
            for part in listed(field(candidate, "content", "parts")):
                text, called = field(part, "text"), field(part, "functionCall")
                if text:
                    found.append(str(text))
                if called:
                    found.append(as_json(called))
        return found

    def reader(self) -> Reader:
        return _ContentReader(self)


class _ContentReader(Reader):
    def __init__(self, endpoint: GenerateContent) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._events = Events()

    def feed(self, chunk: Any) -> None:
        for event in self._events.feed(chunk):
            self.text += self._endpoint.text(event)
            self.stated = field(event, "usageMetadata") or self.stated
            self.model = field(event, "modelVersion") or self.model


def _prompt_bytes(body: Mapping[str, Any]) -> int | None:
    given = body.get("contents")
    contents = items([given] if isinstance(given, dict) else given, "contents")
    if not all(_is_known(part) for content in contents for part in listed(content.get("parts"))):
        return None
    if _has_media(contents) or any(_has_media(body.get(name)) for name in _SYSTEM):
        return None
    parts = sum(len(listed(content.get("parts"))) for content in contents)
    beside = sum(json_bytes(body[name]) for name in _BESIDE_CONTENTS if body.get(name) is not None)
    beside += tool_tokens(body.get("tools"))
    return TOKENS_PER_REPLY + TOKENS_PER_PART * (len(contents) + parts) + json_bytes(contents) + beside


def _is_known(part: object) -> bool:
    return isinstance(part, str | Mapping)


def _has_media(value: object) -> bool:
    """Whether there are media anywhere in it: function responses may hold some too."""
    if isinstance(value, Mapping):
        return bool(_MEDIA & set(value)) or any(_has_media(inner) for inner in value.values())
    return isinstance(value, list) and any(_has_media(inner) for inner in value)
