"""Whole answers from ASGI layers, where there is no framework to write them."""

from starlette._utils import get_route_path
from starlette.types import Scope, Send

from litellm_credits.errors import CreditsError
from litellm_credits.money import dumps

Headers = list[tuple[bytes, bytes]]


def route_path(scope: Scope) -> str:
    """The path as the application routes it: without the prefix that it is served under (SERVER_ROOT_PATH)."""
    return get_route_path(scope)


async def answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send this answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, error: CreditsError) -> None:
    """Send this refusal."""
    headers = [(b"content-type", b"application/json")]
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    await answer(send, error.status, headers, dumps(error.body()))
