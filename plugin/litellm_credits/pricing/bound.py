"""The most a request can cost, before it is sent (DESIGN 3).

Input, cheap first: byte-level BPE never makes more tokens than a text has UTF-8 bytes, so the bytes of everything that
becomes prompt are an upper bound. What is not text (images, audio, files) can fill the context window.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from litellm_credits.errors import BadInput
from litellm_credits.money import dumps

TOKENS_PER_MESSAGE = 8
"""Role markers and separators around a message: OpenAI's chat format uses 3 to 4, and a name 1 more."""

TOKENS_PER_REPLY = 16
"""What providers add once per request: the primer of the reply, and the frame around tools."""

DEFAULT_CONTEXT_TOKENS = 2_000_000
"""Context window assumed for a model that states none, for prompts whose tokens cannot be counted."""

_PROMPT_FIELDS = (
    "tools",
    "functions",
    "response_format",
    "tool_choice",
    "function_call",
    "prediction",
    "web_search_options",
)
_OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens")
_MOST_CHOICES = 128
_MOST_OUTPUT_TOKENS = 100_000_000
_TEXT_PARTS = {"text", "input_text", "output_text", "refusal", "thinking"}


@dataclass(frozen=True, slots=True)
class InputBound:
    """The most prompt tokens a request can have. `text` is false when something in it is not text, so cannot be counted."""

    tokens: int
    text: bool


@dataclass(frozen=True, slots=True)
class OutputLimit:
    """How many tokens a request lets the model write per choice, if it says so, and how many choices it asks for."""

    per_choice: int | None
    choices: int


def input_bound(request: Mapping[str, Any], context_tokens: int | None) -> InputBound:
    """Upper bound of the prompt tokens of an OpenAI chat request, for a model with this context window.

    Raises:
        BadInput: when `messages` is not a list of objects.
    """
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadInput(problem="'messages' must be a non-empty list of message objects.", param="messages")
    window = context_tokens or DEFAULT_CONTEXT_TOKENS
    total = TOKENS_PER_REPLY
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise BadInput(problem=f"'messages[{index}]' must be an object.", param=f"messages[{index}]")
        size = _message_bytes(message)
        if size is None:
            return InputBound(window, text=False)
        total += TOKENS_PER_MESSAGE + size
    total += sum(_json_bytes(request[name]) for name in _PROMPT_FIELDS if request.get(name) is not None)
    return InputBound(min(total, window), text=True)


def output_limit(request: Mapping[str, Any]) -> OutputLimit:
    """What `max_tokens` or `max_completion_tokens`, and `n`, allow.

    Raises:
        BadInput: naming the field, when one is not a whole number in its range.
    """
    choices = _whole(request, "n", least=1, most=_MOST_CHOICES) or 1
    stated = [_whole(request, name, least=1, most=_MOST_OUTPUT_TOKENS) for name in _OUTPUT_LIMITS]
    # Both given: providers differ in which one they obey, so count on the larger.
    return OutputLimit(max((limit for limit in stated if limit is not None), default=None), choices)


def set_output_limit(request: dict[str, Any], tokens: int) -> None:
    """Write the limit into the field(s) that the request uses, else into `max_tokens`."""
    names = [name for name in _OUTPUT_LIMITS if request.get(name) is not None] or ["max_tokens"]
    for name in names:
        request[name] = tokens


def _whole(request: Mapping[str, Any], name: str, *, least: int, most: int) -> int | None:
    value = request.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadInput(problem=f"'{name}' must be a whole number from {least} to {most}.", param=name)
    return value


def _message_bytes(message: Mapping[str, Any]) -> int | None:
    """UTF-8 bytes of everything in a message; None when something in it is not text."""
    total = 0
    for name, value in message.items():
        if name == "content" and isinstance(value, list):
            parts = _parts_bytes(value)
            if parts is None:
                return None
            total += parts
        elif isinstance(value, str):
            total += _bytes(value)
        elif name in ("audio", "images"):
            if value is not None:
                return None
        elif value is not None:
            total += _json_bytes(value)
    return total


def _parts_bytes(parts: Iterable[object]) -> int | None:
    total = 0
    for part in parts:
        if isinstance(part, dict) and part.get("type") in _TEXT_PARTS:
            total += TOKENS_PER_MESSAGE + _json_bytes(part)
        elif isinstance(part, str):
            total += _bytes(part)
        else:
            return None
    return total


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _json_bytes(value: object) -> int:
    try:
        return len(dumps(value))
    except TypeError as problem:  # lone surrogates, numbers beyond 64 bits: nothing that any provider takes
        raise BadInput(
            problem=f"The request holds a value that JSON cannot carry ({problem}).", param="messages"
        ) from problem
