"""A database to try the ledger on, below the API: teams made by plain SQL, requests and endings with the dull parts filled in."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from litellm_credits.db.database import Database
from litellm_credits.ledger.calls import Ending, HoldRequest
from litellm_credits.ledger.ledger import Ledger
from litellm_credits.models import CallBasis
from litellm_credits.settings import Settings

DEADLINE_SECONDS = 20.0
POLL_SECONDS = 0.01

Row = dict[str, Any]


class Rig:
    """One database, seen and prepared on a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg.connect(url, autocommit=True, row_factory=dict_row)

    def close(self) -> None:
        self._connection.close()

    def rows(self, statement: str, *params: object) -> list[Row]:
        """The rows of a statement, which is committed."""
        cursor = self._connection.execute(statement.encode(), params)
        return cursor.fetchall() if cursor.description else []

    def row(self, statement: str, *params: object) -> Row:
        """The only row of a statement."""
        (row,) = self.rows(statement, *params)
        return row

    def team(
        self,
        team_id: str = "alpha",
        credits: object = 10,
        *,
        overdraft: object = 0,
        organization: str = "acme",
        plan: dict[str, object] | None = None,
    ) -> str:
        """A new team whose first ledger entry allocates `credits`."""
        self.rows(
            "INSERT INTO credits.organizations VALUES (%s, %s) ON CONFLICT DO NOTHING", organization, organization
        )
        self.rows(
            "INSERT INTO credits.teams (team_id, organization_id, plan) VALUES (%s, %s, %s)",
            team_id,
            organization,
            Jsonb(plan or {}),
        )
        self.rows(
            "WITH a AS (INSERT INTO credits.team_credits"
            " (team_id, organization_id, credits_allocated, credits_remaining, overdraft_limit)"
            " VALUES (%s, %s, %s, %s, %s) RETURNING *),"
            " g AS (INSERT INTO credits.credit_grants (team_id, kind, credits_granted, earmarked, reason)"
            " SELECT team_id, 'paid', credits_allocated, false, 'seed' FROM a WHERE credits_allocated > 0 RETURNING *)"
            "INSERT INTO credits.credit_transactions (account_id, team_id, organization_id, transaction_type,"
            " credits_amount, credits_before, credits_after, reason, grant_id)"
            "SELECT account_id, team_id, organization_id, 'allocation', credits_remaining, 0, credits_remaining, 'seed', grant_id"
            "  FROM a JOIN g USING (team_id)",
            team_id,
            organization,
            credits,
            credits,
            overdraft,
        )
        return team_id

    def job(self, team_id: str, status: str = "pending") -> UUID:
        """A new job."""
        job_id: UUID = self.row(
            "INSERT INTO credits.jobs (team_id, organization_id, job_type, status)"
            " SELECT team_id, organization_id, 'test', %s FROM credits.teams WHERE team_id = %s RETURNING job_id",
            status,
            team_id,
        )["job_id"]
        return job_id

    def key(self, team_id: str, *, credit_limit: object = None) -> UUID:
        """A new key's id."""
        key_id = uuid4()
        self.rows(
            "INSERT INTO credits.virtual_keys (key_id, key_hash, key_prefix, team_id, credit_limit)"
            " VALUES (%s, %s, 'sk', %s, %s)",
            key_id,
            key_id.hex,
            team_id,
            credit_limit,
        )
        return key_id

    def call(self, call_id: UUID) -> Row:
        """A call's row."""
        return self.row("SELECT * FROM credits.llm_calls WHERE call_id = %s", call_id)

    def calls(self, team_id: str) -> list[Row]:
        """The rows of all calls of a team."""
        return self.rows("SELECT * FROM credits.llm_calls WHERE team_id = %s ORDER BY created_at", team_id)

    def account(self, team_id: str) -> Row:
        """A team's balance row."""
        return self.row("SELECT * FROM credits.team_credits WHERE team_id = %s", team_id)

    def entries(self, team_id: str) -> list[Row]:
        """A team's ledger, oldest first."""
        return self.rows(
            "SELECT * FROM credits.credit_transactions WHERE team_id = %s ORDER BY transaction_id", team_id
        )

    def let_lease_run_out(self, *call_ids: UUID) -> None:
        """As if the worker that holds for these calls had died long ago."""
        self.rows(
            "UPDATE credits.llm_calls SET lease_until = now() - interval '1 hour' WHERE call_id = ANY(%s)",
            list(call_ids),
        )

    def money(self, team_id: str) -> tuple[Decimal, Decimal, Decimal]:
        """Allocated, used and held, after checking that the ledger explains them."""
        account, entries, calls = self.account(team_id), self.entries(team_id), self.calls(team_id)
        assert account["credits_remaining"] == sum((entry["credits_amount"] for entry in entries), Decimal(0))
        after = Decimal(0)
        for entry in entries:
            assert entry["credits_before"] == after
            after = entry["credits_after"]
        assert account["credits_used"] == sum((call["credits_charged"] for call in calls), Decimal(0))
        assert account["credits_held"] == sum(
            (call["credits_held"] for call in calls if call["status"] == "held"), Decimal(0)
        )
        return account["credits_allocated"], account["credits_used"], account["credits_held"]

    def waiting_for_locks(self) -> int:
        """How many statements wait for a lock in this database right now."""
        waiting: int = self.row(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )["n"]
        return waiting

    def backends_waiting(self) -> list[int]:
        """The process ids of the server's backends that wait for a lock in this database."""
        rows = self.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return [row["pid"] for row in rows]


async def eventually(condition: Callable[[], object], *, within_seconds: float = DEADLINE_SECONDS) -> None:
    """Return as soon as `condition()` is true; fail when it is not in time."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def worker(url: str, *, pool_size: int = 8, background: bool = False, **settings: float) -> AsyncIterator[Ledger]:
    """A ledger over its own pool, as each proxy worker has one; with `background`, its renewals, repeats and sweeps too."""
    chosen = Settings(**{"pool_timeout_seconds": 10.0, "settle_wait_seconds": 30.0, **settings})  # type: ignore[arg-type]
    db = Database(url, pool_size=pool_size, timeout_seconds=chosen.pool_timeout_seconds, prepare=True)
    await db.open()
    ledger = Ledger(db, chosen)
    running = asyncio.create_task(ledger.run()) if background else None
    try:
        yield ledger
        await ledger.drain()
        assert running is None or not running.done(), "the ledger's background work ended"
    finally:
        if running is not None:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        await db.close()


@asynccontextmanager
async def workers(url: str, count: int) -> AsyncIterator[list[Ledger]]:
    """So many proxies: what one of them does at once goes into one statement, what many do into as many."""
    async with AsyncExitStack() as up:
        yield [await up.enter_async_context(worker(url, pool_size=2)) for _ in range(count)]


@asynccontextmanager
async def locked(url: str, team_id: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Somebody else's transaction that has locked the team's balance, so that statements queue up behind it until it ends."""
    async with await psycopg.AsyncConnection.connect(url) as blocker:
        await blocker.execute("SELECT FROM credits.team_credits WHERE team_id = %s FOR UPDATE", (team_id,))
        yield blocker
        await blocker.commit()


def hold_request(team_id: str, credits: object, *, job_id: UUID | None = None, **more: Any) -> HoldRequest:
    """A call about to leave."""
    facts: dict[str, Any] = {
        "team_id": team_id,
        "key_id": uuid4(),
        "job_id": job_id,
        "credits": Decimal(str(credits)),
        "endpoint": "/v1/chat/completions",
        "stream": False,
        "requested_model": "gpt",
        "model_group_used": "gpt",
        "model_alias": "gpt",
        "pricing_input": Decimal("0.0005"),
        "pricing_output": Decimal("0.0015"),
    }
    return HoldRequest(**(facts | more))


def settle_of(call_id: UUID, team_id: str, credits: object, **more: Any) -> Ending:
    """A call that ended well."""
    facts: dict[str, Any] = {
        "call_id": call_id,
        "team_id": team_id,
        "model_alias": "gpt",
        "pricing_input": Decimal("0.0005"),
        "pricing_output": Decimal("0.0015"),
        "basis": CallBasis.provider_usage,
        "credits": Decimal(str(credits)),
    }
    return Ending(**(facts | more))


def void_of(call_id: UUID, team_id: str, **more: Any) -> Ending:
    """A call that cost nothing."""
    return settle_of(call_id, team_id, 0, basis=None, **more)


class Relay:
    """A way to the database that can be cut like a cable: clients lose it, the server does not notice."""

    def __init__(self, url: str) -> None:
        parts = conninfo_to_dict(url)
        self._real = str(Path(str(parts["host"])) / f".s.PGSQL.{parts.get('port') or 5432}")
        self._folder = tempfile.TemporaryDirectory(prefix="relay")
        self._clients: list[asyncio.StreamWriter] = []
        self._server_sides: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self._open = True
        self.url = make_conninfo(url, host=self._folder.name, port=5432)

    async def __aenter__(self) -> "Relay":
        self._listener = await asyncio.start_unix_server(self._join, f"{self._folder.name}/.s.PGSQL.5432")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._listener.close()
        self.cut()
        for writer in self._server_sides:
            writer.transport.abort()
        await asyncio.gather(*self._pumps)
        self._folder.cleanup()

    def cut(self) -> None:
        """Break all connections on the clients' side, and refuse new ones until `mend`. The server hears nothing of it."""
        self._open = False
        for client in self._clients:
            client.transport.abort()
        self._clients.clear()

    def mend(self) -> None:
        """Take new connections again."""
        self._open = True

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        server_reader, server_writer = await asyncio.open_unix_connection(self._real)
        self._clients.append(writer)
        self._server_sides.append(server_writer)
        for source, sink in ((reader, server_writer), (server_reader, writer)):
            self._pumps.add(asyncio.create_task(self._pump(source, sink)))

    @staticmethod
    async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
