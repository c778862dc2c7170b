"""Every way that LiteLLM gives a client to choose a deployment, a price or a shortcut: refused, or without effect.

`pytest tests/proxy/test_overrides.py -s` prints what was tried and what came of it.
"""

import json
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import pytest

from .gateway import Gateway, Team, credits_for
from .test_endpoints import MESSAGES, buyer, priced, sound  # noqa: F401  (fixtures)

CHAT = {"model": "ok", "max_tokens": 8}
FIELDS: dict[str, Any] = {
    "api_base": "http://127.0.0.1:1",
    "api_key": "sk-mine",
    "api_version": "1",
    "base_model": "gpt-4o-mini",
    "base_url": "http://127.0.0.1:1",
    "cache": {"no-cache": True},
    "caching": True,
    "content_policy_fallbacks": [{"ok": ["outside"]}],
    "context_window_fallbacks": [{"ok": ["outside"]}],
    "custom_llm_provider": "anthropic",
    "disable_fallbacks": True,
    "disable_global_guardrails": True,
    "extra_body": {"model": "outside"},
    "extra_headers": {"authorization": "Bearer sk-mine"},
    "fallbacks": ["outside"],
    "fastest_response": True,
    "guardrails": [],
    "headers": {"x": "y"},
    "input_cost_per_token": 0,
    "litellm_call_id": "mine",
    "litellm_logging_obj": {},
    "litellm_metadata": {"user_api_key_team_id": "other"},
    "litellm_params": {"model": "outside"},
    "logger_fn": "x",
    "max_retries": 100,
    "mock_response": "free",
    "mock_testing_context_fallbacks": True,
    "mock_testing_fallbacks": True,
    "mock_timeout": True,
    "mock_tool_calls": [],
    "model_config": {},
    "model_id": "x",
    "model_info": {"id": "x"},
    "model_list": [],
    "no-log": True,
    "num_retries": 100,
    "organization": "org-mine",
    "output_cost_per_token": 0,
    "proxy_server_request": {"body": {}},
    "retry_policy": {},
    "router_settings_override": {"fallbacks": []},
    "secret_fields": {},
    "specific_deployment": True,
    "tags": ["free"],
    "timeout": 100_000,
    "ttl": 1,
    "use_in_pass_through": True,
    "use_litellm_proxy": True,
    "user_config": {"model_list": []},
    "_litellm_raw_sse_stream": True,
}
HEADERS = {
    "x-litellm-api-key": "sk-nobody",
    "x-litellm-call-id": "mine",
    "x-litellm-customer-id": "other",
    "x-litellm-disable-callbacks": "litellm_credits.proxy.plugin.credits,credits,CreditsHooks",
    "x-litellm-disable-logging": "true",
    "x-litellm-agent-id": "other",
    "x-litellm-enable-message-redaction": "true",
    "x-litellm-end-user-id": "other",
    "x-litellm-keepalive-seconds": "1",
    "x-litellm-key-spend": "0",
    "x-litellm-max-budget": "0",
    "x-litellm-model": "outside",
    "x-litellm-model-group": "outside",
    "x-litellm-model-id": "outside",
    "x-litellm-num-retries": "100",
    "x-litellm-response-cost": "0",
    "x-litellm-spend-logs-metadata": '{"x": 1}',
    "x-litellm-stream-timeout": "100",
    "x-litellm-tags": "free",
    "x-litellm-team-id": "other",
    "x-litellm-timeout": "100",
    "x-litellm-trace-id": "mine",
    "x-http-method-override": "GET",
    "x-original-url": "/health",
    "x-forwarded-prefix": "/api",
    "cache-control": "s-maxage=1",
    "content-encoding": "gzip",
    "anthropic-beta": "context-1m-2025-08-07",
    "openai-organization": "org-mine",
}
NAMES: list[Any] = [
    "outside",
    "OK",
    " ok",
    "ok ",
    "ok\n",
    "ok\x00",
    "\uff4f\uff4b",
    "o\u200bk",
    "openai/ok",
    "openai/gpt-3.5-turbo",
    "ok,outside",
    "outside,ok",
    "*",
    "ok/*",
    "azure/ok",
    ["ok", "outside"],
    {"model": "ok"},
    0,
    True,
    "",
    None,
    "team/ok",
    "a" * 100_000,
]


def told(tried: Counter[str], what: object, outcome: object) -> None:
    print(f"{str(what)[:70]:72}{outcome}")
    tried[str(outcome)] += 1


def post(team: Team, path: str, body: object, **headers: str) -> httpx.Response:
    with team.http() as http:
        return http.post(path, json=body, headers=headers)


def text() -> list[dict[str, str]]:
    return [{"role": "user", "content": f"override {uuid4().hex}"}]


def test_no_field_of_a_chat_chooses_anything(team: Team) -> None:
    """Each is refused, and nothing leaves."""
    tried: Counter[str] = Counter()
    for name, value in FIELDS.items():
        messages = text()
        response = post(team, "/v1/chat/completions", CHAT | {"messages": messages, name: value})
        told(tried, f"chat: {name} = {json.dumps(value)}", response.status_code)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "parameter_not_allowed"), name
        assert response.json()["error"]["param"] == name
        assert team.gateway.sent(messages[0]["content"]) == []
    assert team.calls() == []
    assert tried["403"] == len(FIELDS)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_no_field_of_other_endpoints_does_either(buyer: Team, path: str) -> None:  # noqa: F811
    for name, value in FIELDS.items():
        messages = text()
        body = {"model": "claude:ok", "max_tokens": 8, "messages": messages, name: value}
        if path == "/v1/responses":
            body = {"model": "full:ok", "max_output_tokens": 8, "input": messages, name: value}
        response = post(buyer, path, body)
        assert response.status_code == 403, (name, response.text)
        assert f"'{name}' cannot be used here" in response.json()["error"]["message"]
    assert buyer.calls() == []


FORMS = {
    "/v1/audio/transcriptions": ("file", ("a.wav", sound(1), "audio/wav")),
    "/v1/images/edits": ("image", ("a.png", b"png", "image/png")),
}


@pytest.mark.parametrize("path", FORMS)
def test_no_field_of_a_form_does_either(buyer: Team, path: str) -> None:  # noqa: F811
    """Each is refused, or it is without effect: LiteLLM takes some of them away before any hook sees them."""
    tried: Counter[str] = Counter()
    model = {"model": "unit:ok", "prompt": "x"}
    with buyer.http() as http:
        plain = http.post(path, data=model, files=dict([FORMS[path]]))
        (usual,) = {call["credits_charged"] for call in buyer.calls()}
        for name, value in FIELDS.items():
            data = model | {name: value if isinstance(value, str) else json.dumps(value)}
            response = http.post(path, data=data, files=dict([FORMS[path]]))
            told(tried, f"{path}: {name} = {json.dumps(value)}", response.status_code)
            assert response.status_code in (200, 400, 401, 403), (name, response.text)
            assert response.status_code != 200 or response.json() == plain.json(), name
    calls = buyer.calls()
    assert {(call["model_alias"], call["credits_charged"]) for call in calls} == {("unit:ok", usual)}
    assert len(calls) == 1 + tried["200"]
    assert tried["200"] < 16


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("name", ["model", "prompt", "language", "n", "response_format", "user"])
def test_a_file_is_no_text(buyer: Team, path: str, name: str) -> None:  # noqa: F811
    files = [FORMS[path], (name, ("text.txt", b"unit:ok", "text/plain"))]
    with buyer.http() as http:
        response = http.post(path, data={"model": "unit:ok"} if name != "model" else {}, files=files)
    assert response.status_code in (400, 403, 422), response.text
    assert buyer.calls() == []


def test_metadata_of_the_client_changes_neither_the_charge_nor_who_is_charged(team: Team, other_team: Team) -> None:
    forged = {
        "user_api_key_team_id": other_team.team_id,
        "user_api_key": "sk-x",
        "model_group": "outside",
        "model_info": {"id": "x"},
        "tags": ["free"],
        "headers": {"x": "y"},
        "purpose": "forging",
    }
    response = post(team, "/v1/chat/completions", CHAT | {"messages": text(), "metadata": forged})
    assert response.status_code == 200
    (call,) = team.calls()
    assert (call["credits_charged"], call["purpose"]) == (credits_for(2, 8), "forging")
    assert other_team.calls() == []


def test_no_header_chooses_anything(team: Team, buyer: Team) -> None:  # noqa: F811
    """The call is refused, or it is served by the same deployment and charged the same, once."""
    tried: Counter[str] = Counter()
    for name, value in HEADERS.items():
        before = len(team.calls())
        response = post(team, "/v1/chat/completions", CHAT | {"messages": text()}, **{name: value})
        calls = team.calls()[before:]
        told(tried, f"header: {name}: {value}", response.status_code)
        if response.status_code == 200:
            assert [(call["model_alias"], call["credits_charged"]) for call in calls] == [("ok", credits_for(2, 8))], (
                name
            )
        else:
            assert response.status_code in (401, 403), (name, response.text)
            assert calls == []
        body = {"model": "claude:ok", "max_tokens": 8, "messages": text()}
        before = len(buyer.calls())
        answer = post(buyer, "/v1/messages", body, **{name: value})
        assert (answer.status_code == 200) is (response.status_code == 200), (name, answer.text)
        charged = [call["credits_charged"] for call in buyer.calls()[before:]]
        assert charged == ([MESSAGES] if answer.status_code == 200 else []), name
    assert tried["200"] > 15


@pytest.mark.parametrize("value", ["abc", "", "nan", "-1", "1e999"])
def test_no_header_of_litellms_breaks_a_call(team: Team, value: str) -> None:
    """LiteLLM makes numbers of them, or fails with a 500."""
    names = ("timeout", "stream-timeout", "num-retries", "keepalive-seconds", "spend-logs-metadata")
    for name in names:
        body = CHAT | {"messages": text()}
        assert post(team, "/v1/chat/completions", body, **{f"x-litellm-{name}": value}).status_code == 200, name
    assert [call["credits_charged"] for call in team.calls()] == [credits_for(2, 8)] * len(names)


def test_a_name_is_the_name_of_an_alias_or_it_is_nothing(team: Team, gateway: Gateway) -> None:
    tried: Counter[str] = Counter()
    for model in NAMES:
        messages = text()
        response = post(team, "/v1/chat/completions", CHAT | {"messages": messages, "model": model})
        told(tried, f"model: {json.dumps(model)}", response.status_code)
        assert response.status_code in (400, 403, 422), (model, response.text)
        assert gateway.sent(messages[0]["content"]) == []
    for model in ("outside", "OK", "ok,outside", "../ok", "ok/../outside", "%6fk", "ok%00"):
        for path in (f"/engines/{model}/chat/completions", f"/openai/deployments/{model}/chat/completions"):
            messages = text()
            response = post(team, path, {"messages": messages, "max_tokens": 8})
            served = gateway.sent(messages[0]["content"])
            told(tried, f"url: {path}", response.status_code)
            assert (response.status_code == 200) is bool(served), (path, response.text)
            assert response.status_code in (200, 400, 403, 404, 422), (path, response.text)
    assert {call["model_alias"] for call in team.calls()} <= {"ok"}
    team.check_books()


@pytest.mark.parametrize(
    "path",
    [
        "//v1/chat/completions",
        "/v1/chat/completions/",
        "/V1/chat/completions",
        "/v1//chat/completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/chat/completions%0A",
        "/v1/chat/completions%00",
        "/v1/chat%2Fcompletions",
        "/v1/chat/completions;x",
        "/api/v1/chat/completions",
    ],
)
def test_a_path_is_spelled_as_in_the_table_or_it_is_refused(team: Team, path: str) -> None:
    messages = text()
    response = post(team, path, CHAT | {"messages": messages})
    served = team.gateway.sent(messages[0]["content"])
    assert (response.status_code == 200) is (len(team.calls()) == 1) is bool(served), response.text
    if response.status_code != 200:
        assert response.status_code in (307, 400, 403, 404, 405), response.text
    team.check_books()


@pytest.mark.parametrize(
    ("path", "more", "param"),
    [
        ("/v1/chat/completions", {"additional_drop_params": ["max_tokens"]}, "additional_drop_params"),
        ("/v1/chat/completions", {"drop_params": True}, "drop_params"),
        ("/v1/chat/completions", {"max_output_tokens": 65_000}, "max_output_tokens"),
        ("/v1/chat/completions", {"candidate_count": 8}, "candidate_count"),
        ("/v1/chat/completions", {"mcp_servers": [{}]}, "mcp_servers"),
        ("/v1/completions", {"prompt": "hi", "tools": [{"x": 1}]}, "tools"),
        ("/v1/completions", {"prompt": "hi", "max_completion_tokens": 60_000}, "max_completion_tokens"),
        ("/v1/responses", {"input": "hi", "max_tokens": 60_000}, "max_tokens"),
        ("/v1/responses", {"input": "hi", "n": 8}, "n"),
        ("/v1/messages", {"max_tokens": 5, "n": 8}, "n"),
        ("/v1/messages", {"max_tokens": 5, "inference_geo": "us"}, "inference_geo"),
        ("/v1/images/generations", {"prompt": "x"}, "messages"),
    ],
)
def test_what_an_endpoint_does_not_know_is_refused(
    buyer: Team,  # noqa: F811
    path: str,
    more: dict[str, Any],
    param: str,
) -> None:
    with_messages = {} if path in ("/v1/completions", "/v1/responses") else {"messages": text()}
    response = post(buyer, path, {"model": "full:ok"} | with_messages | more)
    assert response.status_code == 403, response.text
    assert f'"param":"{param}"' in response.text
    assert buyer.calls() == []


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/embeddings", "/v1/completions", "/v1/responses", "/v1/audio/speech"]
)
def test_a_body_has_one_reading(buyer: Team, path: str) -> None:  # noqa: F811
    """LiteLLM reads a form out of what is a JSON object to us."""
    body = b'{"a":"&model=full:ok&input=LONG&z=","model":"full:ok","input":"x"}'
    with buyer.http() as http:
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"):
            response = http.post(path, content=body, headers={"content-type": kind})
            assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_input"), kind
        twice = [("content-type", "application/x-www-form-urlencoded"), ("content-type", "application/json")]
        assert http.post(path, content=body, headers=twice).status_code == 422
    assert buyer.calls() == []


def test_metadata_does_not_choose_the_price(gateway: Gateway) -> None:
    names = [f"pair-{uuid4().hex}-{which}" for which in ("dear", "cheap")]
    for name, price in zip(names, (1, 0.0001), strict=True):
        deployment = {"dear": "ok", "cheap": "cached-tokens"}[name.rpartition("-")[2]]
        body = {"model_alias": name, "provider": "openai", "actual_model": deployment}
        gateway.call("POST", "/api/models/aliases/create", body | {"pricing_input": price, "pricing_output": price})
    gateway.call("POST", "/api/model-access-groups/create", {"group_name": names[0][:-5], "model_aliases": names})
    team = gateway.team(groups=[names[0][:-5]])
    body = {
        "model": names[0][:-5],
        "input": "hi",
        "max_output_tokens": 50,
        "metadata": {"model_group": "cached-tokens"},
    }
    assert post(team, "/v1/responses", body).status_code == 200
    assert team.ended_call()["model_alias"] == names[0]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "hi", "metadata": []}),
        ("/v1/embeddings", {"input": "hi", "metadata": "x"}),
        ("/v1/responses", {"input": "hi", "metadata": {"tags": [{}]}}),
        ("/v1/images/generations", {"prompt": "hi", "model": []}),
    ],
)
def test_what_litellm_would_stumble_over_is_refused_first(buyer: Team, path: str, body: dict[str, Any]) -> None:  # noqa: F811
    response = post(buyer, path, {"model": "full:ok"} | body)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_input")
