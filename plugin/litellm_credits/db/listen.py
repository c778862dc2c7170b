"""Hears of changes: LISTEN on a connection of its own, since the schema's triggers NOTIFY on every admin change."""

import asyncio
import logging
from collections.abc import Callable

import psycopg

log = logging.getLogger("litellm_credits.db")

CHANNEL = "credits_changed"
EVERYTHING = "everything"
"""Told to subscribers when notifications may have been missed."""

_RETRY_SECONDS = 1.0


class Listener:
    """Passes each notification's payload to the subscribers, and EVERYTHING whenever it (re)connects or is cut off."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._subscribers: list[Callable[[str], None]] = []
        self.connected = False

    def subscribe(self, hear: Callable[[str], None]) -> None:
        """Call `hear(payload)` for every change from now on."""
        self._subscribers.append(hear)

    async def run(self) -> None:
        """Listen until cancelled; reconnects by itself."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True, application_name="litellm-credits listen"
                ) as connection:
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
