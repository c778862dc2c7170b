"""The main job through real sockets: hold, dispatch, settle, streamed and not, to the last digit."""

import time
from decimal import Decimal
from uuid import UUID

import pytest

from .gateway import INPUT, OUTPUT, PROMPT, Gateway, Team, credits_for


def test_an_unstreamed_call_costs_what_its_tokens_cost(team: Team) -> None:
    answer = team.client().chat.completions.with_raw_response.create(
        model="ok", messages=[{"role": "user", "content": PROMPT}], max_tokens=8
    )
    completion = answer.parse()
    assert completion.choices[0].message.content == "Hello, this is a test! Bye for now."
    assert completion.model == "ok"
    call = team.ended_call()
    assert (call["prompt_tokens"], call["completion_tokens"], call["total_tokens"]) == (15, 8, 23)
    assert call["cost_usd"] == Decimal("0.0000195")
    assert call["credits_charged"] == Decimal("0.000195")
    assert (call["pricing_input"], call["pricing_output"]) == (INPUT, OUTPUT)
    assert (call["status"], call["basis"], call["flags"]) == ("settled", "provider_usage", [])
    assert (call["model_alias"], call["model_group_used"], call["resolved_model"]) == (
        "ok",
        "everything",
        "gpt-3.5-turbo",
    )
    assert (call["stream"], call["job_id"], call["error"]) == (False, None, None)
    assert call["latency_ms"] > 0
    assert call["litellm_call_id"] == answer.headers["x-litellm-call-id"]
    assert call["request_data"]["messages"][0]["content"] == PROMPT
    assert call["response_data"]["choices"][0]["message"]["content"].startswith("Hello,")
    assert answer.headers["x-credits-call-id"] == str(call["call_id"])
    assert Decimal(answer.headers["x-credits-held"]) == call["credits_held"] >= call["credits_charged"]
    assert Decimal(answer.headers["x-credits-charged"]) == Decimal("0.000195")
    assert Decimal(answer.headers["x-credits-remaining"]) == Decimal("99.999805")
    team.check_books()


def test_a_streamed_call_costs_the_same_and_is_paid_when_done_is_read(team: Team) -> None:
    with (
        team.http() as http,
        http.stream(
            "POST",
            "/v1/chat/completions",
            json={"model": "ok", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8, "stream": True},
        ) as response,
    ):
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    call = team.calls()[0]  # no waiting: seen means paid
    assert (call["status"], call["basis"], call["stream"]) == ("settled", "provider_usage", True)
    assert (call["prompt_tokens"], call["completion_tokens"]) == (15, 8)
    assert call["credits_charged"] == Decimal("0.000195")
    assert call["response_data"]["content"] == "Hello, this is a test! Bye for now."
    assert 0 < call["time_to_first_token_ms"] <= call["latency_ms"]
    assert response.headers["x-credits-call-id"] == str(call["call_id"])
    assert not any('"usage"' in line for line in lines), "a usage chunk that nobody asked for"
    team.check_books()


def test_a_client_that_asks_for_usage_gets_it_with_the_charge(team: Team) -> None:
    last = team.stream("ok", stream_options={"include_usage": True})[-1]
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (15, 8)
    assert last.model == "ok"
    facts = last.model_extra["credits"]
    call = team.calls()[0]
    assert facts["call_id"] == str(call["call_id"])
    assert Decimal(str(facts["charged"])) == call["credits_charged"] == Decimal("0.000195")
    assert Decimal(str(facts["remaining"])) == Decimal("99.999805")
    assert "cost" not in (last.usage.model_extra or {}), "the provider's cost is the operator's business"


def test_a_name_that_only_we_know_is_billed_from_usage_too(gateway: Gateway) -> None:
    """LiteLLM itself would not ask the provider for usage here."""
    name = f"renamed-{time.time_ns()}"
    body = {"model_alias": name, "provider": "openai", "actual_model": "ok", "access_groups": [gateway.group]}
    gateway.call("POST", "/api/models/aliases/create", body | {"pricing_input": 0.0005, "pricing_output": 0.0015})
    team = gateway.team()
    text = f"named {time.time_ns()}"
    assert not any(chunk.usage for chunk in team.stream(name, text=text))
    assert gateway.sent(text)[0]["body"]["stream_options"] == {"include_usage": True}
    call = team.ended_call()
    assert (call["basis"], call["credits_charged"]) == ("provider_usage", credits_for(2, 8))


def test_chunks_arrive_as_they_are_sent(team: Team) -> None:
    delays = []
    for chunk in team.client().chat.completions.create(
        model="drip", messages=[{"role": "user", "content": "go"}], stream=True
    ):
        if chunk.choices and chunk.choices[0].delta.content:
            delays.append(time.time() - float(chunk.choices[0].delta.content))  # noqa: PERF401 (the clock must be read now)
    assert len(delays) == 8
    # Sent 100 ms apart: had anything been buffered, the first would be 700 ms old when the last comes.
    assert sorted(delays)[len(delays) // 2] < 0.05
    assert max(delays) < 0.35


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_are_all_paid_for(team: Team, stream: bool) -> None:
    if stream:
        chunks = team.stream("ok", n=3, max_tokens=8)
        assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1, 2}
    else:
        assert len(team.chat("ok", n=3, max_tokens=8).choices) == 3
    call = team.ended_call()
    assert call["completion_tokens"] == 24
    assert call["credits_charged"] == credits_for(15, 24) <= call["credits_held"]
    team.check_books()


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_reach_the_client_and_are_paid_for(team: Team, stream: bool) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    if stream:
        chunks = team.stream("ok", tools=tools)
        calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    else:
        calls = team.chat("ok", tools=tools).choices[0].message.tool_calls
    assert calls[0].function.name == "weather"
    call = team.ended_call()
    assert (call["basis"], call["credits_charged"]) == ("provider_usage", credits_for(15, 5))
    team.check_books()


def test_json_mode_passes_through(team: Team) -> None:
    text = f"json {time.time()}"
    team.chat("ok", text=text, response_format={"type": "json_object"}, temperature=0, seed=7, user="u")
    sent = team.gateway.sent(text)[0]["body"]
    assert sent["response_format"] == {"type": "json_object"}
    assert (sent["temperature"], sent["seed"]) == (0, 7)


def test_cached_and_reasoning_tokens_are_recorded(team: Team) -> None:
    team.chat("cached-tokens")
    call = team.ended_call()
    assert (call["prompt_tokens"], call["cached_tokens"], call["reasoning_tokens"]) == (100, 60, 15)


def test_a_team_that_records_no_bodies_has_none(gateway: Gateway) -> None:
    team = gateway.team(plan={"record_bodies": False})
    team.chat("ok")
    call = team.ended_call()
    assert (call["request_data"], call["response_data"]) == (None, None)


def test_a_big_body_is_recorded_by_its_size_only(team: Team) -> None:
    team.chat("ok", text="word " * 20_000)
    call = team.ended_call()
    assert call["request_data"]["truncated"] is True
    assert call["request_data"]["bytes"] > 100_000


def test_tokens_can_be_the_currency(gateway: Gateway) -> None:
    team = gateway.team(plan={"budget_mode": "consumption_tokens", "tokens_per_credit": 1000})
    team.chat("ok")
    call = team.ended_call()
    assert call["credits_charged"] == Decimal("0.023")
    assert call["cost_usd"] == Decimal("0.0000195")
    team.check_books()


# Jobs -------------------------------------------------------------------------------------------------------------------


def test_a_call_names_its_job_by_header_or_metadata(team: Team) -> None:
    first, second = team.job(), team.job()
    team.chat("ok", extra_headers={"x-job-id": str(first), "x-purpose": "header"})
    team.chat("ok", metadata={"job_id": str(second), "purpose": "metadata"})
    assert [(call["job_id"], call["purpose"]) for call in team.calls()] == [(first, "header"), (second, "metadata")]
    states = team.gateway.rows("SELECT status, started_at FROM credits.jobs WHERE team_id = %s", team.team_id)
    assert all(job["status"] == "in_progress" and job["started_at"] for job in states)
    team.check_books()


def refused(team: Team, model: str = "ok", **more: object) -> dict[str, object]:
    """A call that must be refused: nothing recorded, nothing held, nothing sent to the provider."""
    text = f"refused {time.time_ns()}"
    with team.http() as http:
        headers = more.pop("headers", {})
        response = http.post(
            "/v1/chat/completions",
            headers=headers,  # type: ignore[arg-type]
            json={"model": model, "messages": [{"role": "user", "content": text}]} | more,
        )
    assert response.status_code >= 400, response.text
    assert team.gateway.sent(text) == []
    assert team.calls() == []
    assert team.balance()["credits_held"] == 0
    error: dict[str, object] = response.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert "litellm." not in str(error["message"]), "an exception of LiteLLM's"
    return error | {"status": response.status_code}


def test_closed_foreign_unknown_and_malformed_jobs_are_refused(team: Team, other_team: Team) -> None:
    closed = team.job()
    with team.http() as http:
        assert http.post(f"/api/jobs/{closed}/complete", json={"status": "completed"}).status_code == 200
    for job_id, status, code in (
        (closed, 409, "job_closed"),
        (other_team.job(), 403, "job_not_yours"),
        (UUID(int=7), 404, "not_found"),
        ("nonsense", 404, "not_found"),
    ):
        error = refused(team, headers={"x-job-id": str(job_id)})
        assert (error["status"], error["code"], error["param"]) == (status, code, "job_id")


def test_a_team_may_require_jobs(gateway: Gateway) -> None:
    team = gateway.team(plan={"require_job": True})
    assert refused(team)["code"] == "job_required"
    team.chat("ok", extra_headers={"x-job-id": str(team.job())})
    team.check_books()


@pytest.mark.parametrize("stream", [False, True])
def test_job_calls_answer_in_openais_shape(team: Team, stream: bool) -> None:
    job = team.job()
    body = {
        "model": "ok",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 8,
        "purpose": "page_1",
        "temperature": 0.5,
    }
    with team.http() as http:
        if stream:
            with http.stream("POST", f"/api/jobs/{job}/llm-call-stream", json=body) as response:
                lines = [line for line in response.iter_lines() if line]
            assert response.headers["content-type"].startswith("text/event-stream")
            assert all(line.startswith("data: ") for line in lines)
            assert lines[-1] == "data: [DONE]"
        else:
            response = http.post(f"/api/jobs/{job}/llm-call", json=body)
            assert response.json()["choices"][0]["message"]["content"].startswith("Hello,")
            assert response.headers["x-credits-charged"] == "0.000195"
    assert response.status_code == 200
    assert response.headers["x-credits-job-id"] == str(job)
    call = team.ended_call()
    assert (call["job_id"], call["purpose"], call["credits_charged"]) == (job, "page_1", Decimal("0.000195"))
    assert call["endpoint"] == f"/api/jobs/{{job_id}}/llm-call{'-stream' if stream else ''}"
    team.check_books()


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[1]", 422, None),
        (b'{"model": "ok"}', 422, "messages"),
        (b'{"messages": []}', 422, "model"),
        (b'{"model": "ok", "messages": [], "surprise": 1}', 422, "surprise"),
        (b'{"model": "ok", "messages": [], "stream": true}', 422, "stream"),
        (b'{"model": "ok", "messages": []}', 422, "messages"),
        (b'{"model": "ok", "messages": [1]}', 422, "messages[0]"),
        (b'{"model": "ok", "messages": [{"role": "user", "content": "x"}], "purpose": "a\\u0000b"}', 422, "purpose"),
        (b'{"model": "ok", "messages": [{"role": "user", "content": "x"}], "purpose": 5}', 422, "purpose"),
        (b'{"model": "ok", "messages": [{"role": "user", "content": "x"}], "max_tokens": -1}', 422, "max_tokens"),
        (b'{"model": "ok", "messages": [{"role": "user", "content": "x"}], "max_tokens": "ten"}', 422, "max_tokens"),
        (b'{"model": "ok", "messages": [{"role": "user", "content": "x"}], "n": 1000}', 422, "n"),
        (b'{"model": 5, "messages": [{"role": "user", "content": "x"}]}', 422, "model"),
        (b'{"model": "ok", "messages": "hi"}', 422, "messages"),
        (b"[" * 100_000, 400, None),
    ],
)
def test_bad_job_calls_are_refused_by_field(team: Team, body: bytes, status: int, param: str | None) -> None:
    with team.http() as http:
        response = http.post(f"/api/jobs/{team.job()}/llm-call", content=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param), error
    assert team.calls() == []


# Access -------------------------------------------------------------------------------------------------------------------


def test_unknown_and_foreign_models_are_refused_alike(team: Team, gateway: Gateway) -> None:
    for model in ("nope", "outside", "OK", " ok", "ok ", "ok,ok", "openai/gpt-3.5-turbo", "ok\u200b", "x" * 300):
        error = refused(team, model)
        assert (error["status"], error["code"], error["param"]) == (403, "model_not_allowed", "model")
    nobody = gateway.team(groups=[])
    assert refused(nobody)["code"] == "model_not_allowed"


@pytest.mark.parametrize(
    "override",
    [
        {"fallbacks": ["outside"]},
        {"api_base": "http://127.0.0.1:1"},
        {"base_url": "http://127.0.0.1:1"},
        {"api_key": "sk-mine"},
        {"no-log": True},
        {"mock_testing_fallbacks": True},
        {"input_cost_per_token": 0},
        {"user_config": {"model_list": []}},
        {"router_settings_override": {"fallbacks": []}},
        {"context_window_fallbacks": [{"ok": ["outside"]}]},
        {"cache": {"no-cache": True}},
        {"num_retries": 100},
        {"timeout": 100000},
        {"litellm_metadata": {"x": 1}},
        {"model_list": []},
        {"custom_llm_provider": "anthropic"},
        {"fastest_response": True},
    ],
)
def test_what_is_the_operators_to_set_is_refused(team: Team, override: dict[str, object]) -> None:
    assert refused(team, **override)["status"] in (400, 401, 403)


def test_a_group_name_serves_from_its_first_usable_alias_and_falls_back(gateway: Gateway) -> None:
    name = f"group-{time.time_ns()}"
    gateway.call(
        "POST",
        "/api/models/aliases/create",
        {"model_alias": f"{name}-undeployed", "provider": "openai", "actual_model": "gone"},
    )
    aliases = [f"{name}-undeployed", "err500", "ok"]
    gateway.call("POST", "/api/model-access-groups/create", {"group_name": name, "model_aliases": aliases})
    team = gateway.team(groups=[name])
    assert team.chat(name).choices[0].message.content.startswith("Hello,")
    call = team.ended_call()
    assert (call["requested_model"], call["model_group_used"], call["model_alias"]) == (name, name, "ok")
    team.check_books()
    with team.http() as http:
        assert [entry["id"] for entry in http.get("/v1/models").json()["data"]] == [*aliases, name]


def test_a_key_lists_what_it_may_call_and_nothing_else(team: Team, gateway: Gateway) -> None:
    with team.http() as http:
        listed = {entry["id"] for entry in http.get("/v1/models").json()["data"]}
        assert listed >= {*gateway.aliases, "everything"}
        assert "outside" not in listed
        for path in (
            "/v2/model/info",
            "/model_group/info",
            "/key/info",
            "/config/yaml",
            "/spend/logs",
            "/health",
        ):
            response = http.get(path)
            assert response.status_code == 403, path
            assert response.json()["error"]["code"] == "route_not_metered"
        for path in (
            "/key/generate",
            "/v1/responses/resp_1/cancel",
            "/v1/threads",
            "/anthropic/v1/messages",
            "/v1/batches",
        ):
            response = http.post(path, json={"model": "ok", "input": "x", "messages": []})
            assert response.status_code == 403, path
            assert response.json()["error"]["code"] == "route_not_metered"


def test_no_trace_of_the_operators_deployments_in_headers(team: Team) -> None:
    answer = team.client().chat.completions.with_raw_response.create(
        model="ok", messages=[{"role": "user", "content": "hi"}]
    )
    leaks = [name for name in answer.headers if name.startswith(("x-litellm-", "llm_provider-"))]
    assert leaks == ["x-litellm-call-id"]


def test_two_teams_never_see_each_other(team: Team, other_team: Team) -> None:
    team.chat("ok")
    job = team.job()
    with other_team.http() as http:
        for method, path in (
            ("GET", f"/api/jobs/{job}"),
            ("POST", f"/api/jobs/{job}/complete"),
            ("DELETE", f"/api/jobs/{job}"),
            ("GET", f"/api/credits/teams/{team.team_id}/balance"),
            ("GET", f"/api/teams/{team.team_id}/calls"),
        ):
            response = http.request(method, path, json={"status": "completed"} if method == "POST" else None)
            assert response.status_code == 403, (method, path, response.text)
    assert other_team.calls() == []
    assert other_team.balance()["credits_used"] == 0
