"""The provider's other endpoints, in the shapes of OpenAI, Anthropic, Google, Cohere and Mistral.

The behaviour is in the URL, as for chat: ok, no-usage, err500, hang, hang-mid, abort, gated (the gate is in the request's text).
Whatever is asked, the answer is that of `USED`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from litellm_credits.demo.provider import usage_of

WORDS = ["Hello,", "this", "is", "it."]
USED = (100, 20)
"""Prompt and completion tokens of every answer that has tokens, but where a test says otherwise."""

Event = tuple[str, dict[str, Any]]
seen: list[dict[str, Any]] = []
gates: dict[str, asyncio.Event] = {}


async def misbehave(behaviour: str, body: dict[str, Any]) -> Response | None:
    """What a behaviour does before any answer."""
    if behaviour.startswith("err"):
        error = {"message": f"upstream says {behaviour[3:]}", "type": "upstream", "code": None}
        return JSONResponse({"error": error}, int(behaviour[3:]))
    if behaviour == "hang":
        await asyncio.sleep(3600)
    if behaviour == "gated":
        text = json.dumps(body)
        name = text[text.index("gate-") :][:37]
        await gates.setdefault(name, asyncio.Event()).wait()
    return None


async def events(behaviour: str, frames: list[bytes], spoken: int) -> AsyncIterator[bytes]:
    """A stream's frames; hang-mid and abort stop after the one with number `spoken`."""
    for number, frame in enumerate(frames):
        yield frame
        if number == spoken and behaviour in ("hang-mid", "abort"):
            await asyncio.sleep(0.05 if behaviour == "abort" else 3600)
            raise ConnectionAbortedError


def named(*parts: Event) -> list[bytes]:
    """Server-sent events with names, as OpenAI's responses and Anthropic's messages have them."""
    return [f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode() for name, data in parts]


async def answer(
    request: Request, whole: dict[str, Any], frames: list[bytes] | None = None, spoken: int = 1
) -> Response:
    behaviour, body = request.path_params["behaviour"], request.state.body
    wrong = await misbehave(behaviour, body)
    if wrong is not None:
        return wrong
    if frames is not None and (body.get("stream") or ":stream" in request.url.path):
        return StreamingResponse(events(behaviour, frames, spoken), media_type="text/event-stream")
    return JSONResponse(whole)


async def completions(request: Request) -> Response:
    body, behaviour = request.state.body, request.path_params["behaviour"]
    base = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body["model"]}
    usage = {} if behaviour == "no-usage" else {"usage": usage_of(*USED)}
    parts = [{"choices": [{"index": 0, "text": f"{word} ", "finish_reason": None}]} for word in WORDS]
    parts.append({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    if usage and (body.get("stream_options") or {}).get("include_usage"):
        parts.append({"choices": [], **usage})
    frames = [b"data: " + json.dumps(base | part).encode() + b"\n\n" for part in parts] + [b"data: [DONE]\n\n"]
    whole = base | {"choices": [{"index": 0, "text": " ".join(WORDS), "finish_reason": "stop"}]} | usage
    return await answer(request, whole, frames)


async def embeddings(request: Request) -> Response:
    usage = {} if request.path_params["behaviour"] == "no-usage" else {"usage": {"prompt_tokens": 7, "total_tokens": 7}}
    data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
    return await answer(request, {"object": "list", "model": "m", "data": data} | usage)


async def responses(request: Request) -> Response:
    body, behaviour = request.state.body, request.path_params["behaviour"]
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 120,
    }

    def response(status: str, *, done: bool) -> dict[str, Any]:
        content = [{"type": "output_text", "text": " ".join(WORDS), "annotations": []}]
        output = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": content}
        return {
            "id": f"resp_{len(seen)}",
            "object": "response",
            "created_at": 1,
            "status": status,
            "model": body["model"],
            "output": [output] if done else [],
            "usage": usage if done and behaviour != "no-usage" else None,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }

    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    piece = {"type": "output_text", "text": "", "annotations": []}
    parts: list[Event] = [
        ("response.created", {"response": response("in_progress", done=False)}),
        ("response.output_item.added", {"output_index": 0, "item": item}),
        ("response.content_part.added", {**where, "part": piece}),
        *(("response.output_text.delta", {**where, "delta": f"{word} "}) for word in WORDS),
        ("response.completed", {"response": response("completed", done=True)}),
    ]
    numbered = [(name, {**data, "sequence_number": number}) for number, (name, data) in enumerate(parts)]
    return await answer(request, response("completed", done=True), named(*numbered), spoken=4)


async def messages(request: Request) -> Response:
    body, behaviour = request.state.body, request.path_params["behaviour"]
    usage = {"input_tokens": 40, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 10, "output_tokens": 20}
    base = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None}
    if behaviour == "no-usage":
        usage = {}
    started = {"message": base | {"content": [], "stop_reason": None, "usage": usage and usage | {"output_tokens": 1}}}
    parts: list[Event] = [("message_start", started)]
    parts.append(("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}))
    parts += [
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": f"{word} "}}) for word in WORDS
    ]
    parts.append(("content_block_stop", {"index": 0}))
    ended = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    parts += [("message_delta", ended | ({"usage": {"output_tokens": 20}} if usage else {})), ("message_stop", {})]
    content = [{"type": "text", "text": " ".join(WORDS)}]
    whole = base | {"content": content, "stop_reason": "end_turn", "usage": usage}
    return await answer(request, whole, named(*parts), spoken=3)


async def gemini(request: Request) -> Response:
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "candidatesTokenCount": 15,
        "thoughtsTokenCount": 5,
        "totalTokenCount": 120,
    }
    stated = {} if request.path_params["behaviour"] == "no-usage" else {"usageMetadata": usage}

    def part(text: str, *, last: bool = False) -> dict[str, Any]:
        content = {"role": "model", "parts": [{"text": text}]}
        reason = {"finishReason": "STOP"} if last else {}
        counted = {"usageMetadata": usage | {"candidatesTokenCount": 1}} if stated and not last else stated
        return {
            "candidates": [{"content": content, "index": 0, **reason}],
            "modelVersion": "gemini-2.5-flash",
            **counted,
        }

    chunks = [part(f"{word} ") for word in WORDS[:-1]] + [part(WORDS[-1], last=True)]
    frames = [b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks]
    return await answer(request, part(" ".join(WORDS), last=True), frames)


async def images(request: Request) -> Response:
    number = int(request.state.body.get("n") or 1)
    return await answer(request, {"created": 1, "data": [{"url": f"http://127.0.0.1/{i}.png"} for i in range(number)]})


async def speech(request: Request) -> Response:
    behaviour = request.path_params["behaviour"]
    wrong = await misbehave(behaviour, request.state.body)
    sound = b"sound" * (1_000_000 if request.state.body["voice"] == "long-winded" else 1000)
    return wrong or StreamingResponse(events(behaviour, [sound] * 4, 1), media_type="audio/mpeg")


async def transcriptions(request: Request) -> Response:
    usages = {"no-usage": {}, "tokens": {"usage": {"type": "tokens", "input_tokens": 100, "output_tokens": 20}}}
    usage = usages.get(request.path_params["behaviour"], {"usage": {"type": "duration", "seconds": 3}})
    return await answer(request, {"text": " ".join(WORDS)} | usage)


async def moderations(request: Request) -> Response:
    results = [{"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}]
    return await answer(request, {"id": "modr-1", "model": "omni-moderation-latest", "results": results})


async def rerank(request: Request) -> Response:
    meta = {} if request.path_params["behaviour"] == "no-usage" else {"meta": {"billed_units": {"search_units": 1}}}
    return await answer(request, {"id": "rr", "results": [{"index": 0, "relevance_score": 0.9}]} | meta)


async def ocr(request: Request) -> Response:
    page = {"index": 0, "markdown": "# Hello", "images": [], "dimensions": None}
    usage = {"usage_info": {"pages_processed": 2, "doc_size_bytes": 10}}
    return await answer(request, {"pages": [page, page | {"index": 1}], "model": "mistral-ocr-latest"} | usage)


async def count_tokens(request: Request) -> Response:
    return await answer(request, {"input_tokens": 42})


async def anything(request: Request) -> Response:
    return await answer(request, {"found": 3}, [f"data: {word}\n\n".encode() for word in WORDS])


def _noted(endpoint: Any) -> Any:
    async def noted(request: Request) -> Response:
        if "multipart" in request.headers.get("content-type", ""):
            form = await request.form()
            body = {name: value if isinstance(value, str) else "<file>" for name, value in form.items()}
        else:
            body = await request.json()
        request.state.body = body
        key = request.headers.get("authorization") or request.headers.get("x-api-key")
        seen.append({"path": request.url.path, "key": key, "body": body})
        return await endpoint(request)  # type: ignore[no-any-return]

    return noted


_PATHS = {
    "/b/{behaviour}/v1/completions": completions,
    "/b/{behaviour}/v1/embeddings": embeddings,
    "/b/{behaviour}/v1/responses": responses,
    "/b/{behaviour}/v1/images/generations": images,
    "/b/{behaviour}/v1/images/edits": images,
    "/b/{behaviour}/v1/audio/speech": speech,
    "/b/{behaviour}/v1/audio/transcriptions": transcriptions,
    "/b/{behaviour}/v1/moderations": moderations,
    "/b/{behaviour}/v1/messages": messages,
    "/b/{behaviour}/v1/messages/count_tokens": count_tokens,
    "/b/{behaviour}/v1beta/models/{model:path}": gemini,
    "/b/{behaviour}/v2/rerank": rerank,
    "/b/{behaviour}/v1/ocr": ocr,
    "/b/{behaviour}/search": anything,
}


async def log(request: Request) -> Response:
    return JSONResponse(seen)


ROUTES = [Route(path, _noted(endpoint), methods=["POST"]) for path, endpoint in _PATHS.items()]
ROUTES.append(Route("/log/others", log))
