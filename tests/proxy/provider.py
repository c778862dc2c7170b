"""A provider that misbehaves on demand: the behaviour is in the URL, /b/<behaviour>/v1/chat/completions.

It keeps a log of every request it saw (GET /log), so that a test can tell that nothing was sent, and gates that a test opens
(POST /open/<gate>), so that nothing here waits for the clock where a test can say when.
"""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from litellm_credits.demo.provider import Chunks, completion, usage_of, wanted_tokens, word_tokens

from . import vendors

ANSWER = ["Hello,", "this", "is", "a", "test!", "Bye", "for", "now."]
"""Eight completion tokens, one a word."""

seen: list[dict[str, Any]] = []
ended: Counter[str] = Counter()
gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

Behaviour = Callable[[dict[str, Any], Request], Awaitable[Response]]
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(function: Behaviour) -> Behaviour:
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


def message(content: object, **more: Any) -> list[dict[str, Any]]:
    return [{"index": 0, "message": {"role": "assistant", "content": content, **more}, "finish_reason": "stop"}]


def true_usage(body: dict[str, Any], words: list[str]) -> dict[str, int]:
    return usage_of(word_tokens(body["messages"]), len(words))


def stream(events: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(events, media_type="text/event-stream")


async def words_of(body: dict[str, Any], words: list[str], *, pause: float = 0.0) -> AsyncIterator[bytes]:
    chunks = Chunks(body["model"])
    yield chunks.delta({"role": "assistant", "content": ""})
    for number, word in enumerate(words):
        await asyncio.sleep(pause)
        yield chunks.delta({"content": f" {word}" if number else word})
    yield chunks.delta({}, finish="stop")


def answer(body: dict[str, Any], usage: object, words: list[str] | None = None) -> Response:
    """A whole answer, streamed if the body asks for it, with this usage (None: none)."""
    words = ANSWER[: wanted_tokens(body)] if words is None else words
    if not body.get("stream"):
        return JSONResponse(completion(body["model"], message(" ".join(words)), usage))  # type: ignore[arg-type]

    async def events() -> AsyncIterator[bytes]:
        async for event in words_of(body, words):
            yield event
        if usage is not None:
            yield Chunks(body["model"]).usage(usage)
        yield Chunks.DONE

    return stream(events())


# Sunny ------------------------------------------------------------------------------------------------------------------


@behaviour
async def ok(body: dict[str, Any], request: Request) -> Response:
    if body.get("tools"):
        return await tools(body, request)
    if (body.get("n") or 1) > 1:
        return await choices(body, request)
    return answer(body, true_usage(body, ANSWER[: wanted_tokens(body)]))


async def choices(body: dict[str, Any], request: Request) -> Response:
    usage = usage_of(word_tokens(body["messages"]), len(ANSWER) * body["n"])
    if not body.get("stream"):
        parts = [message(" ".join(ANSWER))[0] | {"index": index} for index in range(body["n"])]
        return JSONResponse(completion(body["model"], parts, usage))

    async def events() -> AsyncIterator[bytes]:
        chunks = Chunks(body["model"])
        for word in ANSWER:
            for index in range(body["n"]):
                yield chunks.delta({"content": word}, index=index)
        for index in range(body["n"]):
            yield chunks.delta({}, index=index, finish="stop")
        yield chunks.usage(usage)
        yield Chunks.DONE

    return stream(events())


async def tools(body: dict[str, Any], request: Request) -> Response:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    usage = usage_of(word_tokens(body["messages"]), 5)
    if not body.get("stream"):
        return JSONResponse(completion(body["model"], message(None, tool_calls=[call]), usage))

    async def events() -> AsyncIterator[bytes]:
        chunks = Chunks(body["model"])
        yield chunks.delta({"role": "assistant", "tool_calls": [{"index": 0, **call}]})
        yield chunks.delta({}, finish="tool_calls")
        yield chunks.usage(usage)
        yield Chunks.DONE

    return stream(events())


@behaviour
async def drip(body: dict[str, Any], request: Request) -> Response:
    """A chunk every 100 ms whose content is the moment it was sent."""

    async def events() -> AsyncIterator[bytes]:
        chunks = Chunks(body["model"])
        for _ in range(8):
            yield chunks.delta({"content": f"{time.time():.6f} "})
            await asyncio.sleep(0.1)
        yield chunks.delta({}, finish="stop")
        yield chunks.usage(usage_of(1, 8))
        yield Chunks.DONE

    return stream(events())


@behaviour
async def gated(body: dict[str, Any], request: Request) -> Response:
    """Answers once the test opens the gate that the first message names."""
    await gates[str(body["messages"][0]["content"])].wait()
    return answer(body, usage_of(1, 1), ["Hi"])


@behaviour
async def cached_tokens(body: dict[str, Any], request: Request) -> Response:
    usage = usage_of(100, 20) | {
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 15},
    }
    return answer(body, usage)


# Usage that is missing or a lie -------------------------------------------------------------------------------------------


@behaviour
async def no_usage(body: dict[str, Any], request: Request) -> Response:
    return answer(body, None)


@behaviour
async def zero_usage(body: dict[str, Any], request: Request) -> Response:
    return answer(body, usage_of(0, 0))


@behaviour
async def empty(body: dict[str, Any], request: Request) -> Response:
    return answer(body, usage_of(0, 0), [])


@behaviour
async def empty_no_usage(body: dict[str, Any], request: Request) -> Response:
    return answer(body, None, [])


@behaviour
async def nothing(body: dict[str, Any], request: Request) -> Response:
    """A stream of [DONE] alone."""

    async def events() -> AsyncIterator[bytes]:
        yield Chunks.DONE

    return stream(events()) if body.get("stream") else answer(body, None, [])


@behaviour
async def negative(body: dict[str, Any], request: Request) -> Response:
    return answer(body, {"prompt_tokens": -5, "completion_tokens": -7, "total_tokens": -12})


@behaviour
async def huge(body: dict[str, Any], request: Request) -> Response:
    return answer(body, usage_of(10**15, 10**15))


@behaviour
async def strings(body: dict[str, Any], request: Request) -> Response:
    return answer(body, {"prompt_tokens": "many", "completion_tokens": "lots", "total_tokens": "all"})


@behaviour
async def missing_fields(body: dict[str, Any], request: Request) -> Response:
    return answer(body, {"total_tokens": 10})


@behaviour
async def above_hold(body: dict[str, Any], request: Request) -> Response:
    """Somewhat more output than was allowed."""
    limit = wanted_tokens(body) or 8
    return answer(body, usage_of(word_tokens(body["messages"]), limit + limit // 2))


@behaviour
async def usage_twice(body: dict[str, Any], request: Request) -> Response:
    async def events() -> AsyncIterator[bytes]:
        chunks = Chunks(body["model"])
        prompt = word_tokens(body["messages"])
        for number, word in enumerate(ANSWER, start=1):
            yield chunks.event(
                {
                    "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}],
                    "usage": usage_of(prompt, number),
                }
            )
        yield chunks.delta({}, finish="stop")
        yield chunks.usage(usage_of(prompt, len(ANSWER)))
        yield Chunks.DONE

    return stream(events())


@behaviour
async def usage_early(body: dict[str, Any], request: Request) -> Response:
    async def events() -> AsyncIterator[bytes]:
        yield Chunks(body["model"]).usage(true_usage(body, ANSWER))
        async for event in words_of(body, ANSWER):
            yield event
        yield Chunks.DONE

    return stream(events())


# Failures -----------------------------------------------------------------------------------------------------------------


def failing(status: int) -> Behaviour:
    async def fail(body: dict[str, Any], request: Request) -> Response:
        return JSONResponse({"error": {"message": f"upstream says {status}", "type": "upstream", "code": None}}, status)

    return fail


BEHAVIOURS |= {f"err{status}": failing(status) for status in (400, 401, 403, 429, 500, 503)}


@behaviour
async def flaky(body: dict[str, Any], request: Request) -> Response:
    """Fails the first request of each conversation (by its first message), then answers."""
    key = f"flaky {body['messages'][0]['content']}"
    ended[key] += 1
    return await (failing(500) if ended[key] == 1 else ok)(body, request)


@behaviour
async def hang(body: dict[str, Any], request: Request) -> Response:
    await asyncio.sleep(3600)
    return answer(body, None)


@behaviour
async def hang_mid(body: dict[str, Any], request: Request) -> Response:
    async def events() -> AsyncIterator[bytes]:
        chunks = Chunks(body["model"])
        yield chunks.delta({"role": "assistant", "content": "Hello,"})
        yield chunks.delta({"content": " this"})
        await asyncio.sleep(3600)

    return stream(events())


@behaviour
async def abort(body: dict[str, Any], request: Request) -> Response:
    """The connection breaks after two words."""

    async def events() -> AsyncIterator[bytes]:
        chunks = Chunks(body["model"])
        yield chunks.delta({"role": "assistant", "content": "Hello,"})
        yield chunks.delta({"content": " this"})
        await asyncio.sleep(0.05)
        raise ConnectionAbortedError

    return stream(events())


@behaviour
async def abort_first(body: dict[str, Any], request: Request) -> Response:
    """The connection breaks before the first chunk."""

    async def events() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.05)
        raise ConnectionAbortedError
        yield b""

    return stream(events())


@behaviour
async def clean_close(body: dict[str, Any], request: Request) -> Response:
    """The stream ends in order, but without finish_reason, usage or [DONE]."""

    async def events() -> AsyncIterator[bytes]:
        chunks = Chunks(body["model"])
        yield chunks.delta({"role": "assistant", "content": "Hello,"})
        yield chunks.delta({"content": " this"})

    return stream(events())


@behaviour
async def error_mid(body: dict[str, Any], request: Request) -> Response:
    """An error event after two words."""

    async def events() -> AsyncIterator[bytes]:
        chunks = Chunks(body["model"])
        yield chunks.delta({"role": "assistant", "content": "Hello,"})
        yield chunks.delta({"content": " this"})
        yield b'data: {"error": {"message": "overloaded", "type": "server_error", "code": 500}}\n\n'

    return stream(events())


@behaviour
async def steady(body: dict[str, Any], request: Request) -> Response:
    """A word every 50 ms until the test opens the gate that the first message names, then usage and [DONE]."""
    gate = gates[str(body["messages"][0]["content"])]

    async def events() -> AsyncIterator[bytes]:
        chunks = Chunks(body["model"])
        words = 0
        while not gate.is_set():
            words += 1
            yield chunks.delta({"content": f"word{words} "})  # LiteLLM breaks off streams that repeat themselves
            await asyncio.sleep(0.05)
        yield chunks.delta({}, finish="stop")
        yield chunks.usage(usage_of(1, words))
        yield Chunks.DONE

    return stream(events())


# The application ------------------------------------------------------------------------------------------------------------


async def chat(request: Request) -> Response:
    body = await request.json()
    name = request.path_params["behaviour"]
    seen.append({"behaviour": name, "model": body["model"], "key": request.headers["authorization"], "body": body})
    return await BEHAVIOURS[name](body, request)


async def log(request: Request) -> Response:
    return Response(json.dumps(seen), media_type="application/json")


async def open_gate(request: Request) -> Response:
    name = request.path_params["gate"]
    gates[name].set()
    vendors.gates.setdefault(name, asyncio.Event()).set()
    return Response()


app = Starlette(
    routes=[
        Route("/b/{behaviour}/v1/chat/completions", chat, methods=["POST"]),
        Route("/log", log),
        Route("/open/{gate}", open_gate, methods=["POST"]),
        Route("/health", lambda request: Response("ok")),
        *vendors.ROUTES,
    ]
)
