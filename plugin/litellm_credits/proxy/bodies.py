"""Requests that are rewritten before LiteLLM sees them."""

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from litellm_credits.api.bodies import received
from litellm_credits.errors import BadInput

_OF_THE_BODY = (b"content-length", b"content-type", b"transfer-encoding")


async def whole_body(receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        BadInput: the client left before it was complete.
    """
    try:
        return b"".join([part async for part in received(receive)])
    except ClientDisconnect:
        raise BadInput(problem="The connection was closed before the request body was complete.") from None


def redirected(scope: Scope, body: bytes, *, path: str | None = None) -> Scope:
    """The scope of the same request with this JSON body, and with another path, as the table reads it, where one is given."""
    headers = [(name, value) for name, value in scope["headers"] if name not in _OF_THE_BODY]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if path is None:
        return {**scope, "headers": headers}
    whole = scope.get("root_path", "").rstrip("/") + path
    return {**scope, "headers": headers, "path": whole, "raw_path": whole.encode()}
