"""From a clear key to who is calling, without a database read in the steady state.

A cache may say yes; only the database says no. Entries are dropped when the schema's triggers say that the key's team or
organization changed, live `ttl_seconds` at most should a notification be missed, and one second while none can arrive.
"""

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from litellm_credits.db.database import Database
from litellm_credits.db.listen import EVERYTHING
from litellm_credits.db.queries import load
from litellm_credits.errors import InvalidKey, KeyExpired, KeyRevoked, TeamPaused, TeamSuspended, Unauthenticated
from litellm_credits.money import utc
from litellm_credits.pricing.plan import Plan
from litellm_credits.tenancy.keys import key_hash
from litellm_credits.tenancy.last_uses import LastUses

_SQL = load("tenancy")
_DEAF_TTL_SECONDS = 1.0
_MOST_ENTRIES = 100_000


@dataclass(frozen=True, slots=True)
class Admin:
    """The operator: whoever holds the proxy's master key."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests and tokens a minute, of a key by itself and of all keys of its team together; None: no limit."""

    rpm: int | None
    tpm: int | None
    team_rpm: int | None
    team_tpm: int | None


@dataclass(frozen=True, slots=True)
class Principal:
    """A virtual key and what it stands for."""

    key_id: UUID
    key_hash: str
    key_revoked: bool
    expires_at: datetime | None
    team_id: str
    organization_id: str
    suspended: bool
    paused: bool
    access_groups: tuple[str, ...]
    allowed_aliases: tuple[str, ...] | None
    """What the key may call of what its team may; None: all of it."""
    limits: Limits
    plan: Plan

    def check(self) -> None:
        """Raises KeyRevoked, KeyExpired or TeamSuspended when this key may not call now."""
        if self.key_revoked:
            raise KeyRevoked
        if self.expires_at is not None and self.expires_at <= datetime.now(UTC):
            raise KeyExpired(expired_at=utc(self.expires_at))
        if self.suspended:
            raise TeamSuspended(team_id=self.team_id)

    def check_calls(self) -> None:
        """As `check`, and raises TeamPaused while the team or its organization takes no calls."""
        self.check()
        if self.paused:
            raise TeamPaused(team_id=self.team_id)


class Authenticator:
    """Tells who sent a request."""

    def __init__(
        self, db: Database, *, master_key: Callable[[], str | None], ttl_seconds: float, hearing: Callable[[], bool]
    ) -> None:
        self._db = db
        self._master_key = master_key
        self._ttl_seconds = ttl_seconds
        self._hearing = hearing
        self._last_uses = LastUses(db)
        self._cache: dict[str, tuple[float, Principal]] = {}
        self._changes = 0

    async def caller(self, key: str | None) -> Admin | Principal:
        """Who holds this clear key, allowed to call now.

        Raises:
            Unauthenticated, InvalidKey, KeyRevoked, KeyExpired: 401.
            TeamSuspended: 403, for the team's own suspension and its organization's.
            LedgerUnavailable: 503, the key is not cached and the database cannot be reached.
        """
        if not key:
            raise Unauthenticated
        master_key = self._master_key()
        if master_key and hmac.compare_digest(key.encode(), master_key.encode()):
            return Admin()
        hashed = key_hash(key)
        principal = self._cached(hashed)
        if principal is None or not _passes(principal.check):
            principal = await self._read(hashed)
            principal.check()
        self._last_uses.note(principal.key_id)
        return principal

    async def may_call(self, principal: Principal) -> None:
        """Raises TeamPaused, or what `check` raises, when this key may send no calls now."""
        if not _passes(principal.check_calls):
            (await self._read(principal.key_hash)).check_calls()

    async def fresh(self, principal: Principal) -> Principal:
        """The same key, read again: for a refusal that rests on something cached."""
        return await self._read(principal.key_hash)

    async def run(self) -> None:
        """Background work until cancelled: note in the database when keys were last used."""
        await self._last_uses.run()

    def hear(self, payload: str) -> None:
        """Drop what a change notification says has changed."""
        self._changes += 1
        kind, _, name = payload.partition(":")
        if payload == EVERYTHING:
            self._cache.clear()
        elif kind == "team":
            self._drop(lambda principal: principal.team_id == name)
        elif kind == "organization":
            self._drop(lambda principal: principal.organization_id == name)

    def _cached(self, hashed: str) -> Principal | None:
        entry = self._cache.get(hashed)
        if entry is None:
            return None
        ttl = self._ttl_seconds if self._hearing() else _DEAF_TTL_SECONDS
        return entry[1] if time.monotonic() - entry[0] < ttl else None

    def _drop(self, changed: Callable[[Principal], bool]) -> None:
        for hashed in [hashed for hashed, (_, principal) in self._cache.items() if changed(principal)]:
            del self._cache[hashed]

    async def _read(self, hashed: str) -> Principal:
        started, changes = time.monotonic(), self._changes
        row = await self._db.one(_SQL.principal, {"key_hash": hashed})
        if row is None:
            self._cache.pop(hashed, None)
            raise InvalidKey
        principal = Principal(
            key_id=row["key_id"],
            key_hash=hashed,
            key_revoked=row["key_status"] == "revoked",
            expires_at=row["expires_at"],
            team_id=row["team_id"],
            organization_id=row["organization_id"],
            suspended=row["suspended"],
            paused=row["paused"],
            access_groups=tuple(row["access_groups"]),
            allowed_aliases=tuple(row["allowed_aliases"]) or None,
            limits=Limits(row["rpm_limit"], row["tpm_limit"], row["team_rpm_limit"], row["team_tpm_limit"]),
            plan=Plan.of(row["plan"]),
        )
        if changes == self._changes:  # else the row may be older than a change we have already heard of
            if len(self._cache) >= _MOST_ENTRIES:
                self._cache.clear()
            self._cache[hashed] = (started, principal)
        return principal


def _passes(check: Callable[[], None]) -> bool:
    try:
        check()
    except (KeyRevoked, KeyExpired, TeamSuspended, TeamPaused):
        return False
    return True
