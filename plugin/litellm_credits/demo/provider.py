"""A local stand-in for an OpenAI-compatible provider, so that nothing here needs a key or costs money.

It answers /v1/chat/completions in OpenAI's shapes, streamed and not. Tokens are words: a prompt of the n words
"one two three" is n prompt tokens. Never a model, always exact and repeatable.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

ANSWER = "Credits are held before a call leaves, and settled exactly after it."
CHUNK_SECONDS = 0.06


def word_tokens(messages: Iterable[dict[str, Any]]) -> int:
    """The prompt tokens of this stand-in: words of all string contents."""
    return sum(len(str(message.get("content") or "").split()) for message in messages)


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """A usage object in OpenAI's shape."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def completion(model: str, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
    """An unstreamed chat completion."""
    body = {"id": f"chatcmpl-{uuid4().hex}", "object": "chat.completion", "created": int(time.time()), "model": model}
    return body | {"choices": choices} | ({"usage": usage} if usage is not None else {})


class Chunks:
    """The server-sent events of one streamed chat completion."""

    def __init__(self, model: str) -> None:
        self._head = {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }

    def delta(self, delta: dict[str, Any], *, index: int = 0, finish: str | None = None) -> bytes:
        """One event with one choice's delta."""
        return self.event({"choices": [{"index": index, "delta": delta, "finish_reason": finish}]})

    def usage(self, usage: object) -> bytes:
        """The event that carries usage and no choice."""
        return self.event({"choices": [], "usage": usage})

    def event(self, fields: dict[str, Any]) -> bytes:
        """Any event of this completion."""
        return b"data: " + json.dumps(self._head | fields).encode() + b"\n\n"

    DONE = b"data: [DONE]\n\n"


def wanted_tokens(body: dict[str, Any]) -> int | None:
    """The output limit of a request, if it states one."""
    return body.get("max_completion_tokens") or body.get("max_tokens")


async def chat(request: Request) -> Response:
    """POST /v1/chat/completions."""
    body = await request.json()
    words = ANSWER.split()[: wanted_tokens(body)]
    choices = body.get("n") or 1
    usage = usage_of(word_tokens(body["messages"]), len(words) * choices)
    if not body.get("stream"):
        message = {"role": "assistant", "content": " ".join(words)}
        answers = [{"index": index, "message": message, "finish_reason": "stop"} for index in range(choices)]
        return JSONResponse(completion(body["model"], answers, usage))

    async def events() -> AsyncIterator[bytes]:
        chunks = Chunks(body["model"])
        for index in range(choices):
            yield chunks.delta({"role": "assistant", "content": ""}, index=index)
        for number, word in enumerate(words):
            await asyncio.sleep(CHUNK_SECONDS)
            for index in range(choices):
                yield chunks.delta({"content": f" {word}" if number else word}, index=index)
        for index in range(choices):
            yield chunks.delta({}, index=index, finish="stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            yield chunks.usage(usage)
        yield Chunks.DONE

    return StreamingResponse(events(), media_type="text/event-stream")


async def healthy(_: Request) -> Response:
    """GET /health."""
    return JSONResponse({"status": "healthy"})


app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/health", healthy)])
