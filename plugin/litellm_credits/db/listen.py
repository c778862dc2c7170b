"""Hears of changes: LISTEN on a connection of its own, since the schema's triggers NOTIFY on every admin change."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import psycopg

from litellm_credits.db.queries import load

log = logging.getLogger("litellm_credits.db")

_SQL = load("listen")

CHANNEL = "credits_changed"
EVERYTHING = "everything"
"""Told to subscribers when notifications may have been missed."""

_RETRY_SECONDS = 1.0


class Listener:
    """Passes each notification's payload to the subscribers, and EVERYTHING whenever it (re)connects or is cut off.

    `connected` says whether it hears. Behind a connection pooler it never does, since there a LISTEN is left on a server
    session that is somebody else's in the next moment; then caches must do with a short life.
    """

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._subscribers: list[Callable[[str], None]] = []
        self.connected = False

    def subscribe(self, hear: Callable[[str], None]) -> None:
        """Call `hear(payload)` for every change from now on."""
        self._subscribers.append(hear)

    async def run(self) -> None:
        """Listen until cancelled; reconnects by itself. Returns only where a pooler makes listening useless."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True, application_name="litellm-credits listen"
                ) as connection:
                    if await _pooled(connection):
                        log.warning(
                            "behind a connection pooler changes cannot be heard, so keys and prices are read again"
                        )
                        log.warning("every second; set CREDITS_LISTEN_URL to an address of PostgreSQL itself")
                        return
                    await connection.execute(f"LISTEN {CHANNEL}")
                    self.connected = True
                    self._tell(EVERYTHING)
                    async for notification in connection.notifies():
                        self._tell(notification.payload)
            except psycopg.Error as problem:
                if self.connected:
                    log.warning("change notifications lost: %s", str(problem).strip())
            finally:
                self.connected = False
                self._tell(EVERYTHING)
            await asyncio.sleep(_RETRY_SECONDS)

    def _tell(self, payload: str) -> None:
        for hear in self._subscribers:
            hear(payload)


async def _pooled(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether a pooler stands between: it makes up a backend id, since it cannot tell yet which backend will serve."""
    row = await (await connection.execute(bytes(_SQL.backend))).fetchone()
    assert row is not None
    return bool(row[0] != connection.info.backend_pid)
