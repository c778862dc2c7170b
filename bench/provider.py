"""A provider that costs next to nothing: fixed bytes at once. A stream has as many chunks as the request's max_tokens."""

import json
from functools import lru_cache
from typing import Any

_HEAD = {"id": "x", "created": 1, "model": "gpt-3.5-turbo"}
_USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
_MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
_ANSWER = json.dumps(_HEAD | {"object": "chat.completion", "choices": [_MESSAGE], "usage": _USAGE}).encode()


@lru_cache
def _events(chunks: int) -> bytes:
    parts: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": f"w{number} "}, "finish_reason": None}]}
        for number in range(chunks)
    ]
    parts.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    parts.append({"choices": [], "usage": _USAGE})
    events = [json.dumps(_HEAD | {"object": "chat.completion.chunk"} | part).encode() for part in parts]
    return b"".join(b"data: " + event + b"\n\n" for event in [*events, b"[DONE]"])


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers every request as POST /v1/chat/completions."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    request = json.loads(body or b"{}")
    stream = request.get("stream")
    kind = b"text/event-stream" if stream else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": _events(request["max_tokens"]) if stream else _ANSWER})
