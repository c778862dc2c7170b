"""The parts of this program, put together once per process. Knows nothing of LiteLLM: the proxy room and the CLI use it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from litellm_credits.catalog.catalog import CatalogCache
from litellm_credits.db.database import Database
from litellm_credits.db.listen import Listener
from litellm_credits.db.migrate import libpq_conninfo
from litellm_credits.jobs.sweep import Sweeper
from litellm_credits.ledger.ledger import Ledger
from litellm_credits.settings import Settings
from litellm_credits.tenancy.idempotency import IdempotencyKeys
from litellm_credits.tenancy.principals import Authenticator


class Engine:
    """One process's database pool, caches and ledger.

    Args:
        conninfo: a PostgreSQL URL or keyword string, of a database that is already migrated.
        master_key: gives the proxy's master key, which makes its holder the admin; None: there is no admin.
    """

    def __init__(self, conninfo: str, settings: Settings, *, master_key: Callable[[], str | None]) -> None:
        self.settings = settings
        self.db = Database(
            conninfo,
            pool_size=settings.pool_size,
            timeout_seconds=settings.pool_timeout_seconds,
            prepare=settings.prepare_statements,
        )
        listen_url = settings.listen_url
        self.listener = Listener(libpq_conninfo(listen_url.get_secret_value()) if listen_url else conninfo)
        ttl_seconds = settings.cache_ttl_seconds
        self.authenticator = Authenticator(
            self.db, master_key=master_key, ttl_seconds=ttl_seconds, hearing=lambda: self.listener.connected
        )
        self.idempotency_keys = IdempotencyKeys(self.db, settings, master_key=master_key)
        self.catalog = CatalogCache(self.db, ttl_seconds=ttl_seconds, hearing=lambda: self.listener.connected)
        self.ledger = Ledger(self.db, settings)
        self.listener.subscribe(self.authenticator.hear)
        self.listener.subscribe(self.catalog.hear)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the pool and start the background work, in the running event loop."""
        await self.db.open()
        self._tasks = [
            asyncio.create_task(self.listener.run(), name="credits-listen"),
            asyncio.create_task(self.ledger.run(), name="credits-ledger"),
            asyncio.create_task(self.authenticator.run(), name="credits-last-uses"),
            asyncio.create_task(self.idempotency_keys.run(), name="credits-idempotency"),
            asyncio.create_task(Sweeper(self.db).run(), name="credits-sweep"),
        ]

    async def stop(self) -> None:
        """Let go of everything, after writing what is still to be written to the ledger."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self.ledger.drain()
        await self.db.close()
