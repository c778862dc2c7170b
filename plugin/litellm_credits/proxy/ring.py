"""The outermost ASGI layer: opens a request's `Call`, adds our headers, writes our refusals, and lets nothing leak.

The last byte of a metered answer waits here until the call has ended in the ledger (P4). Of some endpoints no hook tells that
they succeeded: their calls are settled here. When LiteLLM's application returns or is cancelled with credits still held, they
are resolved here (P5).
"""

import logging
from dataclasses import replace
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from litellm_credits.api.asgi import route_path
from litellm_credits.endpoints.endpoint import Dialect
from litellm_credits.errors import CreditsError
from litellm_credits.metrics import ENDED_BY_RING
from litellm_credits.money import plain
from litellm_credits.proxy.answers import partial_answer, whole_answer
from litellm_credits.proxy.call import CURRENT, Call
from litellm_credits.proxy.heap import Heap
from litellm_credits.proxy.incoming import checked
from litellm_credits.proxy.listing import ModelListing
from litellm_credits.proxy.quotes import Quotes
from litellm_credits.proxy.refusal import rendered
from litellm_credits.proxy.routes import Table
from litellm_credits.proxy.settlement import Answer, Settlements
from litellm_credits.tenancy.principals import Principal

log = logging.getLogger("litellm_credits.proxy")

_OPERATORS_HEADERS = (b"x-litellm-", b"llm_provider-")
"""Response headers that tell of the operator's deployments and costs: not for a team's eyes."""

_KEPT_HEADERS = (b"x-litellm-call-id",)


class Rewriter(Protocol):
    """Turns some requests into others before LiteLLM sees them."""

    def takes(self, call: Call) -> bool:
        """Whether this request is one of them."""

    async def rewrite(self, call: Call, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """What LiteLLM is given instead.

        Raises:
            CreditsError: the request is refused.
        """


class Ring:
    """Wraps LiteLLM's whole application. One instance per worker."""

    def __init__(
        self,
        app: ASGIApp,
        table: Table,
        settlements: Settlements,
        rewriters: tuple[Rewriter, ...],
        listing: ModelListing,
        quotes: Quotes,
        *,
        max_body_bytes: int,
    ) -> None:
        self.app = app
        self._table = table
        self._settlements = settlements
        self._rewriters = rewriters
        self._listing = listing
        self._quotes = quotes
        self._max_body_bytes = max_body_bytes
        self._heap = Heap()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path = route_path(scope)
        call = Call(scope["method"], path, headers, match=self._table.find(scope["method"], path))
        token = CURRENT.set(call)
        out = _Outgoing(call, send, self._settlements)
        try:
            receive = checked(call, scope, receive, self._max_body_bytes)
            for rewriter in self._rewriters:
                if rewriter.takes(call):
                    scope, receive = await rewriter.rewrite(call, scope, receive)
            if self._quotes.takes(call):
                await self._quotes.answer(call, scope, receive, out.send)
            elif not await self._listing.answered(call, out.send):
                await self.app(scope, receive, out.send)
        except CreditsError as error:
            await out.refuse(error)
        except Exception:  # LiteLLM stumbles over some refused requests while it looks back at them
            if not out.refused:
                raise
            log.warning("LiteLLM failed after a refusal, which the client has got", exc_info=True)
        finally:
            if call.open:
                self._abandon(call)
            call.settling = call.refusal = None  # they hold the call: circles, left to the garbage collector
            CURRENT.reset(token)
            if call.success_log is not None:
                call.success_log.start()
            if call.held is not None:
                self._heap.served()

    def _abandon(self, call: Call) -> None:
        """The request is over, and no hook has ended its call: its client has gone, or LiteLLM forgot it."""
        gone = Answer()
        if call.reader is not None:
            gone = partial_answer(call)
        elif call.answered is not None:
            gone = whole_answer(call, call.answered)
        else:
            ENDED_BY_RING.inc()
        flag = "client_disconnected" if gone.has_output else "ended_by_ring"
        self._settlements.begin(call, replace(gone, disconnected=True, flags=(flag,)))


class _Outgoing:
    """The response on its way to the client."""

    def __init__(self, call: Call, send: Send, settlements: Settlements) -> None:
        self._call = call
        self._send = send
        self._settlements = settlements
        self._started = False
        self._replaced = False
        self._failed = False

    @property
    def refused(self) -> bool:
        """Whether the client has got our own refusal in the place of LiteLLM's answer."""
        return self._replaced

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._failed = message["status"] >= 400
            if self._call.refusal is not None and self._failed:
                self._replaced = True
                await self.refuse(self._call.refusal)
                return
            await self._settle_answered()
            await self._settlements.settled(self._call)
            self._started = True
            message = {**message, "headers": self._headers(message["headers"])}
        elif self._replaced:
            return
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            await self._resolve()
        await self._send(message)

    async def _settle_answered(self) -> None:
        """An answer of an endpoint of which no hook tells begins to leave: its charge is known, so the headers can say it.

        So is that of one that the request alone prices: whoever leaves before the last byte has had what it costs.
        """
        call = self._call
        if not call.open or self._failed:
            return
        assert call.admission is not None
        if call.answered is not None:
            await self._settlements.settle(call, whole_answer(call, call.answered))
        elif call.admission.endpoint.counts_itself:
            await self._settlements.settle(call, Answer(has_output=True))

    async def _resolve(self) -> None:
        """The answer is complete: wait for its settle, and where nothing has ended the call, charge what was seen of it."""
        call = self._call
        if not call.open:
            await self._settlements.settled(call)
            return
        assert call.admission is not None
        if self._failed:
            await self._settlements.void(call, None, flags=("ended_by_ring",))
        else:
            ENDED_BY_RING.inc()
            log.error("%s: no hook ended the call", call.path)
            answer = partial_answer(call) if call.reader is not None else Answer()
            await self._settlements.settle(call, replace(answer, flags=("ended_by_ring",)))

    async def refuse(self, error: CreditsError) -> None:
        """Answer with our own error, in the endpoint's dialect, unless an answer is under way already."""
        if self._started:
            return
        self._started = True
        endpoint = self._call.endpoint
        body = rendered(error, endpoint.dialect if endpoint is not None else _dialect_of(self._call.path))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if error.retry_after_seconds is not None:
            headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
        await self._send({"type": "http.response.start", "status": error.status, "headers": headers + self._ours()})
        await self._send({"type": "http.response.body", "body": body})

    def _headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        if not isinstance(self._call.caller, Principal):
            return headers
        shown = [
            (name, value)
            for name, value in headers
            if not name.lower().startswith(_OPERATORS_HEADERS) or name.lower() in _KEPT_HEADERS
        ]
        return shown + self._ours()

    def _ours(self) -> list[tuple[bytes, bytes]]:
        call = self._call
        if call.held is None or call.admission is None:
            return []
        facts: dict[str, Any] = {"call-id": call.held.call_id, "held": plain(call.held.credits)}
        if call.job_id is not None:
            facts["job-id"] = call.job_id
        if call.admission.max_tokens is not None:
            facts["max-tokens"] = call.admission.max_tokens
        if call.receipt is not None:
            facts["charged"] = plain(call.receipt.charged)
            facts["remaining"] = plain(call.receipt.remaining)
        return [(f"x-credits-{name}".encode(), str(value).encode()) for name, value in facts.items()]


def _dialect_of(path: str) -> Dialect:
    """Whose clients call a path that is not priced."""
    if path.startswith(("/v1/messages", "/anthropic")):
        return Dialect.ANTHROPIC
    return Dialect.GOOGLE if path.startswith(("/v1beta/", "/gemini")) else Dialect.OPENAI
