"""Requests with an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07): done once, answered alike.

An attempt claims its request before it does anything, and its process renews the claim's lease while it lives. The database
decides what becomes of an attempt that ended without an answer to keep: a write marks the claim as done in its own transaction,
and a metered call is named on it before it is dispatched. So a request may be tried again only if nothing came of it.

Kept answers are sealed with the proxy's master key, since some of them show a new virtual key: the database alone cannot read
them.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from litellm_credits.db.database import Database, Row, Transaction
from litellm_credits.db.queries import load
from litellm_credits.errors import AlreadyDone, IdempotencyKeyReused, LedgerUnavailable, RequestInFlight
from litellm_credits.settings import Settings

log = logging.getLogger("litellm_credits.tenancy")

_SQL = load("idempotency")
_NONCE_BYTES = 12
_CALL_FIELDS = (
    "call_id",
    "job_id",
    "status",
    "basis",
    "model_alias",
    "prompt_tokens",
    "completion_tokens",
    "credits_held",
    "credits_charged",
    "created_at",
)
_SWEEP_SECONDS = 300.0
_SWEEP_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that may come more than once. `fingerprint` is the SHA-256 of its path, query and body, in hex."""

    scope: str
    method: str
    path: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do a request."""

    request: Repeatable
    claim_id: UUID


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer that a request got the first time."""

    status: int
    content: bytes


CLAIM: ContextVar[Claim | None] = ContextVar("litellm_credits_claim", default=None)
"""What the running task does under an Idempotency-Key."""


class IdempotencyKeys:
    """The claims of this process, and the answers of all."""

    def __init__(self, db: Database, settings: Settings, *, master_key: Callable[[], str | None]) -> None:
        self._db = db
        self._lease_seconds = settings.lease_seconds
        self._kept_seconds = settings.idempotency_seconds
        self._master_key = master_key
        self._claimed: set[UUID] = set()

    async def claim(self, request: Repeatable) -> Claim | Kept:
        """The right to do this request, or the answer that it got before.

        Raises:
            IdempotencyKeyReused: the key belongs to another request.
            RequestInFlight: another attempt is working on it.
            AlreadyDone: it was done, but its answer is not kept, or was never given.
            LedgerUnavailable: nothing was claimed, or the claim's lease will run out.
        """
        facts = asdict(request)
        while True:
            claim = Claim(request, uuid4())
            lease = {"lease_seconds": self._lease_seconds, "kept_seconds": self._kept_seconds}
            if await self._db.one(_SQL.claim, facts | lease | {"claim_id": claim.claim_id}):
                self._claimed.add(claim.claim_id)
                return claim
            earlier = await self._db.one(_SQL.earlier, facts)
            if earlier is not None:  # else it was forgotten just now
                return self._kept(request, earlier)

    def _kept(self, request: Repeatable, earlier: Row) -> Kept:
        if not earlier["same"]:
            raise IdempotencyKeyReused
        if earlier["status"] is None:
            if earlier["in_flight"]:
                raise RequestInFlight
            raise AlreadyDone(reason="was lost with the process that gave it", **_call(earlier))
        if earlier["answer"] is None:
            raise AlreadyDone(reason="was streamed or too large, and is not kept", **_call(earlier))
        try:
            content = self._cipher(request).decrypt(
                earlier["answer"][:_NONCE_BYTES], earlier["answer"][_NONCE_BYTES:], None
            )
        except InvalidTag:
            raise AlreadyDone(reason="was sealed with an earlier master key", **_call(earlier)) from None
        return Kept(earlier["status"], content)

    async def mark_done(self, claim: Claim, tx: Transaction) -> None:
        """To be done inside the transaction that does what the request asks for.

        Raises:
            RequestInFlight: the lease ran out and another attempt has taken the request; the transaction must not commit.
        """
        if await tx.one(_SQL.mark_done, {"claim_id": claim.claim_id}) is None:
            raise RequestInFlight

    async def note_call(self, claim: Claim, call_id: UUID) -> None:
        """Name the metered call that the request made, before anything is sent to a provider.

        Raises:
            RequestInFlight: as `mark_done`; the call must not leave.
        """
        if await self._db.one(_SQL.note_call, {"claim_id": claim.claim_id, "call_id": call_id}) is None:
            raise RequestInFlight

    async def complete(self, claim: Claim, status: int, content: bytes | None) -> None:
        """Keep the answer; without content only that there was one. If the ledger is away, the answer will count as lost."""
        self._claimed.discard(claim.claim_id)
        answer = None
        if content is not None:
            nonce = os.urandom(_NONCE_BYTES)
            answer = nonce + self._cipher(claim.request).encrypt(nonce, content, None)
        await self._end(_SQL.complete, {"claim_id": claim.claim_id, "status": status, "answer": answer})

    async def let_go(self, claim: Claim, *, refused: bool) -> None:
        """The attempt is over without an answer to keep. `refused`: it was refused, which changes nothing."""
        self._claimed.discard(claim.claim_id)
        await self._end(_SQL.let_go, {"claim_id": claim.claim_id, "refused": refused})

    async def _end(self, query: Any, facts: dict[str, Any]) -> None:
        try:
            await self._db.all(query, facts)
        except LedgerUnavailable:
            log.warning("the end of a request with an idempotency key could not be noted; its lease will run out")

    def _cipher(self, request: Repeatable) -> AESGCM:
        info = "\x00".join(("idempotency", request.scope, request.method, request.path, request.key))
        secret = (self._master_key() or "").encode()
        return AESGCM(HKDF(SHA256(), length=32, salt=None, info=info.encode()).derive(secret))

    async def run(self) -> None:
        """Background work until cancelled: renew the leases of this process, forget what was kept long enough."""
        async with asyncio.TaskGroup() as work:
            work.create_task(self._repeat(self._renew, self._lease_seconds / 4))
            work.create_task(self._repeat(self.sweep, _SWEEP_SECONDS))

    async def _repeat(self, work: Callable[[], Any], pause_seconds: float) -> None:
        while True:
            await asyncio.sleep(pause_seconds)
            try:
                await work()
            except (LedgerUnavailable, psycopg.Error):
                log.warning("idempotency keys could not be kept in order", exc_info=True)

    async def _renew(self) -> None:
        if self._claimed:
            await self._db.all(_SQL.renew, {"claim_ids": list(self._claimed), "lease_seconds": self._lease_seconds})

    async def sweep(self) -> int:
        """Forget what was kept long enough, and return how much that was. Any number of processes may do so at once."""
        forgotten = 0
        while rows := await self._db.all(_SQL.sweep, {"limit": _SWEEP_BATCH}):
            forgotten += len(rows)
        return forgotten


def _call(earlier: Row) -> dict[str, Any]:
    """The record of the call that an attempt made, as the error shows it."""
    if earlier["call_id"] is None:
        return {}
    return {"call": {name: earlier["call_status" if name == "status" else name] for name in _CALL_FIELDS}}
