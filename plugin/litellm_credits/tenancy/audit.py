"""The audit log: who changed what by hand, when and from where.

Entries are written by triggers, in the transaction of the change, for whatever way a row is changed: none can be forgotten by a
route or lost on its own. The application only says who acts.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from litellm_credits.db.database import Database, Transaction
from litellm_credits.db.queries import load
from litellm_credits.models import AuditEntry
from litellm_credits.tenancy.keys import key_hash

_SQL = load("audit")
_FINGERPRINT_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts in a transaction. `actor` is "admin" or "team", `actor_key` the fingerprint of the key used."""

    actor: str
    actor_key: str
    client_address: str
    action: str
    request_id: UUID

    async def announce(self, tx: Transaction) -> None:
        """Put this on the audit entries of everything that the transaction changes."""
        await tx.all(_SQL.announce, asdict(self) | {"request_id": str(self.request_id)})


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; None filters nothing. From `start` to before `end`."""

    organization_id: str | None = None
    team_id: str | None = None
    subject: str | None = None
    subject_id: str | None = None
    actor: str | None = None
    request_id: UUID | None = None
    start: datetime | None = None
    end: datetime | None = None


class AuditLog:
    """The entries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def page(self, wanted: AuditFilter, *, before: int | None, limit: int) -> list[AuditEntry]:
        """A page of entries, newest first; `before` is the last audit_id of the page before."""
        rows = await self._db.all(_SQL.entries, asdict(wanted) | {"before": before, "limit": limit})
        return [AuditEntry.model_validate(row) for row in rows]


def fingerprint(key: str) -> str:
    """What tells a clear key apart from others without telling the key."""
    return key_hash(key)[:_FINGERPRINT_DIGITS]
