"""The pool of connections, and the ways to use it: one statement by itself, several at once, or a transaction.

A statement by itself is its own transaction and one round trip; so are several at once. Every failure to reach a database
that can be written becomes `LedgerUnavailable`; a deadlock or serialization failure is tried again, since PostgreSQL has
undone it.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from litellm_credits.db.pipeline import PipelineConnection, Step
from litellm_credits.db.queries import Query
from litellm_credits.errors import LedgerUnavailable

log = logging.getLogger("litellm_credits.db")

Row = dict[str, Any]
Params = Mapping[str, object]

_UNREACHABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    TimeoutError,
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
)
_UNDONE = (errors.DeadlockDetected, errors.SerializationFailure)
_ATTEMPTS = 5
_RECONNECT_SECONDS = 2.0
"""How long the pool tries by itself before it leaves it to the next call: its pauses double, and calls come soon."""


def _decimal_json(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


def connection_lost(problem: LedgerUnavailable) -> bool:
    """Whether a connection broke, so that another may serve; else waiting once more would only fail later."""
    return not isinstance(problem.__cause__, TimeoutError | PoolTimeout)


class Transaction:
    """Statements on one connection. Commits when its block ends, rolls back when the block raises."""

    def __init__(self, connection: AsyncConnection[Row]) -> None:
        self._connection = connection

    async def all(self, query: Query, params: Params | None = None) -> list[Row]:
        """Run `query` and return its rows."""
        cursor = await self._connection.execute(query, params)
        return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []

    async def one(self, query: Query, params: Params | None = None) -> Row | None:
        """Run `query` and return its first row, if any."""
        rows = await self.all(query, params)
        return rows[0] if rows else None


BEFORE_WRITES: ContextVar[Callable[[Transaction], Awaitable[None]] | None] = ContextVar(
    "litellm_credits_before_writes", default=None
)
"""What each write of the running task does first, in the same transaction: the API notes there who acts, and under which
idempotency key. None: a single statement stays one round trip."""


class Database:
    """PostgreSQL, as the rest of the program sees it."""

    def __init__(self, conninfo: str, *, pool_size: int, timeout_seconds: float, prepare: bool) -> None:
        self.conninfo = conninfo
        self._timeout_seconds = timeout_seconds
        self._prepare = prepare
        self._pool: AsyncConnectionPool[PipelineConnection] = AsyncConnectionPool(
            conninfo,
            connection_class=PipelineConnection,
            min_size=1,
            max_size=pool_size,
            timeout=timeout_seconds,
            reconnect_timeout=_RECONNECT_SECONDS,
            open=False,
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "prepare_threshold": 5 if prepare else None,
                "application_name": "litellm-credits",
            },
            configure=self._configure,
        )

    @staticmethod
    async def _configure(connection: AsyncConnection[Row]) -> None:
        set_json_loads(_decimal_json, connection)

    async def open(self) -> None:
        """Open the pool without waiting for a connection."""
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections, waiting for those in use."""
        await self._pool.close()

    async def all(self, query: Query, params: Params | None = None) -> list[Row]:
        """Run one statement as its own transaction and return its rows, within `timeout_seconds`.

        Raises:
            LedgerUnavailable: the outcome is unknown; run it again only if it is idempotent.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._connection() as connection, asyncio.timeout(self._timeout_seconds):
                    before = None if query.reads else BEFORE_WRITES.get()
                    if before is None:
                        return await Transaction(connection).all(query, params)
                    async with connection.transaction():
                        await before(Transaction(connection))
                        return await Transaction(connection).all(query, params)
            except _UNDONE:
                if attempt == _ATTEMPTS:
                    raise
            except LedgerUnavailable as problem:
                if attempt == _ATTEMPTS or not query.reads or not connection_lost(problem):
                    raise
                await self.mend()
        raise AssertionError("unreachable")

    async def one(self, query: Query, params: Params | None = None) -> Row | None:
        """As `all`, and return the first row, if any."""
        rows = await self.all(query, params)
        return rows[0] if rows else None

    async def together(self, steps: Sequence[Step]) -> list[list[Row]]:
        """Run several statements at once, all or nothing, and return the rows of each, within `timeout_seconds`.

        Raises:
            psycopg.Error: of the first that failed; nothing was done.
            LedgerUnavailable: the outcome is unknown.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._connection() as connection, asyncio.timeout(self._timeout_seconds):
                    return await connection.run(steps, prepare=self._prepare)
            except _UNDONE:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Several statements, all or nothing.

        Raises:
            LedgerUnavailable: when the database cannot be reached; after COMMIT was sent the outcome is unknown.
        """
        async with self._connection() as connection, connection.transaction():
            before = BEFORE_WRITES.get()
            if before is not None:
                await before(Transaction(connection))
            yield Transaction(connection)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[PipelineConnection]:
        try:
            connection = await self._pool.getconn()
            try:
                yield connection
            except errors.ReadOnlySqlTransaction:
                await connection.close()  # a demoted primary: the pool must look for the new one
                raise
            finally:  # they commit by themselves, so that the pool's own context would only cost a turn
                await self._pool.putconn(connection)
        except _UNDONE:
            raise
        except _UNREACHABLE as problem:
            log.warning("database unreachable: %s: %s", type(problem).__name__, str(problem).strip().splitlines()[:1])
            raise LedgerUnavailable from problem

    async def mend(self) -> None:
        """Replace the pool's broken connections now rather than one failed statement each."""
        await self._pool.check()
