"""OpenAI's chat completions and completions."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeGuard

from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatFields
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionFields

from litellm_credits.attributes import contents, field
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
from litellm_credits.errors import BadInput

_TEXT_PARTS = {"text", "input_text", "output_text", "refusal", "thinking"}
_BESIDE_MESSAGES = ("tools", "functions", "response_format", "tool_choice", "function_call", "prediction")
_CHAT_LIMITS = ("max_completion_tokens", "max_tokens")
_MOST_CHOICES = 128
_WRITTEN = ("content", "reasoning_content", "refusal")


class Chat(Endpoint):
    """`/v1/chat/completions`."""

    name = "chat"
    call_types = frozenset({"acompletion", "completion"})
    asks_for_usage = True
    fields = frozenset(ChatFields.__annotations__) | {"stream", "thinking", "top_k"}
    limits: ClassVar[tuple[str, ...]] = _CHAT_LIMITS

    def refuse(self, body: Mapping[str, Any]) -> None:
        refuse_tools(body.get("tools"), _runs_at_the_client)
        refuse_fields(body, ("web_search_options", "best_of"))
        refuse_stored(body.get("messages"), "messages")

    def demand(self, body: Mapping[str, Any]) -> Demand:
        stated = [whole(body, name, least=1, most=MOST_OUTPUT_TOKENS) for name in self.limits]
        return Demand(
            prompt=_prompt_bytes(body),
            # Both given: providers differ in which one they obey, so count on the larger.
            per_choice=max((limit for limit in stated if limit is not None), default=None),
            choices=whole(body, "n", least=1, most=_MOST_CHOICES) or 1,
        )

    def limit_output(self, request: dict[str, Any], tokens: int) -> None:
        for name in [name for name in self.limits if request.get(name) is not None] or ["max_tokens"]:
            request[name] = tokens

    def countable(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {name: body.get(name) for name in ("messages", "tools", "tool_choice")}

    def stated(self, answer: object) -> object:
        return field(answer, "usage")

    def text(self, answer: object) -> list[str]:
        return _written(field(answer, "choices"))

    def reader(self) -> Reader:
        return _ChunkReader()


class _ChunkReader(Reader):
    """Chunks of OpenAI's, which are LiteLLM's own too: the last one has no text, and the usage."""

    def feed(self, chunk: Any) -> None:
        text = self._written(chunk)
        self.text += text
        usage = field(chunk, "usage")
        self.only_usage = usage is not None and not text and not any(one.finish_reason for one in chunk.choices)
        if usage is not None:
            self.stated, self.model, self.id = usage, getattr(chunk, "model", None), getattr(chunk, "id", None)

    def _written(self, chunk: Any) -> list[str]:
        return _written(chunk.choices)


class Completions(Endpoint):
    """`/v1/completions`: the model continues a text, or each of several."""

    name = "completions"
    call_types = frozenset({"atext_completion", "text_completion"})
    fields = frozenset(CompletionFields.__annotations__) | {"stream"}
    asks_for_usage = True

    def demand(self, body: Mapping[str, Any]) -> Demand:
        prompts, total = _prompts(body.get("prompt"), "prompt")
        suffix = body.get("suffix")
        total += TOKENS_PER_REPLY + (text_bytes(suffix) if isinstance(suffix, str) else 0)
        most = max(whole(body, name, least=1, most=_MOST_CHOICES) or 1 for name in ("n", "best_of"))
        return Demand(total, whole(body, "max_tokens", least=0, most=MOST_OUTPUT_TOKENS), prompts * most)

    def limit_output(self, request: dict[str, Any], tokens: int) -> None:
        request["max_tokens"] = tokens

    def countable(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"text": joined(body.get("prompt"))}

    def stated(self, answer: object) -> object:
        return field(answer, "usage")

    def text(self, answer: object) -> list[str]:
        return [text for choice in listed(field(answer, "choices")) if (text := field(choice, "text"))]

    def reader(self) -> Reader:
        return _CompletionReader()


class _CompletionReader(_ChunkReader):
    def _written(self, chunk: Any) -> list[str]:
        return [choice.text for choice in chunk.choices if choice.text]


def _prompts(value: object, name: str) -> tuple[int, int]:
    """How many prompts there are, and the most tokens that they can have: texts, or lists of token numbers.

    Raises:
        BadInput: for anything else.
    """
    prompts: list[object] = value if isinstance(value, list) and not _is_numbers(value) else [value]
    sizes = [
        text_bytes(one) if isinstance(one, str) else len(one)
        for one in prompts
        if isinstance(one, str) or _is_numbers(one)
    ]
    if prompts and len(sizes) == len(prompts):
        return len(prompts), sum(sizes) + TOKENS_PER_PART * len(prompts)
    raise BadInput(
        problem=f"'{name}' must be a text, a list of texts, or a list of token numbers, and not be empty.", param=name
    )


def _is_numbers(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, int) and not isinstance(one, bool) for one in value)
    )


def joined(value: object) -> str:
    """All texts of a prompt, to be counted. Token numbers stand for themselves, as words."""
    if isinstance(value, list):
        return "\n".join(joined(one) for one in value)
    return str(value)


def _prompt_bytes(body: Mapping[str, Any]) -> int | None:
    total: int | None = TOKENS_PER_REPLY
    for message in items(body.get("messages"), "messages"):
        size = _message_bytes(message)
        if size is None or total is None:
            total = None
        else:
            total += TOKENS_PER_PART + size
    beside = sum(json_bytes(body[name]) for name in _BESIDE_MESSAGES if body.get(name) is not None)
    beside += tool_tokens(body.get("tools"), body.get("functions"), body.get("response_format"))
    return None if total is None else total + beside


def _message_bytes(message: Mapping[str, Any]) -> int | None:
    """UTF-8 bytes of everything in a message; None when something in it is not text."""
    total = 0
    for name, value in message.items():
        if name == "content" and isinstance(value, list):
            size = parts_bytes(value, lambda part: kind(part) in _TEXT_PARTS)
        elif isinstance(value, str):
            size = text_bytes(value)
        elif name in ("audio", "images"):
            size = 0 if value is None else None
        else:
            size = 0 if value is None else json_bytes(value)
        if size is None:
            return None
        total += size
    return total


def _runs_at_the_client(tool: Mapping[str, Any]) -> bool:
    known = set(tool) <= {"type", "function", "custom", "cache_control"}
    return known and (kind(tool) in ("function", "custom") or ("type" not in tool and "function" in tool))


def _written(choices: object) -> list[str]:
    """The text that an answer's choices (or a chunk's) hold: contents, reasoning, refusals and tool calls."""
    found: list[str] = []
    for choice in listed(choices):
        of_choice = contents(choice)
        part = contents(of_choice.get("delta") or of_choice.get("message"))
        said = [part.get(name) for name in _WRITTEN]
        functions = [field(tool, "function") for tool in listed(part.get("tool_calls"))]
        for function in (*functions, part.get("function_call")):
            said += [contents(function).get(name) for name in ("name", "arguments")]
        said.append(field(part.get("audio"), "transcript"))
        found += [text if isinstance(text, str) else str(text) for text in said if text]
    return found
