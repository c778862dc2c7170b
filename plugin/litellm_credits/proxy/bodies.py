"""Requests that the ring rewrites before LiteLLM sees them."""

from starlette.types import Message, Receive, Scope

from litellm_credits.errors import BadInput


async def whole_body(receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        BadInput: the client left before it was complete.
    """
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadInput(problem="The connection was closed before the request body was complete.")
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def replaced(scope: Scope, receive: Receive, body: bytes, *, path: str | None = None) -> tuple[Scope, Receive]:
    """The same request with this JSON for a body, and at another path where one is given."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name not in (b"content-length", b"content-type", b"transfer-encoding")
    ]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    changed = {**scope, "headers": headers}
    if path is not None:
        changed |= {"path": path, "raw_path": path.encode()}
    given = False

    async def replay() -> Message:
        """The body once, and then what the client does (hanging up)."""
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return changed, replay
