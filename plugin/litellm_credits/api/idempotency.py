"""The outermost layer: a request with an Idempotency-Key is done once, whatever it is, and answered alike every time.

A refusal is not kept: it has changed nothing, and the same request may be welcome later. Neither is a stream: its client is told
what the call cost, and that it must ask anew. The last byte of an answer waits until the answer is kept.
"""

import asyncio
import hashlib
import re

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from litellm_credits.api.asgi import Headers, answer, refuse, route_path
from litellm_credits.api.bodies import check_text, read, received, replayed
from litellm_credits.errors import BadInput, CreditsError
from litellm_credits.money import dumps, loads
from litellm_credits.tenancy.idempotency import CLAIM, Claim, IdempotencyKeys, Kept, Repeatable
from litellm_credits.tenancy.keys import sent_key
from litellm_credits.tenancy.principals import Admin, Authenticator

_IDEMPOTENT_BY_ITSELF = frozenset({"GET", "HEAD", "OPTIONS"})
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_LONGEST_PATH = 1000
_KEPT_HEADERS = re.compile(rb"content-type|location|x-litellm-call-id|x-credits-.*")


class Idempotent:
    """Wraps an application. Requests without the header pass as they are."""

    def __init__(
        self,
        app: ASGIApp,
        keys: IdempotencyKeys,
        authenticator: Authenticator,
        *,
        max_body_bytes: int,
        answer_bytes: int,
    ) -> None:
        self.app = app
        self._keys = keys
        self._authenticator = authenticator
        self._max_body_bytes = max_body_bytes
        self._answer_bytes = answer_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] != "http" or scope["method"] in _IDEMPOTENT_BY_ITSELF or b"idempotency-key" not in headers:
            await self.app(scope, receive, send)
            return
        try:
            request, receive = await self._repeatable(scope, receive, headers)
            outcome = await self._keys.claim(request)
        except ClientDisconnect:
            return
        except CreditsError as error:
            await refuse(send, error)
            return
        if isinstance(outcome, Kept):
            await _replay(send, outcome)
            return
        token = CLAIM.set(outcome)
        out = _Outgoing(outcome, self._keys, send, self._answer_bytes)
        try:
            await self.app(scope, receive, out.send)
        finally:
            CLAIM.reset(token)
            if not out.complete:  # cancelled, or cut off: what came of it the database knows
                await asyncio.shield(self._keys.let_go(outcome, refused=False))

    async def _repeatable(
        self, scope: Scope, receive: Receive, headers: dict[bytes, bytes]
    ) -> tuple[Repeatable, Receive]:
        caller = await self._authenticator.caller(
            sent_key(lambda name: headers.get(name.encode(), b"").decode("latin-1"))
        )
        key = headers[b"idempotency-key"].decode("latin-1").strip()
        if len(key) > 1 and key[0] == key[-1] == '"':  # the draft's form, a quoted string; a bare one is taken too
            key = key[1:-1]
        if not _KEY.fullmatch(key):
            raise BadInput(
                problem="Idempotency-Key must be 1 to 255 visible ASCII characters.", param="Idempotency-Key"
            )
        body = await read(received(receive), self._max_body_bytes)
        path = route_path(scope)
        check_text(path, "path")
        digest = hashlib.sha256(b"\n".join((path.encode(), scope["query_string"], body)))
        request = Repeatable(
            scope="admin" if isinstance(caller, Admin) else f"team:{caller.team_id}",
            method=scope["method"],
            path=path[:_LONGEST_PATH],
            key=key,
            fingerprint=digest.hexdigest(),
        )
        return request, replayed(body, receive)


class _Outgoing:
    """The answer on its way to the client."""

    def __init__(self, claim: Claim, keys: IdempotencyKeys, send: Send, most_bytes: int) -> None:
        self.complete = False
        self._claim = claim
        self._keys = keys
        self._send = send
        self._most_bytes = most_bytes
        self._status = 0
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [(name.lower(), value) for name, value in message.get("headers", ())]
        elif message["type"] == "http.response.body":
            self._collect(message.get("body", b""))
            if not message.get("more_body"):
                self.complete = True
                await self._end()
        await self._send(message)

    def _collect(self, part: bytes) -> None:
        self._size += len(part)
        if self._keeps():
            self._parts.append(part)
        else:
            self._parts.clear()

    def _keeps(self) -> bool:
        streamed = dict(self._headers).get(b"content-type", b"").startswith(b"text/event-stream")
        return self._size <= self._most_bytes and not streamed

    async def _end(self) -> None:
        if self._status >= 400:
            await self._keys.let_go(self._claim, refused=self._status < 500)
            return
        content = None
        if self._keeps():
            kept = [(name, value) for name, value in self._headers if _KEPT_HEADERS.fullmatch(name)]
            texts = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in kept]
            content = dumps(texts) + b"\n" + b"".join(self._parts)
        await self._keys.complete(self._claim, self._status, content)


async def _replay(send: Send, kept: Kept) -> None:
    texts, _, body = kept.content.partition(b"\n")
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in loads(texts)]
    await answer(send, kept.status, [*headers, (b"idempotent-replayed", b"true")], body)
