"""Laws of the priced endpoints (DESIGN 3): a bound is a bound, garbage is refused, streams may be cut anywhere."""

import json
import os
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from litellm_credits.endpoints.sse import Events
from litellm_credits.endpoints.table import PRICED
from litellm_credits.errors import BadInput, ParameterNotAllowed
from litellm_credits.pricing.usage import Usage

Body = dict[str, Any]

# Requests of text -----------------------------------------------------------------------------------------------------

texts = (
    st.text(max_size=200)
    | st.text("\U0001f600\u0301\u200d<|endoftext|> \n\t", max_size=60)
    | st.text("Zaltyko ", max_size=60)
)
names = st.text("abcdefghij_-", min_size=1, max_size=20)
schemas: st.SearchStrategy[Body] = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "number", "integer", "boolean", "null"])},
        optional={"description": texts, "enum": st.lists(texts, min_size=1, max_size=4)},
    ),
    lambda inner: (
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}, optional={"description": texts})
        | st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(names, inner, max_size=4)},
            optional={"required": st.lists(names, max_size=3), "description": texts},
        )
    ),
    max_leaves=5,
)
parameters = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(names, schemas, max_size=4)},
    optional={"required": st.lists(names, max_size=3)},
)
functions = st.fixed_dictionaries({"name": names, "parameters": parameters}, optional={"description": texts})


def several(one: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(one, min_size=1, max_size=most)


def text_parts(*kinds: str) -> st.SearchStrategy[list[Body]]:
    return st.lists(st.fixed_dictionaries({"type": st.sampled_from(kinds), "text": texts}), max_size=3)


flat_functions = functions.map(lambda function: {"type": "function", **function})
tools = st.fixed_dictionaries({"type": st.just("function"), "function": functions})
tool_calls = st.fixed_dictionaries(
    {"id": names, "type": st.just("function"), "function": st.fixed_dictionaries({"name": names, "arguments": texts})}
)
messages = (
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "developer"]), "content": texts | text_parts("text")},
        optional={"name": names},
    )
    | st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": texts | st.none()},
        optional={"tool_calls": several(tool_calls), "name": names},
    )
    | st.fixed_dictionaries({"role": st.just("tool"), "content": texts, "tool_call_id": names})
)
roles = st.sampled_from(["user", "assistant"])
items = st.fixed_dictionaries(
    {"role": roles, "content": texts | text_parts("input_text", "output_text")}, optional={"type": st.just("message")}
) | st.fixed_dictionaries({"type": st.just("function_call_output"), "call_id": names, "output": texts})
blocks = text_parts("text") | several(
    st.fixed_dictionaries({"type": st.just("tool_result"), "tool_use_id": names, "content": texts | text_parts("text")})
)
contents = st.fixed_dictionaries({"parts": several(st.fixed_dictionaries({"text": texts}))}, optional={"role": roles})

REQUESTS: dict[str, st.SearchStrategy[Body]] = {
    "chat": st.fixed_dictionaries(
        {"messages": several(messages, 4)},
        optional={
            "tools": several(tools),
            "tool_choice": st.sampled_from(["auto", "none", "required"])
            | st.fixed_dictionaries({"type": st.just("function"), "function": st.fixed_dictionaries({"name": names})}),
        },
    ),
    "completions": st.fixed_dictionaries({"prompt": texts | several(texts)}, optional={"suffix": texts}),
    "embeddings": st.fixed_dictionaries({"input": texts | several(texts)}),
    "responses": st.fixed_dictionaries(
        {"input": texts | several(items)},
        optional={"instructions": texts, "tools": several(flat_functions), "tool_choice": names},
    ),
    "messages": st.fixed_dictionaries(
        {"messages": several(st.fixed_dictionaries({"role": roles, "content": texts | blocks}))},
        optional={"system": texts | text_parts("text"), "tools": several(functions)},
    ),
    "generate_content": st.fixed_dictionaries(
        {"contents": several(contents)},
        optional={
            "systemInstruction": contents,
            "tools": several(st.fixed_dictionaries({"functionDeclarations": several(functions)})),
        },
    ),
    "rerank": st.fixed_dictionaries({"query": texts, "documents": several(texts)}),
}


@pytest.mark.parametrize("model", ["gpt-4", "gpt-4o"])
@pytest.mark.parametrize("name", REQUESTS)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_bound_of_a_text_is_never_below_what_the_tokenizer_counts(
    name: str, model: str, data: st.DataObject
) -> None:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else LiteLLM asks the network for prices
    from litellm import token_counter

    endpoint, body = PRICED[name], data.draw(REQUESTS[name])
    endpoint.refuse(body)
    bound = endpoint.demand(body).prompt
    assert bound is not None
    assert bound >= token_counter(model=model, **endpoint.countable(body))


# Garbage --------------------------------------------------------------------------------------------------------------

keys = st.sampled_from(["type", "text", "content", "parts", "file_id", "function", "inlineData", "source", "id"])
scalars = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=5) | st.just("text")
garbage: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys | st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
PART = {"type": "text", "text": "hi"}
RICH: dict[str, Body] = {
    "chat": {
        "messages": [
            {"role": "user", "content": ["hi", PART], "tool_calls": [{"function": {"name": "f"}}], "audio": None}
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "text"},
        "max_tokens": 5,
        "n": 2,
    },
    "completions": {"prompt": ["hi", [1, 2]], "suffix": "x", "max_tokens": 5, "best_of": 2},
    "embeddings": {"input": ["hi", [1, 2]]},
    "responses": {
        "input": [{"type": "message", "content": ["hi", PART], "output": [PART]}],
        "instructions": "x",
        "tools": [{"type": "function"}],
        "max_output_tokens": 16,
    },
    "messages": {
        "messages": [{"role": "user", "content": ["hi", {"type": "tool_result", "content": [PART]}]}],
        "system": [PART],
        "tools": [{"type": "custom", "name": "f"}],
        "max_tokens": 5,
    },
    "generate_content": {
        "contents": [{"role": "user", "parts": ["hi", {"text": "hi"}]}],
        "systemInstruction": {"parts": [{"text": "hi"}]},
        "tools": [{"functionDeclarations": [{"name": "f"}]}],
        "generationConfig": {"maxOutputTokens": 5, "candidateCount": 2},
    },
    "image_generation": {"prompt": "hi", "n": 2, "stream": False},
    "image_edit": {"prompt": "hi", "n": "2", "images": [{"image_url": "x"}]},
    "speech": {"input": "hi", "voice": "x", "stream_format": "audio"},
    "rerank": {"query": "hi", "documents": ["a", {"text": "b"}]},
    "moderation": {"input": ["hi", PART]},
    "ocr": {"document": {"type": "document_url", "document_url": "x"}, "pages": [0, 1]},
    "pass_through": {"anything": [PART]},
}


def places(value: Any) -> list[tuple[Any, ...]]:
    """The paths to all values inside a value, its own among them."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *path) for key, inner in inside for path in places(inner))]


def spoiled(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    """A value with something else at the end of a path."""
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = spoiled(value[path[0]], path[1:], by)
    return copy


@pytest.mark.parametrize("name", RICH)
@settings(max_examples=150)
@given(data=st.data(), by=garbage)
def test_a_request_with_garbage_anywhere_has_a_bound_or_is_refused(name: str, data: st.DataObject, by: Any) -> None:
    endpoint = PRICED[name]
    path = data.draw(st.sampled_from(places(RICH[name])[1:]))
    body = spoiled(RICH[name], path, by)
    try:
        endpoint.refuse(body)
        demand = endpoint.demand(body)
    except (BadInput, ParameterNotAllowed):
        return
    assert demand.prompt is None or demand.prompt >= 0
    assert demand.per_choice is None or demand.per_choice >= 0
    assert demand.choices >= 0
    assert all(type(count) is Decimal and count >= 0 for count in demand.units.values())


# Limits of output -----------------------------------------------------------------------------------------------------

limits = st.none() | st.integers(1, 10**6)
choices = st.none() | st.integers(1, 8)
LIMITED: dict[str, st.SearchStrategy[Body]] = {
    "chat": st.fixed_dictionaries({}, optional={"max_tokens": limits, "max_completion_tokens": limits, "n": choices}),
    "completions": st.fixed_dictionaries({}, optional={"max_tokens": limits, "n": choices, "best_of": choices}),
    "responses": st.fixed_dictionaries({}, optional={"max_output_tokens": limits}),
    "messages": st.fixed_dictionaries({}, optional={"max_tokens": limits}),
    "generate_content": st.fixed_dictionaries(
        {},
        optional={
            "generationConfig": st.none()
            | st.fixed_dictionaries(
                {},
                optional={
                    "maxOutputTokens": limits,
                    "max_output_tokens": limits,
                    "candidateCount": choices,
                    "temperature": st.just(1),
                },
            )
        },
    ),
}


def test_every_endpoint_that_limits_its_output_is_held_to_it() -> None:
    assert LIMITED.keys() == {name for name, one in PRICED.items() if one.limits_output}


@pytest.mark.parametrize("name", LIMITED)
@given(data=st.data(), tokens=st.integers(1, 10**6))
def test_a_limit_that_is_written_into_a_request_is_the_limit_that_it_has(
    name: str, data: st.DataObject, tokens: int
) -> None:
    endpoint, request = PRICED[name], data.draw(REQUESTS[name]) | data.draw(LIMITED[name])
    before = endpoint.demand(request)
    endpoint.limit_output(request, tokens)
    after = endpoint.demand(request)
    assert after.per_choice in (tokens, max(tokens, 16))  # the least that OpenAI's responses take
    assert after.choices == before.choices


# Streams --------------------------------------------------------------------------------------------------------------


def cut(data: st.DataObject, stream: bytes) -> list[bytes]:
    """The stream in pieces, some of them empty, cut anywhere: inside a character, inside a line end."""
    at = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[start:end] for start, end in zip([0, *at], [*at, len(stream)], strict=True)]


def frames(events: list[Body], end: str, *, named: bool) -> bytes:
    return "".join(
        (f"event: {event['type']}{end}" if named else "") + f"data: {json.dumps(event, ensure_ascii=False)}{end}{end}"
        for event in events
    ).encode()


ends = st.sampled_from(["\n", "\r\n"])
tokens = st.integers(0, 10**6)
json_objects = st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.booleans(), max_size=3)


@given(data=st.data(), events=st.lists(json_objects, max_size=4), end=ends)
def test_events_are_the_same_however_their_bytes_are_cut(data: st.DataObject, events: list[Body], end: str) -> None:
    stream = Events()
    pieces = cut(data, frames(events, end, named=False) + f"data: [DONE]{end}{end}".encode())
    assert [event for piece in pieces for event in stream.feed(piece)] == events


@given(st.lists(st.binary(max_size=30) | st.text('data: {}[]"\n\r:1,', max_size=30), max_size=6))
def test_events_never_raise(pieces: list[bytes | str]) -> None:
    stream = Events()
    assert all(isinstance(event, dict) for piece in pieces for event in stream.feed(piece))


@given(data=st.data(), said=st.lists(texts.filter(bool), max_size=4), read=tokens, written=tokens, end=ends)
def test_a_stream_of_messages_cut_anywhere(
    data: st.DataObject, said: list[str], read: int, written: int, end: str
) -> None:
    deltas = [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}} for text in said]
    usage = {"input_tokens": read, "cache_read_input_tokens": 3, "output_tokens": 1}
    events: list[Body] = [
        {"type": "message_start", "message": {"model": "claude", "usage": usage}},
        *deltas,
        {"type": "message_delta", "usage": {"output_tokens": written}},
        {"type": "message_stop"},
    ]
    reader, closing = PRICED["messages"].reader(), 0
    for piece in cut(data, frames(events, end, named=True)):
        reader.feed(piece)
        closing += reader.closing
        assert reader.closing or closing or not reader.text or reader.text == said[: len(reader.text)]
    assert closing == 1, "one piece, and only one, is the last word"
    assert reader.text == said
    assert Usage.parse(reader.stated) == Usage(read + 3, written, cached=3)
    assert reader.model == "claude"


@given(data=st.data(), said=st.lists(texts.filter(bool), max_size=4), read=tokens, written=tokens, end=ends)
def test_a_stream_of_gemini_cut_anywhere(
    data: st.DataObject, said: list[str], read: int, written: int, end: str
) -> None:
    usage = {"promptTokenCount": read, "candidatesTokenCount": written}
    events: list[Body] = [{"candidates": [{"content": {"parts": [{"text": text}]}}]} for text in said]
    events.append({"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage, "modelVersion": "gemini"})
    reader = PRICED["generate_content"].reader()
    for piece in cut(data, frames(events, end, named=False)):
        reader.feed(piece)
    assert reader.text == said
    assert Usage.parse(reader.stated) == Usage(read, written)
    assert reader.model == "gemini"


# Answers --------------------------------------------------------------------------------------------------------------

answers = st.dictionaries(
    st.sampled_from(["usage", "usageMetadata", "meta", "usage_info", "data", "pages", "duration", "results"]), garbage
)


@pytest.mark.parametrize("name", [name for name in PRICED if name != "speech"])
@given(answer=garbage | answers)
def test_no_answer_makes_counting_fail(name: str, answer: Any) -> None:
    usage = PRICED[name].usage_of({"query": "q", "documents": ["a"]}, answer)
    assert usage is None or (usage.total >= 0 and all(count >= 0 for count in usage.units.values()))
    assert PRICED[name].has_output({}) in (True, False)
