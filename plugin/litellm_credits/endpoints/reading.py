"""Reading requests and answers of any shape: bytes of prompts, whole numbers, fields of mappings and objects."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from litellm_credits.errors import BadInput, ParameterNotAllowed
from litellm_credits.money import dumps

TOKENS_PER_PART = 8
"""Role markers and separators around a message or a part: OpenAI's chat format uses 3 to 4, and a name 1 more."""

TOKENS_PER_REPLY = 16
"""What providers add once per request: the primer of the reply, and the frame around it all."""

_TOKENS_OF_TOOLS = 640
"""What a provider tells its model of tools at all, once per request, and of answers that must fit a schema, of which LiteLLM
makes a tool: Anthropic's page on the tokens of tool use states at most 530."""

_TOKENS_A_BUILT_IN_TOOL = 1536
"""What a provider adds for a tool that it knows by its type: Anthropic's pages on its own tools state 245 tokens for bash, 700
for a text editor, and up to 735 and 499 for a computer."""

MOST_OUTPUT_TOKENS = 100_000_000
_STORED = ("file_id", "file_ids", "container_id", "vector_store_ids")
_DEFINED_HERE = (None, "function", "custom")
"""Types of tools that the request itself defines."""

_LONGEST_NAME = 64


def whole(request: Mapping[str, Any], name: str, *, least: int, most: int) -> int | None:
    """A whole number of the request's, or None when it is not stated.

    Raises:
        BadInput: when it is anything else. Numbers in forms are text.
    """
    value = request.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadInput(problem=f"'{name}' must be a whole number from {least} to {most}.", param=name)
    return value


def in_form(request: Mapping[str, Any], name: str, *, least: int, most: int) -> int | None:
    """As `whole`, for a form, where numbers are text."""
    value = request.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(most)):
        value = int(value)
    return whole({name: value}, name, least=least, most=most)


def listed(value: object) -> list[Any]:
    """A list, or an empty one in the place of anything else: providers' answers are not to be trusted."""
    return value if isinstance(value, list) else []


def kind(part: Mapping[str, Any]) -> str | None:
    """The `type` of a part; None when it has none."""
    stated = part.get("type")
    return stated if stated is None else str(stated)


def as_json(value: object) -> str:
    """A value as JSON, or as it prints where JSON cannot carry it: for counting what was written."""
    try:
        return dumps(value).decode()
    except TypeError:
        return repr(value)


def text_bytes(text: str) -> int:
    """UTF-8 bytes of a text: byte-level BPE never makes more tokens of it."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def json_bytes(value: object) -> int:
    """UTF-8 bytes of a value as JSON.

    Raises:
        BadInput: for a value that JSON cannot carry, such as a lone surrogate: nothing that any provider takes.
    """
    try:
        return len(dumps(value))
    except TypeError as problem:
        raise BadInput(problem=f"The request holds a value that JSON cannot carry ({problem}).") from problem


def tool_tokens(tools: object, *schemas: object) -> int:
    """The most tokens that providers add for the tools of a request, and for schemas of its answer, beside what these say."""
    built_in = [tool for tool in listed(tools) if isinstance(tool, Mapping) and kind(tool) not in _DEFINED_HERE]
    once = _TOKENS_OF_TOOLS if tools or any(schemas) else 0
    return once + _TOKENS_A_BUILT_IN_TOOL * len(built_in)


def items(value: object, name: str) -> list[dict[str, Any]]:
    """A non-empty list of objects.

    Raises:
        BadInput: for anything else, naming the first that is not an object.
    """
    if not isinstance(value, list) or not value:
        raise BadInput(problem=f"'{name}' must be a non-empty list of objects.", param=name)
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise BadInput(problem=f"'{name}[{index}]' must be an object.", param=f"{name}[{index}]")
    return value


def parts_bytes(parts: Iterable[object], is_text: Callable[[Mapping[str, Any]], bool]) -> int | None:
    """Bytes of the parts of a message, with what providers add around each; None when one of them is not text."""
    total = 0
    for part in parts:
        if isinstance(part, str):
            total += TOKENS_PER_PART + text_bytes(part)
        elif isinstance(part, Mapping) and is_text(part):
            total += TOKENS_PER_PART + json_bytes(part)
        else:
            return None
    return total


def refuse_stored(value: object, where: str) -> None:
    """Refuse references to what is stored at the provider, which the proxy's teams share: files, containers, ...

    Raises:
        ParameterNotAllowed: naming the field.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name in _STORED and inner:
                raise ParameterNotAllowed(name=str(name), param=f"{where}.{name}")
            if isinstance(inner, dict | list):
                refuse_stored(inner, f"{where}.{name}"[:_LONGEST_NAME])
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict | list):
                refuse_stored(inner, where)


def refuse_fields(body: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse a request that sets one of these.

    Raises:
        ParameterNotAllowed: naming the field.
    """
    for name in names:
        if body.get(name) not in (None, False, [], {}, ""):
            raise ParameterNotAllowed(name=name, param=name)


def refuse_tools(tools: object, allowed: Callable[[Mapping[str, Any]], bool]) -> None:
    """Refuse tools that the provider, or the proxy, runs itself: it bills them beside the tokens, or calls models with them.

    Raises:
        BadInput, ParameterNotAllowed: naming the tool.
    """
    if tools is None:
        return
    if not isinstance(tools, list):
        raise BadInput(problem="'tools' must be a list of objects.", param="tools")
    for index, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            raise BadInput(problem=f"'tools[{index}]' must be an object.", param=f"tools[{index}]")
        if not allowed(tool):
            kind = str(tool.get("type") or next(iter(tool), ""))[:_LONGEST_NAME]
            raise ParameterNotAllowed(name=f"tools[{index}] ({kind})", param=f"tools[{index}]")
