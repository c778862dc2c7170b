"""Gemini's generateContent and streamGenerateContent."""

from collections.abc import Mapping
from typing import Any

from litellm_credits.endpoints.endpoint import Demand, Dialect, Endpoint, Reader
from litellm_credits.endpoints.reading import (
    MOST_OUTPUT_TOKENS,
    TOKENS_PER_PART,
    TOKENS_PER_REPLY,
    field,
    items,
    json_bytes,
    parts_bytes,
    refuse_fields,
    refuse_tools,
    whole,
)
from litellm_credits.endpoints.sse import Events
from litellm_credits.errors import BadInput
from litellm_credits.money import dumps

_CONFIG = ("generationConfig", "generation_config")
_LIMITS = ("maxOutputTokens", "max_output_tokens")
_CHOICES = ("candidateCount", "candidate_count")
_SYSTEM = ("systemInstruction", "system_instruction")
_BESIDE_CONTENTS = (*_SYSTEM, "tools", "toolConfig", "tool_config", *_CONFIG)
_AT_THE_CLIENT = {"functionDeclarations", "function_declarations"}
_MEDIA = {"inlineData", "inline_data", "fileData", "file_data"}
_MOST_CHOICES = 8


class GenerateContent(Endpoint):
    """`/v1beta/models/{model}:generateContent` and `:streamGenerateContent`."""

    name = "generate_content"
    call_types = frozenset({"agenerate_content", "agenerate_content_stream", "generate_content"})
    dialect = Dialect.GOOGLE

    def refuse(self, body: Mapping[str, Any]) -> None:
        # `config` would win over generationConfig inside LiteLLM; what is cached belongs to the operator, all teams share it.
        refuse_fields(body, ("config", "cachedContent", "cached_content"))
        refuse_tools(body.get("tools"), lambda tool: set(tool) <= _AT_THE_CLIENT)

    def demand(self, body: Mapping[str, Any]) -> Demand:
        limits, choices = [], [1]
        for name in _CONFIG:
            config = body.get(name)
            if config is None:
                continue
            if not isinstance(config, dict):
                raise BadInput(problem=f"'{name}' must be an object.", param=name)
            limits += [whole(config, limit, least=1, most=MOST_OUTPUT_TOKENS) for limit in _LIMITS]
            choices += [whole(config, choice, least=1, most=_MOST_CHOICES) or 1 for choice in _CHOICES]
        stated = max((limit for limit in limits if limit is not None), default=None)
        return Demand(_prompt_bytes(body), stated, max(choices))

    def limit_output(self, request: dict[str, Any], tokens: int) -> None:
        name = next((name for name in _CONFIG if request.get(name) is not None), _CONFIG[0])
        config = {key: value for key, value in (request.get(name) or {}).items() if key not in _LIMITS}
        request[name] = config | {_LIMITS[0]: tokens}

    def countable(self, body: Mapping[str, Any]) -> dict[str, Any]:
        parts = (body.get("contents"), *(body.get(name) for name in (*_SYSTEM, "tools")))
        return {"text": "\n".join(dumps(part).decode() for part in parts if part is not None)}

    def stated(self, answer: object) -> object:
        return field(answer, "usageMetadata")

    def text(self, answer: object) -> list[str]:
        found: list[str] = []
        for candidate in field(answer, "candidates") or ():
            for part in field(candidate, "content", "parts") or ():
                text, called = field(part, "text"), field(part, "functionCall")
                if text:
                    found.append(str(text))
                if called:
                    found.append(dumps(called).decode())
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
    total = TOKENS_PER_REPLY + sum(json_bytes(body[name]) for name in _BESIDE_CONTENTS if body.get(name) is not None)
    for content in items(body.get("contents"), "contents"):
        parts = content.get("parts")
        if isinstance(parts, list) and parts_bytes(parts, lambda part: not _MEDIA & set(part)) is None:
            return None
        total += TOKENS_PER_PART + json_bytes(content)
    system = next((body[name] for name in _SYSTEM if body.get(name) is not None), None)
    parts = field(system, "parts")
    if isinstance(parts, list) and parts_bytes(parts, lambda part: not _MEDIA & set(part)) is None:
        return None
    return total
