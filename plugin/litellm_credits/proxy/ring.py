"""The outermost ASGI layer: opens a request's `Call`, adds our headers, writes our refusals, and lets nothing leak.

The last byte of a metered answer waits here until the call has ended in the ledger (P4). When LiteLLM's application returns or
is cancelled with credits still held, because no hook ended them, they are resolved here (P5).
"""

import logging
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from litellm_credits.errors import BadInput, BodyTooLarge, CreditsError
from litellm_credits.metrics import ENDED_BY_RING
from litellm_credits.money import dumps, plain
from litellm_credits.proxy.call import CURRENT, Call
from litellm_credits.proxy.job_calls import JobCalls
from litellm_credits.proxy.listing import ModelListing
from litellm_credits.proxy.routes import CHAT, is_bounded
from litellm_credits.proxy.settlement import Answer, Settlements
from litellm_credits.tenancy.principals import Principal

log = logging.getLogger("litellm_credits.proxy")

_OPERATORS_HEADERS = (b"x-litellm-", b"llm_provider-")
"""Response headers that tell of the operator's deployments and costs: not for a team's eyes."""

_KEPT_HEADERS = (b"x-litellm-call-id",)


class Ring:
    """Wraps LiteLLM's whole application. One instance per worker."""

    def __init__(
        self, app: ASGIApp, settlements: Settlements, job_calls: JobCalls, listing: ModelListing, *, max_body_bytes: int
    ) -> None:
        self.app = app
        self._settlements = settlements
        self._job_calls = job_calls
        self._listing = listing
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        call = Call(method=scope["method"], path=scope["path"], headers=headers)
        token = CURRENT.set(call)
        out = _Outgoing(call, send, self._settlements)
        try:
            if is_bounded(call.path):
                self._check_length(call)
                receive = self._checked(call, receive)
            if self._job_calls.takes(call):
                scope, receive = await self._job_calls.rewrite(call, scope, receive)
            if not await self._listing.answered(call, out.send):
                await self.app(scope, receive, out.send)
        except CreditsError as error:
            await out.refuse(error)
        finally:
            if call.open:
                ENDED_BY_RING.inc()
                self._settlements.abandon(call, Answer(disconnected=True, flags=("ended_by_ring",)))
            CURRENT.reset(token)

    def _check_length(self, call: Call) -> None:
        length = call.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise BodyTooLarge(limit_bytes=self._max_body_bytes)

    def _checked(self, call: Call, receive: Receive) -> Receive:
        """`receive`, refusing bodies that are too long without saying so, or that cannot be JSON objects."""
        seen = 0
        refusal: CreditsError | None = None

        async def checked() -> Message:
            nonlocal seen, refusal
            if refusal is not None:  # LiteLLM may ask again, and would wait for ever
                raise refusal
            message = await receive()
            body = message.get("body", b"")
            if not seen and body and call.path in CHAT and not body.lstrip().startswith(b"{"):
                refusal = BadInput(problem="The request body must be a JSON object.")
            seen += len(body)
            if seen > self._max_body_bytes:
                refusal = BodyTooLarge(limit_bytes=self._max_body_bytes)
            if refusal is not None:
                call.refusal = refusal
                raise refusal
            return message

        return checked


class _Outgoing:
    """The response on its way to the client."""

    def __init__(self, call: Call, send: Send, settlements: Settlements) -> None:
        self._call = call
        self._send = send
        self._settlements = settlements
        self._started = False
        self._replaced = False
        self._failed = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._failed = message["status"] >= 400
            if self._call.refusal is not None and self._failed:
                self._replaced = True
                await self.refuse(self._call.refusal)
                return
            self._started = True
            message = {**message, "headers": self._headers(message["headers"])}
        elif self._replaced:
            return
        elif message["type"] == "http.response.body" and not message.get("more_body") and self._call.open:
            await self._resolve()
        await self._send(message)

    async def _resolve(self) -> None:
        """The answer is complete and no hook has ended the call: charge what was seen of it."""
        ENDED_BY_RING.inc()
        log.error("%s: no hook ended the call", self._call.path)
        if self._failed and not self._call.output:
            await self._settlements.void(self._call, None, flags=("ended_by_ring",))
        else:
            await self._settlements.settle(self._call, Answer(flags=("ended_by_ring",)))

    async def refuse(self, error: CreditsError) -> None:
        """Answer with our own error, unless an answer is under way already."""
        if self._started:
            return
        self._started = True
        body = dumps(error.body())
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if error.retry_after_seconds:
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
