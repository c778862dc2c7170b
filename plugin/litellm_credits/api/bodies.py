"""Request bodies: read up to a limit, parsed exactly, checked for what PostgreSQL and JSON writers cannot take."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from litellm_credits import money
from litellm_credits.errors import BadInput, BodyTooLarge, MalformedJson

_DEEPEST = 64
_NUMBER_LIMIT = 2**63
_MOST_DECIMALS = 400
_LONGEST_PARAM = 200


async def read(stream: AsyncIterator[bytes], limit_bytes: int) -> bytes:
    """All of a body, however it announces its size.

    Raises:
        BodyTooLarge: once more than `limit_bytes` came, without reading the rest.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLarge(limit_bytes=limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


async def received(receive: Receive) -> AsyncIterator[bytes]:
    """The parts of a request's body.

    Raises:
        ClientDisconnect: the connection was closed before the last of them.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        more = message.get("more_body", False)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body` once, and then what the client does (hanging up)."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def parse(body: bytes) -> Any:
    """The JSON document in `body`, with Decimals for fractions.

    Raises:
        MalformedJson: it is not JSON.
        BadInput: it holds text or numbers that cannot be kept; `param` says where.
    """
    try:
        document = money.loads(body)
    except RecursionError:
        raise MalformedJson(problem="it is nested too deeply") from None
    except (ValueError, ArithmeticError) as problem:
        raise MalformedJson(problem=str(problem) or type(problem).__name__) from None
    _check(document, ())
    return document


def check_text(text: str, param: str) -> None:
    """Raises BadInput for text that PostgreSQL cannot keep."""
    if "\x00" in text or not _is_unicode(text):
        raise BadInput(problem=f"{param} holds a NUL or a broken character", param=param)


def param_of(path: tuple[object, ...]) -> str | None:
    """How a place in a document is named in `param`: metadata.pages.0."""
    return ".".join(map(str, path))[:_LONGEST_PARAM] or None


def _check(value: Any, path: tuple[object, ...]) -> None:
    match value:
        case str():
            check_text(value, param_of(path) or "body")
        case bool() | None:
            pass
        case int() | Decimal():
            _check_number(Decimal(value), path)
        case dict() | list() if len(path) == _DEEPEST:
            raise BadInput(problem=f"the body is nested more than {_DEEPEST} deep", param=param_of(path))
        case dict():
            for name, member in value.items():
                check_text(name, param_of(path) or "body")
                _check(member, (*path, name))
        case list():
            for position, member in enumerate(value):
                _check(member, (*path, position))


def _check_number(number: Decimal, path: tuple[object, ...]) -> None:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)  # money.loads takes neither NaN nor Infinity
    if exponent < -_MOST_DECIMALS or number.copy_abs() >= _NUMBER_LIMIT:
        raise BadInput(
            problem=f"{param_of(path) or 'the body'} is a number of more than 64 bits or {_MOST_DECIMALS} decimals",
            param=param_of(path),
        )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
