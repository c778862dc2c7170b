"""The hooks by themselves: LiteLLM's own router in this process, a real ledger, and respx in the provider's place.

The hooks are called in the order in which LiteLLM's proxy calls them. No proxy runs, and no socket to a provider is opened.
At the end: what the hooks rely on in the installed LiteLLM, each with the promise (DESIGN 1) that would break with it.
"""

import asyncio
import inspect
import json
import os
import threading
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest
import respx

from litellm_credits.catalog.aliases import Aliases
from litellm_credits.catalog.groups import Groups
from litellm_credits.demo.provider import Chunks, completion, usage_of
from litellm_credits.engine import Engine
from litellm_credits.errors import InsufficientCredits, RouteNotMetered
from litellm_credits.ledger.grants import Grants
from litellm_credits.settings import Settings
from litellm_credits.tenancy.organizations import Organizations
from litellm_credits.tenancy.principals import Admin, Principal
from litellm_credits.tenancy.teams import Teams
from tests.ledger_rig import Rig, eventually

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else LiteLLM asks the network for prices

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a scandir that LiteLLM leaves open at import
    import litellm
    from fastapi import HTTPException, Request
    from litellm.caching.dual_cache import DualCache
    from litellm.exceptions import InternalServerError
    from litellm.integrations.custom_logger import CustomLogger
    from litellm.proxy import proxy_server
    from litellm.proxy._types import ProxyException, UserAPIKeyAuth
    from litellm.proxy.utils import ProxyLogging
    from litellm.router import Router
    from litellm.types.utils import all_litellm_params

    from litellm_credits.pricing.plan import Plan
    from litellm_credits.proxy.admission import Admissions
    from litellm_credits.proxy.call import CURRENT, Call
    from litellm_credits.proxy.hooks import CreditsHooks
    from litellm_credits.proxy.refusal import refuse
    from litellm_credits.proxy.resolution import Names
    from litellm_credits.proxy.routes import TABLE
    from litellm_credits.proxy.settlement import Settlements

pytestmark = pytest.mark.filterwarnings(
    "ignore:Item .* using the `ReadOnly` qualifier:UserWarning"
)  # LiteLLM's own types

PROMPT = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
WORDS = ["Hello,", "this", "is", "a", "test!", "Bye", "for", "now."]
USAGE = usage_of(15, 8)
CHARGE = Decimal("0.000195")
"""15 and 8 tokens at 0.0005 and 0.0015 dollars per 1,000, 10 credits a dollar."""

DEPLOYMENTS = ("first", "second", "outside")
"""Each at a host of its own, https://<name>.test. The team's group holds the first two."""


class Endless(httpx.AsyncByteStream):
    """A provider's stream that sends these events and then nothing, for ever."""

    def __init__(self, *events: bytes) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._events:
            yield event
        await asyncio.Event().wait()


def whole(usage: object = USAGE) -> httpx.Response:
    """The provider's unstreamed answer of eight words."""
    choices = [{"index": 0, "message": {"role": "assistant", "content": " ".join(WORDS)}, "finish_reason": "stop"}]
    return httpx.Response(200, json=completion("gpt-3.5-turbo", choices, usage))  # type: ignore[arg-type]


def streamed(usage: object = USAGE) -> httpx.Response:
    """The same as a stream."""
    chunks = Chunks("gpt-3.5-turbo")
    events = [chunks.delta({"content": f" {word}"}) for word in WORDS] + [chunks.delta({}, finish="stop")]
    if usage is not None:
        events.append(chunks.usage(usage))
    return httpx.Response(200, content=b"".join([*events, Chunks.DONE]), headers={"content-type": "text/event-stream"})


def failing(status: int = 500) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": f"upstream says {status}", "type": "x", "code": None}})


@dataclass
class Proxy:
    """What LiteLLM's proxy does with one request, from after auth to the last byte, with our hooks and nothing else."""

    engine: Engine
    rig: Rig
    router: Router
    provider: respx.MockRouter
    hooks: CreditsHooks
    principal: Principal
    key: UserAPIKeyAuth = field(default_factory=UserAPIKeyAuth)

    def arrive(self, caller: Admin | Principal | None = None, **headers: str) -> Call:
        """A request comes in, as the ring and auth note it."""
        path = "/v1/chat/completions"
        call = Call("POST", path, headers, match=TABLE.find("POST", path), caller=caller or self.principal)
        CURRENT.set(call)
        return call

    @staticmethod
    def data(**body: Any) -> dict[str, Any]:
        """LiteLLM's request data for a body."""
        body = {"model": "first", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8} | body
        return body | {
            "litellm_call_id": str(uuid4()),
            "metadata": {},
            "proxy_server_request": {"headers": {}, "body": dict(body)},
        }

    async def admit(self, call_type: str = "acompletion", **body: Any) -> dict[str, Any]:
        """The request data that leaves the pre-call hook."""
        data = self.data(**body)
        call = CURRENT.get()
        if call is not None:
            call.body = data["proxy_server_request"]["body"]
        return await self.hooks.async_pre_call_hook(self.key, DualCache(), data, call_type)

    async def dispatch(self, data: dict[str, Any]) -> Any:
        """The provider's answer, or its error, through LiteLLM's router."""
        return await self.router.acompletion(**data)

    async def deliver(self, data: dict[str, Any], response: Any) -> None:
        """An unstreamed answer leaves, as soon as its settle lets it."""
        await self.hooks.async_post_call_success_hook(data, self.key, response)
        call = CURRENT.get()
        assert call is not None
        await Settlements.settled(call)

    async def chunks(self, data: dict[str, Any], response: Any) -> AsyncGenerator[Any, None]:
        """A stream as the client is sent it."""
        await self.hooks.async_post_call_response_headers_hook(data, self.key, response)
        stream = self.hooks.async_post_call_streaming_iterator_hook(self.key, response, data)
        try:
            async for chunk in stream:
                yield chunk
        finally:
            await stream.aclose()

    async def fail(self, data: dict[str, Any], error: Exception) -> None:
        """The call failed, LiteLLM says."""
        await self.hooks.async_post_call_failure_hook(data, error, self.key)

    async def chat(self, **body: Any) -> None:
        """One unstreamed call from beginning to end."""
        data = await self.admit(**body)
        await self.deliver(data, await self.dispatch(data))

    async def stream(self, **body: Any) -> list[Any]:
        """One streamed call from beginning to end."""
        data = await self.admit(stream=True, **body)
        return [chunk async for chunk in self.chunks(data, await self.dispatch(data))]

    def rows(self) -> list[dict[str, Any]]:
        return self.rig.calls("alpha")

    def row(self) -> dict[str, Any]:
        """The only call there is, with the books checked around it."""
        self.rig.money("alpha")
        (row,) = self.rows()
        return row

    def route(self, deployment: str) -> respx.Route:
        return self.provider.routes[deployment]


@pytest.fixture
def provider() -> Iterator[respx.MockRouter]:
    """Every deployment's host, answering whole or streamed as asked; anything else that leaves is an error."""
    with respx.mock(assert_all_called=False) as router:
        for name in DEPLOYMENTS:
            route = router.post(f"https://{name}.test/v1/chat/completions", name=name)
            route.mock(side_effect=lambda request: streamed() if json.loads(request.content).get("stream") else whole())
        yield router


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch, provider: respx.MockRouter) -> Router:
    """LiteLLM's router over the deployments, with a fallback out of the team's groups, as the proxy's."""
    monkeypatch.setattr(litellm, "disable_aiohttp_transport", True)  # respx sees httpx only
    monkeypatch.setattr(litellm, "in_memory_llm_clients_cache", type(litellm.in_memory_llm_clients_cache)())
    router = Router(
        model_list=[
            {
                "model_name": name,
                "litellm_params": {
                    "model": "openai/gpt-3.5-turbo",
                    "api_base": f"https://{name}.test/v1",
                    "api_key": "sk-provider",
                    "max_retries": 0,
                },
            }
            for name in DEPLOYMENTS
        ],
        fallbacks=[{"first": ["outside"]}],
        num_retries=0,
        disable_cooldowns=True,
    )
    monkeypatch.setattr(proxy_server, "llm_router", router)
    return router


@pytest.fixture
async def proxy(
    database_url: str, router: Router, provider: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Proxy]:
    """The team alpha with 100 credits, and the aliases first, second (in its group) and outside (in another)."""
    engine = Engine(database_url, Settings(lease_seconds=60), master_key=lambda: None)
    await engine.start()
    rig = Rig(database_url)
    aliases, groups = Aliases(engine.db), Groups(engine.db)
    for name in DEPLOYMENTS:
        await aliases.create(
            name,
            provider="openai",
            actual_model=name,
            display_name=None,
            description=None,
            pricing_input=Decimal("0.0005"),
            pricing_output=Decimal("0.0015"),
            pricing_rates=None,
            max_output_tokens=None,
            access_groups=[],
        )
    await groups.create("chat", display_name=None, description=None, model_aliases=["first", "second"])
    await groups.create("other", display_name=None, description=None, model_aliases=["outside"])
    await Organizations(engine.db).create("acme", name="Acme", metadata={})
    team = await Teams(engine.db).create(
        "alpha",
        organization_id="acme",
        team_alias=None,
        access_groups=["chat"],
        credits=Decimal(100),
        metadata={},
        plan=Plan(),
    )
    principal = await engine.authenticator.caller(team.virtual_key)
    assert isinstance(principal, Principal)
    admissions = Admissions(engine, Names(engine, {}))
    hooks = CreditsHooks(engine, admissions, Settlements(engine.ledger, record_bytes=32_768))
    monkeypatch.setattr(litellm, "callbacks", [hooks])
    yield Proxy(engine, rig, router, provider, hooks, principal)
    await engine.stop()
    rig.close()


# One call ---------------------------------------------------------------------------------------------------------------


async def test_the_hold_is_in_the_database_when_the_request_leaves(proxy: Proxy) -> None:
    """P2. Read on another connection, so what is seen is committed."""
    seen: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.extend(proxy.rows())
        return whole()

    proxy.route("first").mock(side_effect=answer)
    call = proxy.arrive()
    await proxy.chat()
    (held,) = seen
    assert (held["status"], held["credits_charged"]) == ("held", 0)
    assert held["credits_held"] > CHARGE
    assert call.held is not None
    assert held["call_id"] == call.held.call_id


async def test_a_whole_answer_is_settled_from_its_usage(proxy: Proxy) -> None:
    call = proxy.arrive()
    await proxy.chat()
    row = proxy.row()
    assert (row["status"], row["basis"], row["flags"]) == ("settled", "provider_usage", [])
    assert (row["prompt_tokens"], row["completion_tokens"]) == (15, 8)
    assert row["credits_charged"] == CHARGE
    assert row["cost_usd"] == Decimal("0.0000195")
    assert row["provider_cost_usd"] > 0
    assert row["response_data"]["choices"][0]["message"]["content"] == " ".join(WORDS)
    assert call.receipt is not None
    assert (call.receipt.charged, call.receipt.remaining) == (CHARGE, 100 - CHARGE)


async def test_a_stream_is_settled_from_its_usage_before_its_end_is_read(proxy: Proxy) -> None:
    proxy.arrive()
    data = await proxy.admit(stream=True)
    chunks = proxy.chunks(data, await proxy.dispatch(data))
    text = ""
    async for chunk in chunks:
        assert proxy.rows()[0]["status"] == "held"
        text += chunk.choices[0].delta.content or ""
        assert not getattr(chunk, "usage", None), "a usage chunk that nobody asked for"
    assert text.split() == WORDS
    row = proxy.row()
    assert (row["status"], row["basis"], row["flags"], row["stream"]) == ("settled", "provider_usage", [], True)
    assert row["credits_charged"] == CHARGE
    assert row["time_to_first_token_ms"] is not None


async def test_the_usage_chunk_of_a_stream_carries_the_charge(proxy: Proxy) -> None:
    proxy.arrive()
    *_, last = await proxy.stream(stream_options={"include_usage": True})
    assert isinstance(last, bytes)
    body = json.loads(last.removeprefix(b"data: "), parse_float=Decimal)
    assert body["credits"]["charged"] == CHARGE
    assert body["model"] == "first"
    assert proxy.row()["credits_charged"] == CHARGE


async def test_a_chunk_is_passed_on_before_the_next_is_awaited(proxy: Proxy) -> None:
    """P10. The provider sends nothing after the second word, and yet both arrive."""
    two = [Chunks("gpt").delta({"content": word}) for word in ("Hello,", " this")]
    headers = {"content-type": "text/event-stream"}
    proxy.route("first").mock(return_value=httpx.Response(200, stream=Endless(*two), headers=headers))
    proxy.arrive()
    data = await proxy.admit(stream=True)
    chunks = proxy.chunks(data, await proxy.dispatch(data))
    async with asyncio.timeout(20):
        got = [(await anext(chunks)).choices[0].delta.content for _ in range(2)]
    assert "".join(got) == "Hello, this"
    await chunks.aclose()


@pytest.mark.parametrize("status", [400, 429, 500, 503])
async def test_an_error_of_the_provider_voids(proxy: Proxy, status: int) -> None:
    proxy.route("first").mock(return_value=failing(status))
    proxy.arrive()
    data = await proxy.admit()
    with pytest.raises(Exception, match=f"upstream says {status}") as error:
        await proxy.dispatch(data)
    await proxy.fail(data, error.value)
    row = proxy.row()
    assert (row["status"], row["basis"], row["credits_charged"]) == ("voided", None, 0)
    assert f"upstream says {status}" in row["error"]["message"]
    assert proxy.rig.account("alpha")["credits_held"] == 0


# Repeated, late, in doubt ---------------------------------------------------------------------------------------------------


async def test_the_pre_call_hook_run_twice_holds_once(proxy: Proxy) -> None:
    """LiteLLM does so when it falls back before dispatch, each time with another litellm_call_id."""
    call = proxy.arrive()
    await proxy.admit()
    held = call.held
    data = await proxy.admit()
    assert call.held is held
    assert data["model"] == "first"
    assert data["fallbacks"] == []
    await proxy.deliver(data, await proxy.dispatch(data))
    assert proxy.row()["credits_charged"] == CHARGE


async def test_a_settle_run_twice_charges_once(proxy: Proxy) -> None:
    proxy.arrive()
    data = await proxy.admit()
    response = await proxy.dispatch(data)
    await proxy.deliver(data, response)
    await proxy.deliver(data, response)
    assert proxy.row()["credits_charged"] == CHARGE
    assert [entry["credits_amount"] for entry in proxy.rig.entries("alpha")] == [100, -CHARGE]


async def test_a_settle_replayed_by_a_worker_that_forgot_charges_once(proxy: Proxy) -> None:
    """P3 by the database alone: the memory of the first settle is wiped."""
    call = proxy.arrive()
    data = await proxy.admit()
    response = await proxy.dispatch(data)
    await proxy.deliver(data, response)
    call.ended = False
    await proxy.deliver(data, response)
    assert call.receipt is None, "the ledger says that it had ended before"
    assert proxy.row()["credits_charged"] == CHARGE
    assert len(proxy.rig.entries("alpha")) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_failure_after_success_changes_nothing(proxy: Proxy, stream: bool) -> None:
    call = proxy.arrive()
    if stream:
        await proxy.stream()
    else:
        await proxy.chat()
    before = proxy.row()
    await proxy.fail({}, RuntimeError("another plugin failed"))
    call.ended = False  # nor when only the database remembers
    await proxy.fail({}, RuntimeError("another plugin failed"))
    assert proxy.row() == before


async def test_a_success_after_failure_changes_nothing(proxy: Proxy) -> None:
    call = proxy.arrive()
    data = await proxy.admit()
    await proxy.fail(data, RuntimeError("gave up"))
    before = proxy.row()
    call.ended = False
    await proxy.deliver(data, await proxy.dispatch(data))
    assert before["status"] == "voided"
    assert proxy.row() == before


async def test_an_answer_that_another_plugin_refuses_was_still_given(proxy: Proxy) -> None:
    proxy.arrive()
    data = await proxy.admit()
    await proxy.dispatch(data)
    await proxy.fail(data, RuntimeError("a guardrail said no"))
    row = proxy.row()
    assert (row["status"], row["basis"], row["flags"]) == ("settled", "provider_usage", ["failed_after_answer"])
    assert row["credits_charged"] == CHARGE


@pytest.mark.parametrize("end", ["cancelled", "closed"])
async def test_a_stream_whose_reader_goes_away_is_charged_for_what_came(proxy: Proxy, end: str) -> None:
    events = [Chunks("gpt").delta({"content": word}) for word in ("Hello,", " this", " is")]
    headers = {"content-type": "text/event-stream"}
    proxy.route("first").mock(return_value=httpx.Response(200, stream=Endless(*events), headers=headers))
    call = proxy.arrive()
    data = await proxy.admit(stream=True)
    chunks = proxy.chunks(data, await proxy.dispatch(data))

    async def read(most: int | None) -> None:
        async for _ in chunks:
            if call.reader is not None and len(call.reader.text) == most:
                return

    if end == "cancelled":
        reader = asyncio.create_task(read(None))
        await eventually(lambda: call.reader is not None and len(call.reader.text) == 3)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
    else:
        async with asyncio.timeout(20):
            await read(3)
        await chunks.aclose()
    await eventually(lambda: proxy.rows()[0]["status"] != "held")
    row = proxy.row()
    assert (row["status"], row["basis"]) == ("settled", "counted_output")
    assert set(row["flags"]) == {"client_disconnected", "usage_missing"}
    assert row["completion_tokens"] == 4  # the comma is one
    assert 0 < row["credits_charged"] < row["credits_held"]
    assert row["response_data"]["content"] == "Hello, this is"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_when_the_tokenizer_fails_output_is_counted_by_bytes(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(litellm, "token_counter", _broken)
    proxy.route("first").mock(return_value=streamed(None) if stream else whole(None))
    proxy.arrive()
    await (proxy.stream(max_tokens=100) if stream else proxy.chat(max_tokens=100))
    row = proxy.row()
    assert (row["status"], row["basis"]) == ("settled", "counted_output")
    # LiteLLM estimates a stream itself, by a tokenizer of its own; a whole answer it does not.
    assert row["completion_tokens"] == (11 if stream else -(-len(" ".join(WORDS)) // 4))
    assert 0 < row["credits_charged"] < row["credits_held"]


async def test_a_call_cancelled_while_its_tokens_are_counted_is_settled(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hold would else be renewed for as long as the process lives."""
    counting, finish = threading.Event(), threading.Event()

    def slow(*args: object, **kwargs: object) -> int:
        counting.set()
        assert finish.wait(20)
        return 5

    monkeypatch.setattr(litellm, "token_counter", slow)
    proxy.route("first").mock(return_value=whole(None))
    proxy.arrive()
    chat = asyncio.create_task(proxy.chat(max_tokens=100))
    assert await asyncio.to_thread(counting.wait, 20)
    chat.cancel()
    with pytest.raises(asyncio.CancelledError):
        await chat
    finish.set()
    await proxy.engine.ledger.drain()
    row = proxy.row()
    assert (row["status"], row["basis"]) == ("settled", "counted_output")


async def test_an_answer_that_cannot_be_priced_keeps_no_hold(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litellm_credits.proxy.settlement.charge", _broken)
    proxy.route("first").mock(return_value=whole(None))
    proxy.arrive()
    await proxy.chat(max_tokens=100)
    row = proxy.row()
    assert (row["status"], row["flags"]) == ("voided", ["needs_reconciliation"])


async def test_when_the_tokenizer_fails_the_cheap_bound_decides(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call would fit by exact tokens, but not by bytes: without a tokenizer it is refused, never let through unbounded."""
    text = "word " * 1000
    await Grants(proxy.engine.db).adjust("alpha", Decimal("-99.99"), reason="leave 0.01")
    call = proxy.arrive()
    await proxy.admit(messages=[{"role": "user", "content": text}])
    assert call.held is not None
    await proxy.fail({}, RuntimeError("not sent"))
    monkeypatch.setattr(litellm, "token_counter", _broken)
    refused = proxy.arrive()
    with pytest.raises(ProxyException) as refusal:
        await proxy.admit(messages=[{"role": "user", "content": text}])
    assert refusal.value.code == "402"
    assert isinstance(refused.refusal, InsufficientCredits)
    assert refused.held is None
    assert len(proxy.rows()) == 1


def _broken(*args: object, **kwargs: object) -> int:
    raise RuntimeError("no tokenizer here")


# Who may call, and what may serve ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_admins_calls_pass_unmetered(proxy: Proxy, stream: bool) -> None:
    proxy.arrive(Admin())
    if stream:
        assert len(await proxy.stream(model="outside")) > len(WORDS)
    else:
        await proxy.chat(model="outside")
    assert proxy.rows() == []


async def test_without_a_request_of_the_ring_nothing_leaves(proxy: Proxy) -> None:
    CURRENT.set(None)
    with pytest.raises(ProxyException) as refusal:
        await proxy.admit()
    assert (refusal.value.code, refusal.value.type) == ("403", RouteNotMetered.type)
    assert proxy.rows() == []


@pytest.mark.parametrize("call_type", ["aembedding", "atext_completion", "aresponses", "pass_through_endpoint"])
async def test_calls_of_other_kinds_are_refused(proxy: Proxy, call_type: str) -> None:
    call = proxy.arrive()
    with pytest.raises(ProxyException) as refusal:
        await proxy.admit(call_type)
    assert refusal.value.code == "403"
    assert call.refusal is not None
    assert call.refusal.code == "route_not_metered"
    assert proxy.rows() == []


async def test_a_request_names_only_what_was_admitted(proxy: Proxy) -> None:
    """P8. A group's name becomes its first deployment, and the rest of the group its only fallbacks."""
    call = proxy.arrive()
    data = await proxy.admit(model="chat")
    assert (data["model"], data["fallbacks"]) == ("first", ["second"])
    assert data["context_window_fallbacks"] == data["content_policy_fallbacks"] == []
    assert call.admission is not None
    assert [one.alias.name for one in call.admission.candidates] == ["first", "second"]
    await proxy.deliver(data, await proxy.dispatch(data))
    sent = json.loads(proxy.route("first").calls.last.request.content)
    assert set(sent) == {"model", "messages", "max_tokens"}, "nothing of ours or of LiteLLM's reaches the provider"
    assert sent["model"] == "gpt-3.5-turbo"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_admitted_fallback_serves_and_the_routers_own_does_not(proxy: Proxy, stream: bool) -> None:
    proxy.route("first").mock(return_value=failing())
    proxy.arrive()
    await (proxy.stream(model="chat") if stream else proxy.chat(model="chat"))
    row = proxy.row()
    assert (row["model_alias"], row["status"], row["credits_charged"]) == ("second", "settled", CHARGE)
    assert proxy.route("second").call_count == 1
    assert proxy.route("outside").call_count == 0


async def test_the_routers_fallback_out_of_the_teams_groups_is_not_taken(proxy: Proxy) -> None:
    proxy.route("first").mock(return_value=failing())
    proxy.arrive()
    data = await proxy.admit(model="first")
    with pytest.raises(InternalServerError):
        await proxy.dispatch(data)
    assert proxy.route("outside").call_count == 0


async def test_a_deployment_that_was_not_admitted_is_stopped(proxy: Proxy) -> None:
    """P8 on the deployment that serves, whatever made LiteLLM choose it."""
    proxy.arrive()
    data = await proxy.admit()
    with pytest.raises(HTTPException, match="not admitted") as refusal:
        await proxy.dispatch(data | {"model": "outside"})
    assert refusal.value.status_code == 403
    assert proxy.route("outside").call_count == 0
    await proxy.fail(data, refusal.value)
    assert proxy.row()["status"] == "voided"


@pytest.mark.parametrize(
    "name", ["fallbacks", "api_base", "mock_response", "no-log", "input_cost_per_token", "timeout"]
)
async def test_a_request_cannot_choose_where_it_goes_or_what_it_costs(proxy: Proxy, name: str) -> None:
    call = proxy.arrive()
    with pytest.raises(ProxyException) as refusal:
        await proxy.admit(**{name: "x"})
    assert refusal.value.param == name
    assert call.refusal is not None
    assert call.refusal.code == "parameter_not_allowed"
    assert proxy.rows() == []


# What is relied on in LiteLLM ---------------------------------------------------------------------------------------------


@pytest.fixture
def logging() -> ProxyLogging:
    """LiteLLM's own caller of callbacks."""
    return ProxyLogging(user_api_key_cache=proxy_server.user_api_key_cache)


class Noting(CustomLogger):
    """A plugin that notes which of its hooks are called."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    async def async_pre_call_hook(self, *args: Any, **kwargs: Any) -> None:
        self.called.append("pre_call")

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: UserAPIKeyAuth, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        self.called.append("iterator")
        async for chunk in response:
            yield chunk


class Heir(Noting):
    """Inherits all of it."""


async def test_litellm_finds_hooks_on_the_leaf_class_only(
    logging: ProxyLogging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, P4. So CreditsHooks states its hooks itself; a subclass of it would meter nothing."""
    key, data = UserAPIKeyAuth(), Proxy.data()

    async def run(callback: CustomLogger) -> None:
        monkeypatch.setattr(litellm, "callbacks", [callback])
        await logging.pre_call_hook(user_api_key_dict=key, data=dict(data), call_type="acompletion")
        stream = logging.async_post_call_streaming_iterator_hook(_one_chunk(), key, dict(data))
        assert [chunk async for chunk in stream]

    itself, heir = Noting(), Heir()
    await run(itself)
    await run(heir)
    assert itself.called == ["pre_call", "iterator"]
    assert heir.called == [], "inherited hooks are found now: the warning in hooks.py can go"
    ours = {name for name in vars(CreditsHooks) if name.startswith("async_")}
    assert {"async_pre_call_hook", "async_post_call_streaming_iterator_hook", "async_post_call_success_hook"} <= ours


async def _one_chunk() -> AsyncIterator[Any]:
    yield litellm.ModelResponseStream()


@pytest.mark.parametrize("name", [name for name in vars(CreditsHooks) if name.startswith("async_")])
def test_litellm_knows_every_hook_that_we_override(name: str) -> None:
    """P2, P4, P5. One that LiteLLM renamed would silently never be called."""
    assert callable(vars(CustomLogger)[name])


async def test_a_proxy_exception_reaches_the_client_with_its_status_and_type() -> None:
    """P8. The ring puts our body in place of one whose status is an error; with another status the refusal would be lost."""
    error = refuse(RouteNotMetered(method="POST", path="/v1/embeddings", reason="so"))
    assert isinstance(error, ProxyException)
    request = Request({"type": "http", "method": "POST", "path": "/v1/embeddings", "headers": []})
    handler: Callable[..., Any] = proxy_server.app.exception_handlers[ProxyException]
    response = await handler(request, error)
    assert response.status_code == 403
    assert json.loads(response.body)["error"]["type"] == RouteNotMetered.type


async def test_chunks_have_choices_and_the_last_has_usage_alone(proxy: Proxy) -> None:
    """P4, P7. The settle of a stream rests on the usage of the closing chunk, which waits for it."""
    proxy.arrive(Admin())
    data = await proxy.admit(stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in await proxy.dispatch(data)]
    assert all(isinstance(chunk.choices, list) for chunk in chunks)
    assert [getattr(chunk, "usage", None) is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    last = chunks[-1]
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (15, 8)
    assert not any(choice.finish_reason or choice.delta.content for choice in last.choices)
    assert last.usage.cost > 0, "LiteLLM's cost of a stream, which aliases without a price are charged by"


@pytest.mark.parametrize("usage", [USAGE, None], ids=["usage", "none"])
async def test_the_stream_wrapper_keeps_the_providers_chunks(proxy: Proxy, usage: object) -> None:
    """P7. They tell the provider's usage from LiteLLM's estimate of it, and what came before a hang-up."""
    proxy.route("first").mock(return_value=streamed(usage))
    proxy.arrive(Admin())
    data = await proxy.admit(stream=True, stream_options={"include_usage": True})
    response = await proxy.dispatch(data)
    chunks = [chunk async for chunk in response]
    assert isinstance(response.chunks, list)
    assert response.chunks[-1].id == chunks[-1].id
    assert any(getattr(chunk, "usage", None) is not None for chunk in response.chunks) is (usage is not None)


async def test_a_whole_answer_carries_litellms_cost(proxy: Proxy) -> None:
    """P7. What aliases without a price of their own are charged by."""
    proxy.arrive(Admin())
    response = await proxy.dispatch(await proxy.admit())
    assert response._hidden_params["response_cost"] > 0


def test_the_shutdown_event_is_looked_up_by_name_when_the_lifespan_ends() -> None:
    """P5. It is replaced by one that first writes what is still to be written."""
    assert inspect.iscoroutinefunction(proxy_server.proxy_shutdown_event)
    lifespan = proxy_server.proxy_startup_event
    assert "proxy_shutdown_event" in getattr(lifespan, "__wrapped__", lifespan).__code__.co_names


async def test_the_middleware_stack_of_the_running_app_can_be_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2, P4, P5. It is how the ring gets around every request."""
    seen: list[str] = []

    async def tap(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    monkeypatch.setattr(proxy_server.app, "middleware_stack", tap)
    transport = httpx.ASGITransport(proxy_server.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
        response = await client.get("/v1/models")
    assert (response.status_code, seen) == (204, ["/v1/models"])


def test_litellm_lists_the_parameters_that_are_its_own() -> None:
    """P8. Requests that state one of them are refused; without the list a request could choose its deployment or its price."""
    assert {"api_base", "api_key", "mock_response", "no-log", "input_cost_per_token", "fallbacks"} <= {
        *all_litellm_params
    }
    ours = {"messages", "max_tokens", "temperature", "tools", "stream", "n", "response_format"}
    assert not ours & {*all_litellm_params}, "OpenAI's own parameters would be refused"


def test_the_configuration_can_be_read_at_start() -> None:
    """P8. Start-up refuses a configuration with which calls would pass unmetered."""
    assert isinstance(proxy_server.proxy_config.get_config_state(), Mapping)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_empty_fallbacks_in_a_request_switch_the_routers_off(proxy: Proxy, stream: bool) -> None:
    """P8. Else a failing call would leave for a model that nobody held for (the deployment hook would stop it, late)."""
    proxy.route("first").mock(return_value=failing())
    proxy.arrive(Admin())
    data = await proxy.admit(stream=stream)
    with pytest.raises(InternalServerError):
        await proxy.dispatch(data | {"fallbacks": []})
    assert proxy.route("outside").call_count == 0
    assert await proxy.dispatch(data)
    assert proxy.route("outside").call_count == 1, "the router has a fallback that was switched off above"
