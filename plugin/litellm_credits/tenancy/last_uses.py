"""When each key was last used, to about a minute: noted in memory, and written for many keys at once."""

import asyncio
import logging
from datetime import UTC, datetime
from uuid import UUID

import psycopg

from litellm_credits.db.database import Database
from litellm_credits.db.queries import load
from litellm_credits.errors import LedgerUnavailable

log = logging.getLogger("litellm_credits.tenancy")

_SQL = load("tenancy")
_PAUSE_SECONDS = 30.0


class LastUses:
    """The uses that this process saw and has not written yet."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._seen: dict[UUID, datetime] = {}

    def note(self, key_id: UUID) -> None:
        """The key is used now."""
        self._seen[key_id] = datetime.now(UTC)

    async def run(self) -> None:
        """Write what was seen, now and then, until cancelled; then once more."""
        try:
            while True:
                await asyncio.sleep(_PAUSE_SECONDS)
                await self.write()
        finally:
            await self.write()

    async def write(self) -> None:
        """Write what was seen; what cannot be written now is kept for the next time."""
        seen, self._seen = self._seen, {}
        if not seen:
            return
        try:
            rows = await self._db.all(_SQL.note_last_uses, {"key_ids": list(seen), "used_at": list(seen.values())})
        except (LedgerUnavailable, psycopg.Error):
            log.warning("the last uses of %d keys could not be noted", len(seen), exc_info=True)
            rows = [{"key_id": key_id} for key_id in seen]
        self._seen = {row["key_id"]: seen[row["key_id"]] for row in rows} | self._seen
