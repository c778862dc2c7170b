"""The priced endpoints, by example: what requests can use, and what answers and streams say.

Their laws are in tests/property/test_endpoints.py.
"""

import io
import json
import wave
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from litellm_credits.endpoints.audio import seconds_of
from litellm_credits.endpoints.endpoint import Demand, Reader
from litellm_credits.endpoints.sse import Events
from litellm_credits.endpoints.table import PRICED
from litellm_credits.errors import BadInput, ParameterNotAllowed
from litellm_credits.pricing.usage import Unit, Usage

ONE = Decimal(1)
WORDS = ["Hello,", " this", " is", " it."]
FUNCTION = {"type": "function", "function": {"name": "weather", "parameters": {}}}

Body = dict[str, Any]


def as_object(answer: Any) -> Any:
    """The same answer as LiteLLM's models give it: objects with attributes."""
    if isinstance(answer, dict):
        return SimpleNamespace(**{name: as_object(value) for name, value in answer.items()})
    return [as_object(one) for one in answer] if isinstance(answer, list) else answer


def said(content: object = "hi", **more: object) -> Body:
    """A chat request, or Anthropic's, with one message."""
    return {"messages": [{"role": "user", "content": content}], **more}


def asked(*parts: object, **more: object) -> Body:
    """Gemini's request with one content."""
    return {"contents": [{"role": "user", "parts": list(parts or ({"text": "hi"},))}], **more}


MINIMAL: dict[str, Body] = {
    "chat": said(),
    "completions": {"prompt": "hi"},
    "embeddings": {"input": "hi"},
    "responses": {"input": "hi"},
    "messages": said(max_tokens=5),
    "generate_content": asked(),
    "image_generation": {"prompt": "a cat"},
    "image_edit": {"prompt": "a hat", "image": [{"bytes": 5}]},
    "speech": {"input": "hi"},
    "transcription": {"file": {"bytes": 1500, "seconds": None, "bytes_a_second": None}},
    "rerank": {"query": "q", "documents": ["a", "b"]},
    "moderation": {"input": "hi"},
    "ocr": {"document": {"type": "document_url", "document_url": "https://x"}},
    "pass_through": {},
}


def test_every_endpoint_is_here() -> None:
    assert MINIMAL.keys() == PRICED.keys()


@pytest.mark.parametrize("name", PRICED)
def test_a_plain_request_is_not_refused_and_has_a_bound(name: str) -> None:
    endpoint, body = PRICED[name], MINIMAL[name]
    endpoint.refuse(body)
    demand = endpoint.demand(body)
    assert (demand.choices > 0) == (
        endpoint.limits_output or name in ("image_generation", "image_edit", "transcription")
    )
    assert set(demand.units) <= set(endpoint.units)
    assert set(endpoint.estimated(body)) <= set(endpoint.units)


def test_no_two_endpoints_share_a_call_type() -> None:
    types = [kind for endpoint in PRICED.values() for kind in endpoint.call_types]
    assert len(types) == len(set(types))


# Demand: the prompt ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("chat", said("%s")),
        ("chat", said([{"type": "text", "text": "%s"}])),
        ("chat", {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "%s"}}]}]}),
        ("completions", {"prompt": "%s"}),
        ("completions", {"prompt": ["a", "%s"]}),
        ("completions", {"prompt": "a", "suffix": "%s"}),
        ("embeddings", {"input": "%s"}),
        ("embeddings", {"input": ["a", "%s"]}),
        ("responses", {"input": "%s"}),
        ("responses", {"input": [{"role": "user", "content": "%s"}]}),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "%s"}]}]}),
        ("responses", {"input": [{"type": "function_call_output", "call_id": "c", "output": "%s"}]}),
        ("responses", {"input": "a", "instructions": "%s"}),
        ("messages", said([{"type": "text", "text": "%s"}])),
        ("messages", said([{"type": "tool_result", "content": [{"type": "text", "text": "%s"}]}])),
        ("messages", said("a", system="%s")),
        ("messages", said("a", system=[{"type": "text", "text": "%s"}])),
        ("generate_content", asked({"text": "%s"})),
        ("generate_content", asked({"functionResponse": {"name": "f", "response": {"a": "%s"}}})),
        ("generate_content", asked(systemInstruction={"parts": [{"text": "%s"}]})),
        ("generate_content", asked(system_instruction={"parts": [{"text": "%s"}]})),
        ("image_generation", {"prompt": "%s"}),
        ("speech", {"input": "%s"}),
        ("rerank", {"query": "q", "documents": ["%s"]}),
        ("rerank", {"query": "q", "documents": [{"text": "%s"}]}),
        ("rerank", {"query": "%s", "documents": ["a"]}),
    ],
)
def test_a_prompt_is_bounded_by_its_bytes_not_its_characters(name: str, template: Body) -> None:
    def prompt(text: str) -> int:
        demand = PRICED[name].demand(json.loads(json.dumps(template).replace("%s", text)))
        assert demand.prompt is not None
        return demand.prompt

    assert prompt("\u00f6" * 1000) == prompt("o" * 2000)
    assert 3000 <= prompt("o" * 3000) < prompt("o") + 3000


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("chat", said([{"type": "image_url", "image_url": {"url": "https://x"}}])),
        ("chat", said([{"type": "text", "text": "hi"}, {"type": "input_audio", "input_audio": {}}])),
        ("chat", said([{"type": "something new"}])),
        ("chat", said([{"text": "of no type"}])),
        ("chat", said([None])),
        ("chat", {"messages": [{"role": "assistant", "audio": {"id": "a"}}]}),
        ("chat", {"messages": [{"role": "user", "content": "hi", "images": ["x"]}]}),
        (
            "chat",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, {"role": "user", "content": "hi"}]},
        ),
        ("embeddings", {"input": ["hi", {"image": "x"}]}),
        ("embeddings", {"input": [None]}),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x"}]}]}),
        ("responses", {"input": [{"type": "function_call_output", "output": [{"type": "input_image"}]}]}),
        ("responses", {"input": [{"type": "computer_call_output"}]}),
        ("responses", {"input": "hi", "previous_response_id": "resp_1"}),
        ("responses", {"previous_response_id": "resp_1"}),
        ("messages", said([{"type": "image", "source": {"type": "url", "url": "https://x"}}])),
        ("messages", said([{"type": "tool_result", "content": [{"type": "image"}]}])),
        ("messages", said([{"type": "document"}])),
        ("messages", said("hi", system=[{"type": "image"}])),
        ("generate_content", asked({"text": "hi"}, {"inlineData": {"data": "x"}})),
        ("generate_content", asked({"inline_data": {"data": "x"}})),
        ("generate_content", asked({"fileData": {"fileUri": "x"}})),
        ("generate_content", asked({"file_data": {"file_uri": "x"}})),
        ("generate_content", asked(None)),
        ("generate_content", asked(systemInstruction={"parts": [{"fileData": {}}]})),
        ("generate_content", asked(system_instruction={"parts": [{"fileData": {}}]})),
        ("image_edit", {"prompt": "hi"}),
        ("transcription", {"file": {"bytes": 5, "seconds": None, "bytes_a_second": None}}),
    ],
)
def test_a_prompt_that_is_not_text_can_fill_the_context_window(name: str, body: Body) -> None:
    assert PRICED[name].demand(body).prompt is None


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("chat", ("tools", "functions", "response_format", "tool_choice", "function_call", "prediction")),
        ("responses", ("instructions", "tools", "tool_choice", "text")),
        ("messages", ("system", "tools", "tool_choice", "output_format", "output_config")),
        ("generate_content", ("systemInstruction", "system_instruction", "tools", "toolConfig", "generationConfig")),
    ],
)
def test_a_prompt_grows_with_everything_that_becomes_part_of_it(name: str, fields: tuple[str, ...]) -> None:
    endpoint, body = PRICED[name], MINIMAL[name]
    before = endpoint.demand(body).prompt
    assert before is not None
    for field in fields:
        after = endpoint.demand(body | {field: {"type": "function", "text": "x" * 500}}).prompt
        assert after is not None
        assert after >= before + 500, field
        assert endpoint.demand(body | {field: None}).prompt == before, field


@pytest.mark.parametrize(
    ("name", "more", "least"),
    [
        ("chat", {"tools": [FUNCTION]}, 530),
        ("chat", {"functions": [{"name": "f"}]}, 530),
        ("chat", {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, 530),
        ("responses", {"tools": [{"type": "function", "name": "f"}]}, 530),
        ("generate_content", {"tools": [{"functionDeclarations": [{"name": "f"}]}]}, 530),
        ("messages", {"tools": [{"name": "f", "input_schema": {}}]}, 530),
        ("messages", {"output_format": {"type": "json_schema", "schema": {}}}, 530),
        ("messages", {"tools": [{"type": "bash_20250124", "name": "bash"}]}, 530 + 245),
        ("messages", {"tools": [{"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}]}, 530 + 700),
        ("messages", {"tools": [{"type": "computer_20250124", "name": "computer"}]}, 530 + 735 + 499),
    ],
)
def test_tools_cost_more_than_their_definitions(name: str, more: Body, least: int) -> None:
    """Providers tell their models what tools are: tokens that Anthropic's page on tool use states."""
    endpoint = PRICED[name]
    plain, with_tools = (endpoint.demand(body).prompt for body in (MINIMAL[name], MINIMAL[name] | more))
    assert plain is not None
    assert with_tools is not None
    assert with_tools - plain >= least


def test_reasoning_that_the_provider_keeps_can_be_of_any_length() -> None:
    question = {"role": "user", "content": "hi"}
    kept = {"type": "reasoning", "id": "rs_1", "summary": []}
    demand = PRICED["responses"].demand
    assert demand({"input": [question, kept]}).prompt is None
    assert demand({"input": [question, kept | {"encrypted_content": "x" * 1000}]}).prompt in range(1000, 1200)


def test_token_numbers_are_counted_one_by_one() -> None:
    for name, field in (("completions", "prompt"), ("embeddings", "input")):
        one, two, apart = (
            PRICED[name].demand({field: value}).prompt for value in ([7] * 100, [7] * 200, [[7] * 100, [7] * 100])
        )
        assert one is not None
        assert two is not None
        assert apart is not None
        assert two - one == 100
        assert two < apart < two + 50


# Demand: output, choices and units ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stated", "per_choice", "choices"),
    [
        ("chat", {}, None, 1),
        ("chat", {"max_tokens": 5}, 5, 1),
        ("chat", {"max_completion_tokens": 7, "n": 3}, 7, 3),
        ("chat", {"max_tokens": 5, "max_completion_tokens": 7}, 7, 1),
        ("chat", {"max_tokens": 7, "max_completion_tokens": 5}, 7, 1),
        ("chat", {"max_tokens": None, "n": None}, None, 1),
        ("chat", {"n": 128}, None, 128),
        ("completions", {}, None, 1),
        ("completions", {"max_tokens": 0}, 0, 1),
        ("completions", {"max_tokens": 5, "n": 2, "best_of": 4}, 5, 4),
        ("completions", {"prompt": ["a", "b", "c"], "n": 2}, None, 6),
        ("completions", {"prompt": [[1, 2], [3]], "best_of": 2}, None, 4),
        ("completions", {"prompt": [1, 2, 3]}, None, 1),
        ("responses", {}, None, 1),
        ("responses", {"max_output_tokens": 16}, 16, 1),
        ("messages", {"max_tokens": 9}, 16, 1),
        ("messages", {"max_tokens": None}, None, 1),
        ("generate_content", {}, None, 1),
        ("generate_content", {"generationConfig": {}}, None, 1),
        ("generate_content", {"generationConfig": {"maxOutputTokens": 5, "candidateCount": 3}}, 5, 3),
        ("generate_content", {"generationConfig": {"max_output_tokens": 5, "candidate_count": 3}}, 5, 3),
        ("generate_content", {"generationConfig": {"max_output_tokens": 5, "maxOutputTokens": 7}}, 7, 1),
    ],
)
def test_output(name: str, stated: Body, per_choice: int | None, choices: int) -> None:
    demand = PRICED[name].demand(MINIMAL[name] | stated)
    assert (demand.per_choice, demand.choices) == (per_choice, choices)


def config(field: str, value: object) -> Body:
    return {"generationConfig": {field: value}}


@pytest.mark.parametrize("wrong", [0, -1, True, False, "5", 5.0, Decimal(5), [5], {}, 10**12])
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("chat", "n"),
        ("chat", "max_tokens"),
        ("chat", "max_completion_tokens"),
        ("completions", "n"),
        ("completions", "best_of"),
        ("responses", "max_output_tokens"),
        ("messages", "max_tokens"),
        ("generate_content", "maxOutputTokens"),
        ("generate_content", "max_output_tokens"),
        ("generate_content", "candidateCount"),
        ("image_generation", "n"),
    ],
)
def test_output_must_be_a_whole_number_in_range(name: str, field: str, wrong: object) -> None:
    stated = config(field, wrong) if name == "generate_content" else {field: wrong}
    with pytest.raises(BadInput, match=f"'{field}' must be a whole number") as refusal:
        PRICED[name].demand(MINIMAL[name] | stated)
    assert refusal.value.param == field


@pytest.mark.parametrize(
    ("name", "field", "most"),
    [
        ("chat", "n", 128),
        ("completions", "n", 128),
        ("completions", "max_tokens", 100_000_000),
        ("generate_content", "candidateCount", 8),
        ("image_generation", "n", 32),
        ("image_edit", "n", 32),
    ],
)
def test_the_most_that_may_be_asked_for(name: str, field: str, most: int) -> None:
    def demand(value: int) -> Demand:
        return PRICED[name].demand(
            MINIMAL[name] | (config(field, value) if name == "generate_content" else {field: value})
        )

    assert most in (demand(most).choices, demand(most).per_choice)
    with pytest.raises(BadInput):
        demand(most + 1)


@pytest.mark.parametrize(("stated", "images"), [({}, 1), ({"n": "3"}, 3), ({"n": 3}, 3), ({"n": None}, 1)])
def test_images_of_a_form(stated: Body, images: int) -> None:
    demand = PRICED["image_edit"].demand(MINIMAL["image_edit"] | stated)
    assert (demand.choices, demand.units) == (images, {Unit.IMAGE: Decimal(images)})


@pytest.mark.parametrize("wrong", ["0", "-1", "33", "", " 3", "3.0", "\u0663", "9" * 5000, "three"])
def test_images_of_a_form_must_be_a_number_in_range(wrong: str) -> None:
    with pytest.raises(BadInput) as refusal:
        PRICED["image_edit"].demand({"n": wrong})
    assert refusal.value.param == "n"


@pytest.mark.parametrize(
    ("name", "body", "units"),
    [
        ("image_generation", {"prompt": "a cat", "n": 4}, {Unit.IMAGE: 4}),
        ("speech", {"input": "gr\u00fc\u00df \U0001f600"}, {Unit.CHARACTER: 6}),
        ("rerank", {"query": "q", "documents": ["a"] * 100}, {Unit.QUERY: 1}),
        ("rerank", {"query": "q", "documents": ["a"] * 101}, {Unit.QUERY: 2}),
        ("rerank", {"query": "q", "documents": ["a" * 499 * 100]}, {Unit.QUERY: 2}),
        ("rerank", {"query": "q" * 10_000, "documents": ["a" * 200] * 100}, {Unit.QUERY: 1}),
        ("ocr", {"pages": [0, 1, 1, 5]}, {Unit.PAGE: 3}),
        ("ocr", {"pages": []}, {Unit.PAGE: 1000}),
        ("ocr", {}, {Unit.PAGE: 1000}),
        ("moderation", {"input": ["a", "b"]}, {}),
        ("pass_through", {"anything": 5}, {}),
        ("transcription", {"file": {"bytes": 7500, "seconds": None, "bytes_a_second": None}}, {Unit.SECOND: 11}),
        (
            "transcription",
            {"file": {"bytes": 7500, "seconds": Decimal("2.5"), "bytes_a_second": None}},
            {Unit.SECOND: 11},
        ),
        ("transcription", {"file": {"bytes": 7500, "seconds": Decimal(0), "bytes_a_second": 3000}}, {Unit.SECOND: 4}),
        ("transcription", {"file": {"bytes": 7500, "seconds": None, "bytes_a_second": 3000}}, {Unit.SECOND: 4}),
    ],
)
def test_units_of_a_request(name: str, body: Body, units: dict[Unit, int]) -> None:
    assert PRICED[name].demand(body).units == units


def test_a_transcription_that_states_no_length_is_estimated_by_its_file() -> None:
    known = {"file": {"bytes": 7500, "seconds": Decimal("2.5"), "bytes_a_second": None}}
    unknown = {"file": {"bytes": 7500, "seconds": None, "bytes_a_second": None}}
    assert PRICED["transcription"].estimated(known) == {Unit.SECOND: Decimal("2.5")}
    assert PRICED["transcription"].estimated(unknown) == {Unit.SECOND: 11}


def wav(seconds: float) -> bytes:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(2 * int(8000 * seconds)))
    return sound.getvalue()


def test_the_length_of_a_sound() -> None:
    assert seconds_of(wav(1.5)) == Decimal("1.5")
    assert seconds_of(wav(0)) == 0
    assert seconds_of(b"") is None
    assert seconds_of(b"RIFF but no sound") is None


# Malformed requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body", "param"),
    [
        *(
            (name, body, param)
            for name in ("chat", "messages")
            for body, param in [
                ({}, "messages"),
                ({"messages": None}, "messages"),
                ({"messages": []}, "messages"),
                ({"messages": "hi"}, "messages"),
                ({"messages": {}}, "messages"),
                ({"messages": ["hi"]}, "messages[0]"),
                ({"messages": [{"role": "user", "content": "hi"}, None]}, "messages[1]"),
            ]
        ),
        ("completions", {}, "prompt"),
        ("completions", {"prompt": 5}, "prompt"),
        ("completions", {"prompt": []}, "prompt"),
        ("completions", {"prompt": [[]]}, "prompt"),
        ("completions", {"prompt": [1, "a"]}, "prompt"),
        ("completions", {"prompt": [True]}, "prompt"),
        ("completions", {"prompt": ["a", {}]}, "prompt"),
        ("embeddings", {}, "input"),
        ("embeddings", {"input": []}, "input"),
        ("embeddings", {"input": 5}, "input"),
        ("embeddings", {"input": {}}, "input"),
        ("responses", {}, "input"),
        ("responses", {"input": []}, "input"),
        ("responses", {"input": 5}, "input"),
        ("responses", {"input": ["hi"]}, "input[0]"),
        ("generate_content", {}, "contents"),
        ("generate_content", {"contents": "hi"}, "contents"),
        ("generate_content", {"contents": ["hi"]}, "contents[0]"),
        ("generate_content", asked(generationConfig=5), "generationConfig"),
        ("generate_content", asked(generationConfig=[]), "generationConfig"),
        ("speech", {}, "input"),
        ("speech", {"input": ""}, "input"),
        ("speech", {"input": ["hi"]}, "input"),
        ("transcription", {}, "file"),
        ("transcription", {"file": None}, "file"),
        ("moderation", {}, "input"),
        ("moderation", {"input": []}, "input"),
        ("rerank", {"query": "q"}, "documents"),
        ("rerank", {"query": "q", "documents": []}, "documents"),
        ("rerank", {"query": "q", "documents": "a"}, "documents"),
        ("ocr", {"pages": "1-3"}, "pages"),
        ("ocr", {"pages": [-1]}, "pages"),
        ("ocr", {"pages": [1, "2"]}, "pages"),
        ("ocr", {"pages": [1.5]}, "pages"),
    ],
)
def test_a_malformed_request_is_told_which_field(name: str, body: Body, param: str) -> None:
    with pytest.raises(BadInput, match=f"'{param}".replace("[", r"\[")) as refusal:
        PRICED[name].demand(body)
    assert refusal.value.param == param


def test_what_json_cannot_carry_is_refused() -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    for name, field in (("chat", "response_format"), ("messages", "system"), ("responses", "text")):
        with pytest.raises(BadInput, match="JSON cannot carry"):
            PRICED[name].demand(MINIMAL[name] | {field: deep})


# Refused parameters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body", "param"),
    [
        ("chat", {"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ("chat", {"best_of": 5}, "best_of"),
        ("chat", {"tools": [FUNCTION, {"type": "web_search"}]}, "tools[1]"),
        ("chat", {"tools": [{"type": "mcp", "server_url": "https://x"}]}, "tools[0]"),
        ("chat", {"tools": [{"googleSearch": {}}]}, "tools[0]"),
        ("chat", {"tools": [{}]}, "tools[0]"),
        ("chat", said([{"type": "file", "file": {"file_id": "file-1"}}]), "messages.content.file.file_id"),
        ("responses", {"background": True}, "background"),
        ("responses", {"conversation": "conv_1"}, "conversation"),
        ("responses", {"prompt": {"id": "pmpt_1"}}, "prompt"),
        ("responses", {"context_management": [{"type": "compaction"}]}, "context_management"),
        ("responses", {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "tools[0]"),
        ("responses", {"tools": [{"type": "code_interpreter"}]}, "tools[0]"),
        ("responses", {"tools": [{"type": "image_generation"}]}, "tools[0]"),
        ("responses", {"tools": [{"name": "no type"}]}, "tools[0]"),
        ("responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ("responses", {"input": [{"content": [{"type": "input_file", "file_id": "f"}]}]}, "input.content.file_id"),
        ("messages", {"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ("messages", {"container": "c_1"}, "container"),
        ("messages", {"speed": "fast"}, "speed"),
        ("messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ("messages", {"tools": [{"type": "code_execution_20250522"}]}, "tools[0]"),
        (
            "messages",
            said([{"type": "document", "source": {"type": "file", "file_id": "f"}}]),
            "messages.content.source.file_id",
        ),
        ("generate_content", {"config": {"max_output_tokens": 5}}, "config"),
        ("generate_content", {"cachedContent": "cachedContents/1"}, "cachedContent"),
        ("generate_content", {"cached_content": "cachedContents/1"}, "cached_content"),
        ("generate_content", {"tools": [{"google_search": {}}]}, "tools[0]"),
        ("generate_content", {"tools": [{"functionDeclarations": [], "urlContext": {}}]}, "tools[0]"),
        ("image_generation", {"stream": True}, "stream"),
        ("image_generation", {"partial_images": 2}, "partial_images"),
        ("image_edit", {"stream": "true"}, "stream"),
        ("image_edit", {"images": [{"file_id": "f"}]}, "image.images.file_id"),
        ("speech", {"stream_format": "sse"}, "stream_format"),
        ("transcription", {"stream": "true"}, "stream"),
        ("transcription", {"stream": True}, "stream"),
        ("ocr", {"document": {"type": "file", "file_id": "f"}}, "document.file_id"),
    ],
)
def test_what_could_not_be_metered_or_is_shared_by_all_teams_is_refused(name: str, body: Body, param: str) -> None:
    with pytest.raises(ParameterNotAllowed) as refusal:
        PRICED[name].refuse(MINIMAL[name] | body)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("chat", {"tools": [FUNCTION, {"type": "custom"}, {"function": {"name": "f"}}], "web_search_options": None}),
        ("chat", {"tools": None}),
        ("chat", {"tools": []}),
        ("chat", said([{"type": "file", "file": {"file_data": "x", "file_id": None}}])),
        ("responses", {"tools": [{"type": "function", "name": "f"}, {"type": "custom"}], "background": False}),
        ("responses", {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}),
        (
            "messages",
            {"tools": [{"name": "f"}, {"type": "custom"}, {"type": "bash_20250124"}, {"type": "memory_20250818"}]},
        ),
        ("generate_content", {"tools": [{"functionDeclarations": []}, {"function_declarations": []}]}),
        ("image_generation", {"stream": False, "n": 2}),
        ("speech", {"stream_format": "audio"}),
        ("transcription", {"stream": "false"}),
        ("transcription", {"stream": False}),
        ("ocr", {"document": {"type": "document_url", "file_id": None}}),
        ("pass_through", {"tools": [{"type": "web_search"}], "file_id": "x"}),
    ],
)
def test_what_runs_at_the_client_is_not_refused(name: str, body: Body) -> None:
    PRICED[name].refuse(MINIMAL[name] | body)


@pytest.mark.parametrize("name", ["chat", "responses", "messages", "generate_content"])
@pytest.mark.parametrize(("tools", "param"), [("x", "tools"), ({}, "tools"), (5, "tools"), ([FUNCTION, 5], "tools[1]")])
def test_malformed_tools_are_told_which(name: str, tools: object, param: str) -> None:
    given = [{"functionDeclarations": []}, 5] if isinstance(tools, list) and name == "generate_content" else tools
    with pytest.raises(BadInput) as refusal:
        PRICED[name].refuse(MINIMAL[name] | {"tools": given})
    assert refusal.value.param == param


# Limiting the output --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("chat", {}, {"max_tokens": 5}),
        ("chat", {"max_tokens": 9}, {"max_tokens": 5}),
        ("chat", {"max_completion_tokens": 9}, {"max_completion_tokens": 5}),
        (
            "chat",
            {"max_completion_tokens": 9, "max_tokens": 8},
            {"max_completion_tokens": 5, "max_tokens": 5},
        ),
        ("chat", {"max_completion_tokens": None}, {"max_completion_tokens": None, "max_tokens": 5}),
        ("completions", {"max_tokens": 9}, {"max_tokens": 5}),
        ("responses", {}, {"max_output_tokens": 5}),
        ("messages", {"max_tokens": 9}, {"max_tokens": 5}),
        ("generate_content", {}, {"generationConfig": {"maxOutputTokens": 5}}),
        (
            "generate_content",
            {"generationConfig": {"max_output_tokens": 9, "temperature": 1}},
            {"generationConfig": {"maxOutputTokens": 5, "temperature": 1}},
        ),
        ("generate_content", {"generationConfig": None}, {"generationConfig": {"maxOutputTokens": 5}}),
    ],
)
def test_limit_output(name: str, before: Body, after: Body) -> None:
    PRICED[name].limit_output(before, 5)
    assert before == after


def test_limit_output_leaves_the_objects_of_the_client_alone() -> None:
    config = {"maxOutputTokens": 9}
    PRICED["generate_content"].limit_output({"generationConfig": config}, 5)
    assert config == {"maxOutputTokens": 9}, "what is recorded is what the client sent"


# Whole answers --------------------------------------------------------------------------------------------------------

OPENAI = {"prompt_tokens": 15, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 4}}
CALLED = {"id": "c", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
ANSWERS: list[tuple[str, Body, Usage | None, list[str]]] = [
    (
        "chat",
        {
            "choices": [
                {"message": {"content": "hi", "reasoning_content": "hm", "tool_calls": [CALLED]}},
                {"message": {"content": None, "refusal": "no", "tool_calls": None}},
            ],
            "usage": OPENAI,
        },
        Usage(15, 8, cached=4),
        ["hi", "hm", "weather", '{"city": "Bern"}', "no"],
    ),
    ("chat", {"choices": [{"message": {"content": ""}}], "usage": None}, None, []),
    ("chat", {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}, Usage(0, 0), []),
    (
        "completions",
        {"choices": [{"text": "a"}, {"text": ""}, {"text": "b"}], "usage": OPENAI},
        Usage(15, 8, 4),
        ["a", "b"],
    ),
    (
        "embeddings",
        {"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 7, "completion_tokens": 0}},
        Usage(7, 0),
        [],
    ),
    ("embeddings", {"data": [{}], "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}, None, []),
    (
        "responses",
        {
            "output": [
                {"type": "reasoning", "content": None, "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "message", "content": [{"text": "hi"}, {"refusal": "no"}], "summary": None},
                {"type": "function_call", "name": "weather", "arguments": "{}", "content": None, "summary": None},
            ],
            "usage": {"input_tokens": 100, "output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 5}},
        },
        Usage(100, 20, reasoning=5),
        ["hm", "hi", "no", "{}", "weather"],
    ),
    ("responses", {"output": [], "usage": None}, None, []),
    (
        "messages",
        {
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "text", "text": "hi"},
                {"type": "tool_use", "name": "weather"},
            ],
            "usage": {"input_tokens": 40, "cache_read_input_tokens": 50, "output_tokens": 20},
        },
        Usage(90, 20, cached=50),
        ["hm", "hi", "weather"],
    ),
    ("messages", {"content": [], "usage": {}}, None, []),
    (
        "generate_content",
        {
            "candidates": [{"content": {"parts": [{"text": "hi"}, {"text": " there"}]}}, {"content": None}],
            "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 15, "thoughtsTokenCount": 5},
        },
        Usage(100, 20, reasoning=5),
        ["hi", " there"],
    ),
    ("generate_content", {"candidates": None}, None, []),
    (
        "rerank",
        {"results": [{"index": 0}], "meta": {"billed_units": {"search_units": 1}}},
        Usage(units={Unit.QUERY: Decimal(1)}),
        [],
    ),
    ("rerank", {"results": [{}], "meta": {"tokens": {"input_tokens": 7}}}, Usage(7, 0), []),
    (
        "rerank",
        {
            "results": [{}],
            "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 7, "output_tokens": 1}},
        },
        Usage(7, 1, units={Unit.QUERY: ONE}),
        [],
    ),
    ("rerank", {"results": [{}], "meta": None}, None, []),
    ("rerank", {"results": [{}], "meta": {"billed_units": {"search_units": True}}}, None, []),
    ("rerank", {"results": [{}], "meta": {"billed_units": {"search_units": -1}}}, None, []),
    ("image_generation", {"data": [{"url": "x"}] * 3, "usage": None}, Usage(units={Unit.IMAGE: Decimal(3)}), []),
    (
        "image_generation",
        {"data": [{}], "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}},
        Usage(units={Unit.IMAGE: ONE}),
        [],
    ),
    (
        "image_edit",
        {"data": [{}], "usage": {"input_tokens": 50, "output_tokens": 4160, "total_tokens": 4210}},
        Usage(50, 4160, units={Unit.IMAGE: ONE}),
        [],
    ),
    ("image_edit", {"data": None}, None, []),
    (
        "transcription",
        {"text": "hi", "usage": {"type": "duration", "seconds": 3}},
        Usage(units={Unit.SECOND: Decimal(3)}),
        ["hi"],
    ),
    ("transcription", {"text": "", "duration": 2.0401}, Usage(units={Unit.SECOND: Decimal("2.041")}), []),
    ("transcription", {"text": "hi", "duration": "2.5"}, Usage(units={Unit.SECOND: Decimal("2.5")}), ["hi"]),
    (
        "transcription",
        {"text": "hi", "usage": {"type": "tokens", "input_tokens": 100, "output_tokens": 20}},
        Usage(100, 20),
        ["hi"],
    ),
    ("transcription", {"text": "hi"}, None, ["hi"]),
    *(
        ("transcription", {"text": "hi", "duration": wrong}, None, ["hi"])
        for wrong in (-1, True, "NaN", float("nan"), float("inf"), "soon", 10**6, [3])
    ),
    ("ocr", {"pages": [{}, {}], "usage_info": {"pages_processed": 2}}, Usage(units={Unit.PAGE: Decimal(2)}), []),
    ("ocr", {"pages": [{}, {}, {}], "usage_info": None}, Usage(units={Unit.PAGE: Decimal(3)}), []),
    ("ocr", {"pages": [{}], "usage_info": {"pages_processed": 1001}}, Usage(units={Unit.PAGE: ONE}), []),
    ("ocr", {"pages": [{}], "usage_info": {"pages_processed": True}}, Usage(units={Unit.PAGE: ONE}), []),
    ("ocr", {"pages": None, "usage_info": None}, None, []),
    ("moderation", {"results": [{"flagged": False}]}, None, []),
    ("pass_through", {"found": 3}, None, []),
]


@pytest.mark.parametrize(("name", "answer", "usage", "text"), ANSWERS)
def test_what_an_answer_says(name: str, answer: Body, usage: Usage | None, text: list[str]) -> None:
    endpoint = PRICED[name]
    expected = None if usage is None else usage.with_units({**usage.units, Unit.REQUEST: ONE})
    for one in (answer, as_object(answer)):
        assert endpoint.usage_of(MINIMAL[name], one) == expected
        assert endpoint.text(one) == text


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("messages", {"content": [{"type": "tool_use", "name": "f", "input": {"city": "Bern"}}]}),
        (
            "generate_content",
            {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {"city": "Bern"}}}]}}]},
        ),
    ],
)
def test_a_tool_call_in_json_is_output(name: str, answer: Body) -> None:
    assert '{"city":"Bern"}' in "".join(PRICED[name].text(answer))
    assert PRICED[name].has_output(answer)


def test_speech_is_counted_by_its_request() -> None:
    speech, body = PRICED["speech"], {"input": "gr\u00fc\u00df"}
    assert speech.usage_of(body, b"sound") == Usage(units={Unit.CHARACTER: Decimal(4), Unit.REQUEST: ONE})
    assert speech.has_output(b"sound")
    assert not speech.has_output(None)


@pytest.mark.parametrize(
    ("name", "full", "empty"),
    [
        ("chat", {"choices": [{"message": {"content": "hi"}}]}, {"choices": [{"message": {"content": None}}]}),
        ("embeddings", {"data": [{}]}, {"data": []}),
        ("rerank", {"results": [{}]}, {"results": []}),
        ("image_generation", {"data": [{}]}, {"data": []}),
        ("ocr", {"pages": [{}]}, {"pages": []}),
        ("transcription", {"text": ""}, None),
    ],
)
def test_has_output(name: str, full: Body, empty: Body | None) -> None:
    assert PRICED[name].has_output(full)
    assert not PRICED[name].has_output(empty)


@pytest.mark.parametrize("nothing", [None, {}, [], "", 5, b"", object()])
@pytest.mark.parametrize("name", [name for name in PRICED if name != "speech"])
def test_an_answer_that_is_none_says_nothing(name: str, nothing: object) -> None:
    assert PRICED[name].usage_of(MINIMAL[name], nothing) is None
    assert PRICED[name].text(nothing) == []


# Streams --------------------------------------------------------------------------------------------------------------


def chunk(delta: Body | None = None, *, finish: str | None = None, usage: Body | None = None, **more: Any) -> Any:
    """A chunk of a chat, as LiteLLM's objects are: `usage` is missing where the provider sent none."""
    choices = (
        [] if delta is None else [{"delta": {"content": None, "tool_calls": None} | delta, "finish_reason": finish}]
    )
    made = as_object({"id": "chatcmpl-1", "model": "gpt", "choices": choices} | more)
    if usage is not None:
        made.usage = as_object(usage)
    return made


def fed(reader: Reader, *chunks: Any) -> list[tuple[bool, bool]]:
    """After each chunk: whether it was only usage, and whether it closes the stream."""
    states = []
    for one in chunks:
        reader.feed(one)
        states.append((reader.only_usage, reader.closing))
    return states


def test_a_stream_of_chat() -> None:
    reader = PRICED["chat"].reader()
    states = fed(
        reader,
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "hi"}),
        chunk({"reasoning_content": "hm"}),
        chunk({"tool_calls": [CALLED]}),
        chunk({}, finish="stop"),
        chunk(usage=OPENAI),
    )
    assert states == [(False, False)] * 5 + [(True, False)]
    assert reader.text == ["hi", "hm", "weather", '{"city": "Bern"}']
    assert Usage.parse(reader.stated) == Usage(15, 8, cached=4)
    assert (reader.model, reader.id) == ("gpt", "chatcmpl-1")


def test_usage_beside_text_or_an_end_is_no_chunk_of_usage_alone() -> None:
    reader = PRICED["chat"].reader()
    first, last = OPENAI | {"completion_tokens": 1}, OPENAI
    states = fed(
        reader,
        chunk({"content": "hi"}, usage=first),
        chunk({"content": None}, usage=first),
        chunk({}, finish="stop", usage=last),
        chunk({"content": None}),
    )
    assert [only for only, _ in states] == [False, True, False, False]
    assert Usage.parse(reader.stated) == Usage(15, 8, cached=4), "the last word counts"


def test_a_stream_of_completions() -> None:
    def part(text: str, finish: str | None = None, usage: Body | None = None) -> Any:
        choice = {"text": text, "finish_reason": finish}
        return as_object({"id": "cmpl-1", "model": "gpt", "choices": [choice], "usage": usage})

    reader = PRICED["completions"].reader()
    states = fed(reader, part("hi"), part(" there"), part("", "stop"), part("", None, OPENAI))
    assert [only for only, _ in states] == [False, False, False, True]
    assert reader.text == ["hi", " there"]
    assert Usage.parse(reader.stated) == Usage(15, 8, cached=4)


@pytest.mark.parametrize("end", ["completed", "incomplete", "failed"])
@pytest.mark.parametrize("shape", [dict, as_object])
def test_a_stream_of_responses(end: str, shape: Any) -> None:
    reader = PRICED["responses"].reader()
    kind: Any = f"response.{end}" if shape is dict else SimpleNamespace(value=f"response.{end}")  # an enum of LiteLLM's
    usage = {"input_tokens": 100, "output_tokens": 20}
    events = [
        shape({"type": "response.created", "response": {"model": "gpt", "usage": None}}),
        *(shape({"type": "response.output_text.delta", "delta": word}) for word in WORDS),
        shape({"type": "response.function_call_arguments.delta", "delta": "{}"}),
        shape({"type": "response.output_text.done", "text": "".join(WORDS)}),
        shape({"type": kind, "response": {"model": "gpt", "usage": usage}}),
    ]
    assert [closing for _, closing in fed(reader, *events)] == [False] * 7 + [True]
    assert reader.text == [*WORDS, "{}"], "what is said again when it is done counts once"
    assert Usage.parse(reader.stated) == Usage(100, 20)
    assert reader.model == "gpt"


def named(*events: tuple[str, Body]) -> bytes:
    return b"".join(f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode() for kind, data in events)


def delta(kind: str, field: str, text: str) -> tuple[str, Body]:
    return "content_block_delta", {"index": 0, "delta": {"type": kind, field: text}}


ANTHROPIC_START = {
    "message": {
        "model": "claude",
        "usage": {
            "input_tokens": 40,
            "cache_read_input_tokens": 50,
            "cache_creation_input_tokens": 10,
            "output_tokens": 1,
        },
    }
}
ANTHROPIC_STREAM = named(
    ("message_start", ANTHROPIC_START),
    ("ping", {}),
    ("content_block_start", {"index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
    delta("thinking_delta", "thinking", "hm"),
    ("content_block_start", {"index": 1, "content_block": {"type": "text", "text": ""}}),
    delta("text_delta", "text", "Gr\u00fc\u00dfe"),
    ("content_block_start", {"index": 2, "content_block": {"type": "tool_use", "name": "weather", "input": {}}}),
    delta("input_json_delta", "partial_json", '{"city"'),
    delta("input_json_delta", "partial_json", ':"Bern"}'),
    ("content_block_stop", {"index": 2}),
    ("message_delta", {"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}}),
    ("message_stop", {}),
)


def test_a_stream_of_messages() -> None:
    reader = PRICED["messages"].reader()
    events = ANTHROPIC_STREAM.split(b"\n\n")[:-1]
    states = fed(reader, *(event + b"\n\n" for event in events))
    assert [closing for _, closing in states] == [False] * (len(events) - 1) + [True]
    assert reader.text == ["hm", "Gr\u00fc\u00dfe", "weather", '{"city"', ':"Bern"}']
    assert Usage.parse(reader.stated) == Usage(100, 20, cached=50, cache_write=10)
    assert reader.model == "claude"


def test_a_stream_of_messages_that_breaks_off_has_no_usage() -> None:
    """`message_start` says that 1 token was written, before any was."""
    reader = PRICED["messages"].reader()
    reader.feed(named(("message_start", ANTHROPIC_START), delta("text_delta", "text", "hi")))
    assert reader.stated is None
    assert reader.text == ["hi"]


def test_a_stream_of_messages_without_usage() -> None:
    reader = PRICED["messages"].reader()
    reader.feed(named(("message_start", {"message": {"model": "claude"}}), ("message_delta", {}), ("message_stop", {})))
    assert not reader.stated
    assert reader.closing


def test_a_stream_of_messages_in_objects() -> None:
    reader = PRICED["messages"].reader()
    fed(reader, {"type": "message_start", **ANTHROPIC_START}, {"type": "message_delta", "usage": {"output_tokens": 3}})
    assert Usage.parse(reader.stated) == Usage(100, 3, cached=50, cache_write=10)


def test_a_stream_of_gemini() -> None:
    def part(text: str, written: int) -> bytes:
        event = {
            "candidates": [{"content": {"parts": [{"text": text}]}}],
            "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": written},
            "modelVersion": "gemini",
        }
        return b"data: " + json.dumps(event).encode() + b"\r\n\r\n"

    reader = PRICED["generate_content"].reader()
    states = fed(reader, *(part(word, number) for number, word in enumerate(WORDS, 1)))
    assert set(states) == {(False, False)}
    assert reader.text == WORDS
    assert Usage.parse(reader.stated) == Usage(100, 4)
    assert reader.model == "gemini"


@pytest.mark.parametrize("name", [name for name, one in PRICED.items() if type(one.reader()) is Reader])
def test_a_stream_that_nobody_can_read_says_nothing(name: str) -> None:
    reader = PRICED[name].reader()
    assert fed(reader, b"sound" * 1000, "text") == [(False, False)] * 2
    assert (reader.text, reader.stated) == ([], None)


# Server-sent events ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "events"),
    [
        ([b'data: {"a": 1}\n\n'], [{"a": 1}]),
        ([b'data:{"a": 1}\r\n\r\n'], [{"a": 1}]),
        (['data: {"a": 1}\n\n'], [{"a": 1}]),
        ([b'data: {"a"', b': "\xc3', b'\xb6"', b"}", b"\n"], [{"a": "\u00f6"}]),
        ([b'event: x\nid: 5\n: hello\ndata: {"a": 1}\n\ndata: {"b": 2}\n\n'], [{"a": 1}, {"b": 2}]),
        ([b"data: [DONE]\n\n", b"data: [1, 2]\n\n", b"data: 5\n\n"], []),
        ([b"data: {broken\n\n", b'data: {"a": 1}\n\n'], [{"a": 1}]),
        ([b"data: \xff\xfe{}\n\n", b'data: {"a": 1}\n\n'], [{"a": 1}]),
        ([{"a": 1}, None, 5, object()], [{"a": 1}]),
        ([b'data: {"a": 1}'], []),
        ([b"", b"\n", b"data:\n"], []),
    ],
)
def test_events(chunks: list[object], events: list[Body]) -> None:
    stream = Events()
    assert [event for one in chunks for event in stream.feed(one)] == events


def test_numbers_of_events_are_exact() -> None:
    assert Events().feed(b'data: {"cost": 0.1}\n') == [{"cost": Decimal("0.1")}]


# To be added to tests/unit/test_endpoints.py when the code is mended --------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("generate_content", asked({"functionResponse": {"name": "f", "parts": [{"fileData": {"fileUri": "x"}}]}})),
        ("generate_content", {"contents": [{"role": "user", "parts": {"fileData": {"fileUri": "x"}}}]}),
        ("generate_content", asked(systemInstruction={"parts": {"fileData": {"fileUri": "x"}}})),
        ("generate_content", asked(systemInstruction={}, system_instruction={"parts": [{"fileData": {}}]})),
    ],
)
def test_media_in_any_place_can_fill_the_context_window(name: str, body: Body) -> None:
    assert PRICED[name].demand(body).prompt is None


def test_a_text_of_messages_is_bounded_by_its_bytes() -> None:
    """Bounded by nine times its bytes: 8 tokens are added for each character."""
    short, long = (PRICED["messages"].demand(said("x" * size)).prompt for size in (1, 1001))
    assert short is not None
    assert long is not None
    assert long - short == 1000


def test_an_item_with_an_id_alone_is_a_reference_to_what_is_stored() -> None:
    with pytest.raises(ParameterNotAllowed):
        PRICED["responses"].refuse({"input": [{"id": "msg_1"}]})


def test_a_limit_that_litellm_does_not_read_is_none() -> None:
    """LiteLLM 1.106 reads `generationConfig` only, and sends none of `generation_config` on."""
    body = asked(generation_config={"max_output_tokens": 1})
    try:
        PRICED["generate_content"].refuse(body)
    except ParameterNotAllowed:
        return
    assert PRICED["generate_content"].demand(body).per_choice is None


def test_both_configs_are_limited() -> None:
    body = asked(generationConfig={"maxOutputTokens": 9}, generation_config={"max_output_tokens": 1000})
    PRICED["generate_content"].limit_output(body, 5)
    assert PRICED["generate_content"].demand(body).per_choice == 5


def test_prompts_in_lists_in_lists_are_refused_however_deep() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    with pytest.raises(BadInput):
        PRICED["completions"].demand({"prompt": deep})


def test_a_call_of_a_function_of_the_old_kind_is_output() -> None:
    message = {"content": None, "function_call": {"name": "weather", "arguments": "{}"}}
    assert PRICED["chat"].has_output({"choices": [{"message": message}]})


@pytest.mark.parametrize("size", [0, 100])
def test_a_wav_is_as_long_as_its_bytes_say_not_its_header(size: int) -> None:
    sound = bytearray(wav(1.5))
    sound[40:44] = size.to_bytes(4, "little")
    assert seconds_of(bytes(sound)) == Decimal("1.5")


@pytest.mark.parametrize("name", ["messages", "generate_content"])
def test_a_stream_with_what_json_cannot_carry_does_not_fail(name: str) -> None:
    call = '{"candidates": [{"content": {"parts": [{"functionCall": {"name": "\\\\ud800"}}]}}]}'.replace("\\\\", "\\")
    PRICED[name].reader().feed(f"data: {call}\n\n".encode())


@pytest.mark.parametrize("name", ["messages", "generate_content", "responses", "completions"])
def test_an_answer_in_no_shape_at_all_has_no_text(name: str) -> None:
    for wrong in (5, True):
        answer = {"content": wrong, "candidates": wrong, "output": wrong, "choices": wrong}
        assert PRICED[name].text(answer) == []


def test_a_form_may_say_that_it_does_not_stream() -> None:
    PRICED["image_edit"].refuse({"stream": "false"})


def test_documents_are_counted_as_they_are_sent() -> None:
    body = {"query": "q", "documents": [{"text": "\U0010ffff" * 100}]}
    assert "\U0010ffff" * 100 in PRICED["rerank"].countable(body)["text"]
