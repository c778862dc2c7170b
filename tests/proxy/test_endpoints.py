"""Every priced endpoint through the real proxy: hold before dispatch, exact charge, error, hang-up, streamed and not."""

import io
import json
import re
import socket
import wave
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import anthropic
import httpx
import openai
import pytest

from .conftest import OPENED, VENDOR_BEHAVIOURS
from .gateway import PRICE, Gateway, Team, credits_for, wait_until

CACHED = {"cache_read": 0.0001, "cache_write": 0.0007, "reasoning": 0.003}
"""Rates of the aliases of the token endpoints, USD per 1,000 tokens, beside those of `PRICE`."""

UNITS = {"image": 0.04, "second": 0.0001, "character": 0.00002, "query": 0.002, "page": 0.004, "request": 0.001}


def sound(seconds: float) -> bytes:
    """A WAV of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(b"\0\0" * int(8000 * seconds))
    return file.getvalue()


@dataclass(frozen=True)
class Case:
    """One endpoint, in one of its two forms. `model` is the alias, less the behaviour at its end."""

    path: str
    body: Callable[[str], dict[str, Any]]
    charge: Decimal
    """Credits of an answer of the behaviour ok."""
    basis: str = "provider_usage"
    model: str = "full"
    stream: bool = False
    files: dict[str, Any] = field(default_factory=dict)
    without_usage: str = "counted_output"
    """The basis of an answer in which the provider states no usage."""


def dollars(amount: str) -> Decimal:
    """Credits for so many US dollars on the default plan, and the price of one request beside them."""
    return (Decimal(amount) + Decimal("0.001")) * 10


def tokens(*parts: tuple[int, str]) -> Decimal:
    """Credits for tokens at rates in USD per 1,000, and the price of one request."""
    return dollars(str(sum(Decimal(count) * Decimal(rate) for count, rate in parts) / 1000))


PLAIN = tokens((100, "0.0005"), (20, "0.0015"))
RESPONSES = tokens((60, "0.0005"), (40, "0.0001"), (15, "0.0015"), (5, "0.003"))
MESSAGES = tokens((40, "0.0005"), (50, "0.0001"), (10, "0.0007"), (20, "0.0015"))
GEMINI = tokens((60, "0.0005"), (40, "0.0001"), (15, "0.0015"), (5, "0.003"))


def chat(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 50}


def contents(text: str) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": {"maxOutputTokens": 50}}


def streamed(body: Callable[[str], dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    return lambda text: body(text) | {"stream": True}


def prompt(text: str) -> dict[str, Any]:
    return {"prompt": text, "max_tokens": 50}


def given(text: str) -> dict[str, Any]:
    return {"input": text, "max_output_tokens": 50}


CASES = {
    "completions": Case("/v1/completions", prompt, PLAIN, model="instruct"),
    "completions-stream": Case(
        "/v1/completions",
        streamed(prompt),
        PLAIN,
        model="instruct",
        stream=True,
        without_usage="provider_usage",  # as for responses
    ),
    "embeddings": Case("/v1/embeddings", lambda text: {"input": text}, tokens((7, "0.0005"))),
    "responses": Case("/v1/responses", given, RESPONSES),
    "responses-stream": Case(
        "/v1/responses",
        streamed(given),
        RESPONSES,
        stream=True,
        without_usage="provider_usage",  # LiteLLM fills in its own count, and does not say so
    ),
    "messages": Case("/v1/messages", chat, MESSAGES, model="claude"),
    "messages-stream": Case("/v1/messages", streamed(chat), MESSAGES, model="claude", stream=True),
    "gemini": Case("/v1beta/models/{model}:generateContent", contents, GEMINI, model="gemini"),
    "gemini-stream": Case(
        "/v1beta/models/{model}:streamGenerateContent?alt=sse", contents, GEMINI, model="gemini", stream=True
    ),
    "images": Case(
        "/v1/images/generations",
        lambda text: {"prompt": text, "n": 2},
        dollars("0.08"),
        model="unit",
        without_usage="provider_usage",
    ),
    "image-edits": Case(
        "/v1/images/edits",
        lambda text: {"prompt": text, "n": "3"},
        dollars("0.12"),
        model="unit",
        files={"image": ("a.png", b"\x89PNG", "image/png")},
        without_usage="provider_usage",
    ),
    "speech": Case(
        "/v1/audio/speech",
        lambda text: {"input": text, "voice": "alloy"},
        dollars(str(37 * Decimal("0.00002"))),
        "request_units",
        model="unit",
        without_usage="request_units",
    ),
    "transcriptions": Case(
        "/v1/audio/transcriptions",
        lambda text: {"prompt": text},
        dollars("0.0003"),
        model="unit",
        files={"file": ("a.wav", sound(2.5), "audio/wav")},
    ),
    "moderations": Case(
        "/v1/moderations",
        lambda text: {"input": text},
        dollars("0"),
        "request_units",
        "unit",
        without_usage="request_units",
    ),
    "rerank": Case(
        "/v1/rerank",
        lambda text: {"query": text, "documents": ["a", "b"]},
        dollars("0.002"),
        model="rerank",
    ),
    "ocr": Case(
        "/v1/ocr",
        lambda text: {
            "document": {"type": "document_url", "document_url": f"https://x.test/{text}"},
            "pages": [0, 1, 2],
        },
        dollars("0.008"),
        model="ocr",
        without_usage="provider_usage",
    ),
}
STREAMS = {name: case for name, case in CASES.items() if case.stream}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
EACH_STREAM = pytest.mark.parametrize("case", STREAMS.values(), ids=STREAMS.keys())


@pytest.fixture(scope="session")
def priced(gateway: Gateway) -> str:
    """An access group with an alias for each vendor and behaviour, priced for tokens or for units; its name."""
    group, aliases = "endpoints", []
    tokens = {name: float(price) for name, price in PRICE.items()}
    for vendor in ("full", "unit", "instruct", "claude", "gemini", "rerank", "ocr"):
        for behaviour in VENDOR_BEHAVIOURS:
            by_units = vendor in ("unit", "rerank", "ocr")
            price = (
                {"pricing_rates": UNITS}
                if by_units
                else tokens | {"pricing_rates": CACHED | {"request": UNITS["request"]}}
            )
            deployment = behaviour if vendor in ("full", "unit") else f"{vendor}-{behaviour}"
            alias = f"{vendor}:{behaviour}"
            body = {"model_alias": alias, "provider": vendor, "actual_model": deployment}
            gateway.create("/api/models/aliases/create", body | price)
            aliases.append(alias)
    for path in OPENED:
        gateway.create(
            "/api/models/aliases/create", {"model_alias": path, "provider": "pass-through", "actual_model": path}
        )
        aliases.append(path)
    gateway.create("/api/model-access-groups/create", {"group_name": group, "model_aliases": aliases})
    return group


@pytest.fixture
def buyer(gateway: Gateway, priced: str) -> Team:
    """A team with 100 credits that may call every vendor."""
    return gateway.team(groups=[priced])


@dataclass
class Sent:
    """A request of a case."""

    team: Team
    case: Case
    behaviour: str
    text: str = field(default_factory=lambda: f"gate-{uuid4().hex}")

    def options(self) -> dict[str, Any]:
        model = f"{self.case.model}:{self.behaviour}"
        path = self.case.path.format(model=model)
        body = self.case.body(self.text) | ({"model": model} if path == self.case.path else {})
        if self.case.files:
            return {"method": "POST", "url": path, "data": body, "files": self.case.files}
        return {"method": "POST", "url": path, "json": body}

    def __call__(self) -> httpx.Response:
        with self.team.http() as http:
            return http.request(**self.options())

    def upstream(self) -> list[dict[str, Any]]:
        """What of it the provider has seen."""
        log = httpx.get(f"{self.team.gateway.provider_url}/log/others").json()
        return [entry for entry in log if self.text in json.dumps(entry["body"])]


@EACH
def test_an_answer_is_held_for_and_charged_to_the_last_digit(buyer: Team, case: Case) -> None:
    sent = Sent(buyer, case, "ok")
    response = sent()
    assert response.status_code == 200, response.text
    assert not re.search('"cost": ?[0-9]', response.text), "what the provider costs is the operator's business"
    call = buyer.ended_call()
    assert (call["status"], call["basis"], call["flags"]) == ("settled", case.basis, []), call["error"]
    assert call["credits_charged"] == case.charge
    assert call["credits_held"] >= call["credits_charged"]
    assert call["stream"] is case.stream
    assert response.headers["x-credits-call-id"] == str(call["call_id"])
    if not case.stream and case.basis == "provider_usage":
        assert Decimal(response.headers["x-credits-charged"]) == case.charge
    buyer.check_books()
    (seen,) = sent.upstream()
    extra = {"fallbacks", "context_window_fallbacks", "metadata", "litellm_metadata", "credits", "cache"}
    assert not extra & set(seen["body"]), "what is ours or LiteLLM's does not reach the provider"


@EACH
def test_no_request_leaves_before_its_hold(buyer: Team, case: Case) -> None:
    sent = Sent(buyer, case, "gated")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(sent)
        wait_until(sent.upstream, what="the request at the provider")
        (call,) = buyer.calls()
        assert call["status"] == "held"
        assert buyer.balance()["credits_held"] == call["credits_held"] >= case.charge
        buyer.gateway.open(sent.text)
        assert answer.result().status_code == 200
    assert buyer.ended_call()["credits_charged"] == case.charge


@EACH
def test_an_error_of_the_provider_costs_nothing(buyer: Team, case: Case) -> None:
    response = Sent(buyer, case, "err500")()
    assert response.status_code == 500, response.text
    assert "Traceback" not in response.text
    assert "model group" not in response.text.lower(), "how the operator routes is not the team's to know"
    call = buyer.ended_call()
    assert (call["status"], call["credits_charged"]) == ("voided", 0)
    assert "upstream says 500" in call["error"]["message"]
    buyer.check_books()


@EACH
@pytest.mark.parametrize("status", [401, 403])
def test_a_provider_that_refuses_the_operators_key_is_not_taken_for_the_teams(
    buyer: Team, case: Case, status: int
) -> None:
    response = Sent(buyer, case, f"err{status}")()
    assert response.status_code == 502, response.text
    error = response.json()["error"]
    facts = error["details"][0]["metadata"] if "details" in error else error
    assert facts["code"] == "provider_refused"
    assert f"({status})" in error["message"]
    assert buyer.ended_call()["status"] == "voided"
    with buyer.http() as http:
        seen = http.get(f"/api/teams/{buyer.team_id}/calls").text
    assert "upstream says" not in response.text + seen
    buyer.check_books()


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"moderations"}))  # LiteLLM logs none of those
def test_litellm_logs_each_success_once(buyer: Team, journal: Path, name: str) -> None:
    answer = Sent(buyer, CASES[name], "ok")()
    success = f"success {answer.headers['x-litellm-call-id']}"
    wait_until(lambda: success in journal.read_text().splitlines(), what="the success in the journal")
    assert journal.read_text().splitlines().count(success) == 1


def test_a_target_of_an_opened_route_that_refuses_the_operators_key(buyer: Team) -> None:
    with buyer.http() as http:
        response = http.post("/partner/closed", json={"query": "credits"})
    assert (response.status_code, response.json()["error"]["code"]) == (502, "provider_refused"), response.text
    assert buyer.ended_call()["status"] == "voided"


@EACH
def test_without_credits_nothing_leaves(gateway: Gateway, priced: str, case: Case) -> None:
    team = gateway.team(groups=[priced], credits="0.000001")
    sent = Sent(team, case, "ok")
    response = sent()
    assert response.status_code == 402, response.text
    error = response.json()["error"]
    facts = error["details"][0]["metadata"] if "details" in error else error
    assert facts["code"] == "insufficient_credits"
    assert float(facts["required"]) > 0
    if case.model == "claude":
        assert (response.json()["type"], error["type"]) == ("error", "billing_error")
    elif case.model == "gemini":
        assert (error["code"], error["status"]) == (402, "RESOURCE_EXHAUSTED")
    else:
        assert error["type"] == "insufficient_quota"
    assert sent.upstream() == []
    assert team.calls() == []


@EACH
def test_a_model_of_others_is_refused(gateway: Gateway, priced: str, case: Case) -> None:
    team = gateway.team(groups=["everything"])
    sent = Sent(team, case, "ok")
    response = sent()
    assert response.status_code == 403, response.text
    assert "model_not_allowed" in response.text.lower()
    assert sent.upstream() == []


@EACH
def test_an_answer_without_usage_is_counted(buyer: Team, case: Case) -> None:
    assert Sent(buyer, case, "no-usage")().status_code == 200
    call = buyer.ended_call()
    assert call["status"] == "settled"
    assert call["basis"] == case.without_usage
    assert call["flags"] == (["usage_missing"] if case.without_usage == "counted_output" else [])
    assert 0 < call["credits_charged"] <= call["credits_held"]
    buyer.check_books()


@EACH_STREAM
@pytest.mark.parametrize("how", ["abort", "hang-mid"])
def test_a_stream_that_breaks_or_is_left_is_charged_for_what_came(buyer: Team, case: Case, how: str) -> None:
    sent = Sent(buyer, case, how)
    with buyer.http() as http, http.stream(**sent.options()) as response:
        assert response.status_code == 200
        pieces = response.iter_bytes()
        text = b""
        try:
            while b"this" not in text:
                text += next(pieces)
            if how == "abort":
                for piece in pieces:
                    text += piece
        except httpx.HTTPError:
            pass
    call = buyer.ended_call()
    assert call["status"] == "settled", call
    flag = "upstream_aborted" if how == "abort" else "client_disconnected"
    assert flag in call["flags"]
    assert 0 < call["credits_charged"] < call["credits_held"]
    buyer.check_books()


@EACH
def test_a_client_that_hangs_up_leaves_no_hold(buyer: Team, case: Case) -> None:
    sent = Sent(buyer, case, "gated")
    request = httpx.Request(**({"headers": {"authorization": f"Bearer {buyer.key}"}} | absolute(buyer, sent.options())))
    address = urlsplit(buyer.gateway.base_url)
    head = f"POST {request.url.raw_path.decode()} HTTP/1.1\r\n".encode()
    head += b"".join(name + b": " + value + b"\r\n" for name, value in request.headers.raw) + b"\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(head + request.read())
        wait_until(sent.upstream, what="the request at the provider")
    buyer.gateway.open(sent.text)
    call = buyer.ended_call()
    assert call["credits_charged"] in (0, case.charge) or 0 < call["credits_charged"] <= call["credits_held"], call
    buyer.check_books()


def absolute(team: Team, options: dict[str, Any]) -> dict[str, Any]:
    return options | {"url": f"{team.gateway.base_url}{options['url']}"}


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_says_nothing_of_fallbacks(team: Team, stream: bool) -> None:
    body = {
        "model": "falls-outside",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 8,
        "stream": stream,
    }
    with team.http() as http:
        response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 500
    assert "upstream says 500" in response.text
    assert not re.search("model group|fallback|outside", response.text, re.IGNORECASE)
    team.check_books()


# With the vendors' own clients ------------------------------------------------------------------------------------------


@pytest.fixture
def claude(buyer: Team) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client, which sends the key in a header of its own."""
    with anthropic.Anthropic(base_url=buyer.gateway.base_url, api_key=buyer.key, max_retries=0, timeout=60) as client:
        yield client


def test_openais_client_on_every_endpoint_that_it_has(buyer: Team) -> None:
    client = buyer.client()
    assert client.completions.create(model="instruct:ok", prompt="hi", max_tokens=50).choices[0].text
    assert [part.choices[0].text for part in client.completions.create(model="instruct:ok", prompt="hi", stream=True)]
    assert client.embeddings.create(model="full:ok", input=["hi", "there"]).data
    assert client.images.generate(model="unit:ok", prompt="a cat").data
    assert client.images.edit(model="unit:ok", image=io.BytesIO(b"png"), prompt="a hat").data
    assert client.audio.speech.create(model="unit:ok", input="hello", voice="alloy").content
    assert client.audio.transcriptions.create(model="unit:ok", file=("a.wav", sound(1))).text
    assert client.moderations.create(model="unit:ok", input="hello").results
    first = client.responses.create(model="full:ok", input="hi", max_output_tokens=50)
    assert first.output_text
    second = client.responses.create(
        model="full:ok", input="go on", previous_response_id=first.id, max_output_tokens=50
    )
    assert second.output_text
    with client.responses.stream(model="full:ok", input="hi", max_output_tokens=50) as events:
        assert [event.type for event in events][-1] == "response.completed"
    wait_until(lambda: all(call["status"] == "settled" for call in buyer.calls()), what="the settles")
    assert len(buyer.calls()) == 11
    buyer.check_books()


def test_azures_client_on_every_endpoint_that_litellm_serves_it(buyer: Team) -> None:
    """It names the model in the URL, and in the query a version of Azure's API, which is the operator's to choose."""
    base = buyer.gateway.base_url
    with openai.AzureOpenAI(azure_endpoint=base, api_key=buyer.key, api_version="2024-10-21", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        assert client.chat.completions.create(model="full:ok", messages=messages, max_tokens=50).choices
        assert client.completions.create(model="instruct:ok", prompt="hi", max_tokens=50).choices
        assert client.embeddings.create(model="full:ok", input="hi").data
        assert client.images.generate(model="unit:ok", prompt="a cat").data
        pictures = [("a.png", b"png"), ("b.png", b"png")]
        assert client.images.edit(model="unit:ok", image=pictures, prompt="a hat").data
        with pytest.raises(openai.PermissionDeniedError, match="not open to virtual keys"):
            client.audio.speech.create(model="unit:ok", input="hello", voice="alloy")
    assert [call["requested_model"] for call in buyer.calls()] == ["full:ok", "instruct:ok", "full:ok"] + [
        "unit:ok"
    ] * 2
    buyer.check_books()


def test_anthropics_client(buyer: Team, claude: anthropic.Anthropic) -> None:
    question: Any = {"model": "claude:ok", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    assert claude.messages.create(**question).usage.output_tokens == 20
    with claude.messages.stream(**question) as stream:
        assert stream.get_final_text().strip() == "Hello, this is it."
    assert claude.messages.count_tokens(model="claude:ok", messages=question["messages"]).input_tokens == 42
    assert [call["credits_charged"] for call in buyer.calls()] == [MESSAGES, MESSAGES]
    assert {call["cached_tokens"] for call in buyer.calls()} == {50}
    assert {call["cache_write_tokens"] for call in buyer.calls()} == {10}


def test_a_stream_of_messages_is_paid_when_its_last_event_is_read(buyer: Team, claude: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    with claude.messages.stream(model="claude:ok", max_tokens=50, messages=messages) as stream:
        for event in stream:
            if event.type == "message_stop":
                assert [call["status"] for call in buyer.calls()] == ["settled"]
    assert len(buyer.calls()) == 1


def test_messages_on_another_vendors_model_are_charged_too(buyer: Team, claude: anthropic.Anthropic) -> None:
    """LiteLLM answers them through the vendor's own endpoint."""
    messages: Any = [{"role": "user", "content": "hi"}]
    assert claude.messages.create(model="full:ok", max_tokens=50, messages=messages).content
    with claude.messages.stream(model="full:ok", max_tokens=50, messages=messages) as stream:
        assert stream.get_final_text()
    assert [call["status"] for call in buyer.calls()] == ["settled", "settled"]
    assert all(0 < call["credits_charged"] <= call["credits_held"] for call in buyer.calls())
    buyer.check_books()


# What would not be metered ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/responses", {"input": "hi", "background": True}, "background"),
        ("/v1/responses", {"input": "hi", "conversation": "conv_1"}, "conversation"),
        ("/v1/responses", {"input": "hi", "prompt": {"id": "pmpt_1"}}, "prompt"),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ("/v1/responses", {"input": "hi", "tools": [{"type": "web_search"}]}, "tools[0]"),
        ("/v1/responses", {"input": "hi", "tools": [{"type": "mcp", "server_url": "litellm_proxy"}]}, "tools[0]"),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
            "input.content.file_id",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "hi"}], "web_search_options": {"x": 1}},
            "web_search_options",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "hi"}], "tools": [{"googleSearch": {}}]},
            "tools[0]",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "hi"}], "service_tier": "priority"},
            "service_tier",
        ),
        ("/v1/messages", chat("hi") | {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ("/v1/messages", chat("hi") | {"mcp_servers": [{"url": "https://x.test"}]}, "mcp_servers"),
        ("/v1/messages", chat("hi") | {"container": "c_1"}, "container"),
        ("/v1beta/models/full:ok:generateContent", contents("hi") | {"tools": [{"googleSearch": {}}]}, "tools[0]"),
        (
            "/v1beta/models/full:ok:generateContent",
            contents("hi") | {"cachedContent": "cachedContents/1"},
            "cachedContent",
        ),
        ("/v1beta/models/full:ok:generateContent", contents("hi") | {"config": {"maxOutputTokens": 9}}, "config"),
        ("/v1/images/generations", {"prompt": "hi", "stream": True}, "stream"),
        ("/v1/audio/speech", {"input": "hi", "voice": "alloy", "stream_format": "sse"}, "stream_format"),
    ],
)
def test_what_could_not_be_metered_is_refused(buyer: Team, path: str, body: dict[str, Any], param: str) -> None:
    with buyer.http() as http:
        response = http.post(path, json={"model": "full:ok"} | body)
    assert response.status_code == 403, response.text
    assert "parameter_not_allowed" in response.text.lower()
    assert f'"{param}"' in response.text
    assert buyer.calls() == []


@pytest.mark.parametrize("stream", [1, 0, "true", [], {}])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat("hi")),
        ("/v1/messages", chat("hi")),
        ("/v1/responses", given("hi")),
        ("/v1/completions", prompt("hi")),
    ],
)
def test_whether_a_request_streams_is_certain(buyer: Team, path: str, body: dict[str, Any], stream: object) -> None:
    with buyer.http() as http:
        response = http.post(path, json=body | {"model": "full:ok", "stream": stream})
    assert (response.status_code, response.json()["error"].get("code")) == (422, "invalid_input")
    assert buyer.calls() == []


def test_a_form_may_say_that_it_does_not_stream(buyer: Team) -> None:
    for name in ("image-edits", "transcriptions"):
        case = CASES[name]
        options = Sent(buyer, case, "ok").options()
        with buyer.http() as http:
            assert http.request(**(options | {"data": options["data"] | {"stream": "false"}})).status_code == 200
            refused = http.request(**(options | {"data": options["data"] | {"stream": "true"}}))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "parameter_not_allowed")
    buyer.check_books()


def test_nobody_goes_on_from_the_response_of_another_team(gateway: Gateway, buyer: Team, priced: str) -> None:
    theirs = gateway.team(groups=[priced]).client().responses.create(model="full:ok", input="hi", max_output_tokens=50)
    for foreign in (theirs.id, "resp_123"):
        with pytest.raises(openai.PermissionDeniedError):
            buyer.client().responses.create(model="full:ok", input="go on", previous_response_id=foreign)
    assert [call["credits_charged"] for call in buyer.calls()] == [0, 0]
    with buyer.http() as http:
        assert http.get(f"/v1/responses/{theirs.id}").status_code == 403
        body = {"model": "full:ok", "input": "go on", "max_output_tokens": 50}
        assert "general_settings" not in http.post("/v1/responses", json=body | {"previous_response_id": "resp_1"}).text
        for wrong in ([theirs.id], {"id": theirs.id}, True, 0, ""):
            response = http.post("/v1/responses", json=body | {"previous_response_id": wrong})
            assert (response.status_code, response.json()["error"]["param"]) == (422, "previous_response_id"), wrong
    assert {call["credits_charged"] for call in buyer.calls()} == {0}
    buyer.check_books()


def test_a_price_that_says_nothing_of_an_endpoint_is_no_price(buyer: Team) -> None:
    with buyer.http() as http:
        response = http.post("/v1/audio/speech", json={"model": "full:ok", "input": "hi", "voice": "alloy"})
        assert response.status_code == 200, "the request alone has a price"
    team = buyer.gateway.team()  # whose aliases have token prices only
    with team.http() as http:
        for path, body in {
            "/v1/audio/speech": {"input": "hi", "voice": "alloy"},
            "/v1/moderations": {"input": "hi"},
            "/v1/ocr": {"document": {"type": "document_url", "document_url": "https://x.test"}},
        }.items():
            response = http.post(path, json={"model": "ok"} | body)
            assert (response.status_code, response.json()["error"]["code"]) == (403, "price_unknown"), path
            assert "pricing_rates." in response.json()["error"]["message"]
    assert team.calls() == []


def test_the_model_in_the_url_is_the_one_that_is_checked_and_charged(gateway: Gateway, buyer: Team) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
    with buyer.http() as http:
        for path in ("/engines/full:ok/chat/completions", "/openai/deployments/full:ok/chat/completions"):
            assert http.post(path, json=body | {"model": "outside"}).status_code == 200
        for path in ("/engines/outside/chat/completions", "/openai/deployments/outside/chat/completions"):
            response = http.post(path, json=body | {"model": "full:ok"})
            assert (response.status_code, response.json()["error"]["code"]) == (403, "model_not_allowed")
    assert [call["requested_model"] for call in buyer.calls()] == ["full:ok", "full:ok"]
    buyer.check_books()


def test_counting_tokens_is_free_and_only_for_the_teams_models(buyer: Team) -> None:
    with buyer.http() as http:
        for model, status in (("claude:ok", 200), ("outside", 403), ("claude-ok", 403)):
            response = http.post("/v1/messages/count_tokens", json=chat("hi") | {"model": model})
            assert response.status_code == status, response.text
            if status == 403:
                assert response.json()["type"] == "error"
        for wrong in (None, "hi", [], [1]):
            response = http.post("/v1/messages/count_tokens", json={"model": "claude:ok", "messages": wrong})
            assert (response.status_code, response.json()["type"]) == (422, "error"), wrong
        assert http.post("/v1beta/models/full:ok:countTokens", json=contents("hi")).status_code == 200
        assert http.post("/v1beta/models/outside:countTokens", json=contents("hi")).status_code == 403
    assert buyer.calls() == []


def test_a_pass_through_route_that_the_operator_opened_costs_its_price(buyer: Team, team: Team) -> None:
    with buyer.http() as http:
        response = http.post("/partner/find", json={"query": "credits", "timeout": 3})
        assert (response.status_code, response.json()) == (200, {"found": 3})
        assert http.post("/partner/broken", json={"query": "credits"}).status_code == 500
    wait_until(lambda: all(call["status"] != "held" for call in buyer.calls()), what="the settles")
    assert [(call["status"], call["credits_charged"]) for call in buyer.calls()] == [
        ("settled", Decimal("0.1")),
        ("voided", 0),
    ]
    buyer.check_books()
    with team.http() as http:
        assert http.post("/partner/find", json={}).status_code == 403, "no alias of that name is in the team's groups"


def test_an_opened_route_is_held_for_before_it_leaves(buyer: Team) -> None:
    body = {"query": f"gate-{uuid4().hex}"}
    with ThreadPoolExecutor() as pool, buyer.http() as http:
        answer = pool.submit(http.post, "/partner/gated", json=body)
        wait_until(lambda: seen_by_partner(buyer, body), what="the request at the partner")
        (call,) = buyer.calls()
        assert (call["status"], call["credits_held"]) == ("held", Decimal("0.1"))
        buyer.gateway.open(body["query"])
        assert answer.result().json() == {"found": 3}
    assert buyer.ended_call()["credits_charged"] == Decimal("0.1")
    buyer.check_books()


def test_an_opened_route_that_is_left_before_its_answer_leaves_no_hold(buyer: Team) -> None:
    body = {"query": f"gate-{uuid4().hex}"}
    with buyer.http(timeout=httpx.Timeout(30, read=2)) as http, pytest.raises(httpx.ReadTimeout):
        http.post("/partner/gated", json=body)
    assert seen_by_partner(buyer, body)
    buyer.gateway.open(body["query"])
    assert buyer.ended_call()["status"] in ("voided", "settled")
    buyer.check_books()


def test_an_opened_route_streams_chunk_by_chunk(buyer: Team) -> None:
    with buyer.http() as http, http.stream("POST", "/partner/find", json={"stream": True}) as response:
        assert response.headers["x-credits-charged"] == "0.1"
        text = response.read()
    assert text == b"data: Hello,\n\ndata: this\n\ndata: is\n\ndata: it.\n\n"
    call = buyer.ended_call()
    assert (call["status"], call["basis"], call["credits_charged"]) == ("settled", "request_units", Decimal("0.1"))
    buyer.check_books()


@pytest.mark.parametrize("how", ["hang-mid", "abort"])
def test_a_stream_of_an_opened_route_costs_its_price_however_it_ends(buyer: Team, how: str) -> None:
    """What came of it has come: a client that leaves before the last byte has had nearly all of it."""
    with buyer.http() as http, http.stream("POST", f"/partner/{how}", json={"stream": True}) as response:
        assert response.status_code == 200
        until(response, b"this", to_the_end=how == "abort")
    call = buyer.ended_call()
    assert (call["status"], call["credits_charged"]) == ("settled", Decimal("0.1")), call
    buyer.check_books()


def test_speech_that_is_left_in_the_middle_of_the_sound_costs_its_characters(buyer: Team) -> None:
    case = CASES["speech"]
    options = Sent(buyer, case, "ok").options()
    options["json"] |= {"voice": "long-winded"}
    with buyer.http() as http, http.stream(**options) as response:
        assert Decimal(response.headers["x-credits-charged"]) == case.charge
        until(response, b"soundsound", to_the_end=False)
    call = buyer.ended_call()
    assert (call["status"], call["basis"], call["credits_charged"]) == ("settled", "request_units", case.charge), call
    buyer.check_books()


def test_speech_whose_sound_breaks_off_at_the_provider_costs_nothing(buyer: Team) -> None:
    """LiteLLM has all of the sound before it sends any."""
    assert Sent(buyer, CASES["speech"], "abort")().status_code == 500
    assert buyer.ended_call()["status"] == "voided"
    buyer.check_books()


def seen_by_partner(team: Team, body: dict[str, Any]) -> bool:
    log = httpx.get(f"{team.gateway.provider_url}/log/others").json()
    return any(entry["body"].get("query") == body["query"] for entry in log)


def until(response: httpx.Response, words: bytes, *, to_the_end: bool) -> None:
    """Read until these words have come, and the rest too if there is one to be had."""
    pieces, text = response.iter_bytes(), b""
    while words not in text:
        text += next(pieces)
    if to_the_end:
        with suppress(httpx.HTTPError):
            for _ in pieces:
                pass


def test_prices_are_kept_on_the_call(buyer: Team) -> None:
    Sent(buyer, CASES["responses"], "ok")()
    call = buyer.ended_call()
    stated = {name: Decimal(str(rate)) for name, rate in (CACHED | {"request": 0.001}).items()}
    assert {name: Decimal(str(rate)) for name, rate in call["pricing_rates"].items()} == stated
    assert (call["cached_tokens"], call["reasoning_tokens"], call["units"]) == (40, 5, {"request": 1})


def test_a_long_prompt_costs_its_tier(gateway: Gateway) -> None:
    alias = f"tiers-{uuid4().hex}"
    rates = {"tiers": [{"above": 50, "input": 0.001, "output": 0.003}]}
    price = {name: float(amount) for name, amount in PRICE.items()}
    body = {"model_alias": alias, "provider": "openai", "actual_model": "ok", "pricing_rates": rates}
    gateway.call("POST", "/api/models/aliases/create", body | price)
    gateway.call("POST", "/api/model-access-groups/create", {"group_name": alias, "model_aliases": [alias]})
    team = gateway.team(groups=[alias])
    team.client().responses.create(model=alias, input="hi", max_output_tokens=50)
    assert team.ended_call()["credits_charged"] == 2 * credits_for(100, 20)
