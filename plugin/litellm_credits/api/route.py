"""The route class: who calls is known before a byte of the body is read, and no fault shows its insides."""

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Token
from functools import wraps
from typing import Any, ClassVar
from uuid import uuid4

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from psycopg.errors import DeadlockDetected, NumericValueOutOfRange, SerializationFailure
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from litellm_credits.api.answers import Answer, unexpected
from litellm_credits.api.bodies import check_text, parse, read
from litellm_credits.db.database import BEFORE_WRITES, Transaction
from litellm_credits.engine import Engine
from litellm_credits.errors import BadInput, CreditsError, LedgerUnavailable
from litellm_credits.tenancy.audit import Actor, fingerprint
from litellm_credits.tenancy.idempotency import CLAIM
from litellm_credits.tenancy.keys import bearer_key
from litellm_credits.tenancy.principals import Admin

_ABSENT: Any = object()
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class _ReadRequest(Request):
    """A request whose body was read and parsed already."""

    document: Any = _ABSENT

    async def body(self) -> bytes:
        """Not empty when there is a document: FastAPI asks for this before it asks for the JSON."""
        return b"" if self.document is _ABSENT else b"null"

    async def json(self) -> Any:
        """The document."""
        return self.document


class Route(APIRoute):
    """A route that needs a key. Which keys, its dependencies say (access.py)."""

    needs_key: ClassVar[bool] = True

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, _answering(endpoint), **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, between what comes before and what may come of it."""
        handle = super().get_route_handler()

        async def handle_safely(request: Request) -> Response:
            token: Token[Any] | None = None
            try:
                prepared = await self._prepared(request)
                token = BEFORE_WRITES.set(self._before_writes(request))
                return await handle(prepared)
            except (CreditsError, RequestValidationError, HTTPException):
                raise
            except NumericValueOutOfRange:
                raise BadInput(problem="an amount would become larger than can be stored") from None
            except (DeadlockDetected, SerializationFailure) as undone:
                raise LedgerUnavailable from undone
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception as fault:
                return unexpected(request, fault)
            finally:
                if token is not None:
                    BEFORE_WRITES.reset(token)

        return handle_safely

    def _before_writes(self, request: Request) -> Callable[[Transaction], Awaitable[None]] | None:
        """What each write of this request does first: say who acts, and note that it is done under its idempotency key.

        A team's work on its own jobs is not administration: without a key it stays one round trip.
        """
        claim, caller = CLAIM.get(), getattr(request.state, "caller", None)
        if request.method in _READING or caller is None:
            return None
        audited = isinstance(caller, Admin) or not self.path.startswith("/jobs")
        if not audited and claim is None:
            return None
        engine: Engine = request.app.state.engine
        actor = Actor(
            actor="admin" if isinstance(caller, Admin) else "team",
            actor_key=fingerprint(bearer_key(request.headers["authorization"]) or ""),
            client_address=request.client.host if request.client else "",
            action=f"{request.method} {self.path}",
            request_id=uuid4(),
        )

        async def before_writes(tx: Transaction) -> None:
            if claim is not None:
                await engine.idempotency_keys.mark_done(claim, tx)
            if audited:
                await actor.announce(tx)

        return before_writes

    async def _prepared(self, request: Request) -> Request:
        engine: Engine = request.app.state.engine
        if self.needs_key:
            request.state.caller = await engine.authenticator.caller(
                bearer_key(request.headers.get("authorization", ""))
            )
        for name, value in [*request.path_params.items(), *request.query_params.multi_items()]:
            check_text(name, "query")
            check_text(str(value), name)
        prepared = _ReadRequest(request.scope, request.receive)
        if self.body_field is not None:
            body = await read(request.stream(), engine.settings.max_body_bytes)
            if body:
                _check_media_type(request)
                prepared.document = parse(body)
        return prepared


class OpenRoute(Route):
    """A route for anyone."""

    needs_key = False


def _answering(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """`endpoint`, with its result written as exact JSON; FastAPI would make floats or text of Decimals."""

    @wraps(endpoint)
    async def answer(*args: Any, **kwargs: Any) -> Response:
        result = await endpoint(*args, **kwargs)
        return result if isinstance(result, Response) else Answer(result)

    return answer


def _check_media_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise BadInput(problem="Send the body as JSON, with the header 'Content-Type: application/json'")
