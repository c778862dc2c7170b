"""What an operator wants to know at a glance: is the database there, is it ours, how much is held and since when."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import psycopg
from psycopg.rows import class_row, dict_row
from pydantic import BaseModel

from litellm_credits.db import embedded
from litellm_credits.db.migrate import libpq_conninfo, pending
from litellm_credits.db.queries import load
from litellm_credits.db.reachable import refused_unless_reachable
from litellm_credits.errors import StartupRefused
from litellm_credits.settings import Settings

_SQL = load("status")
_PATIENCE_SECONDS = 10


class Totals(BaseModel):
    """All teams together. Amounts are credits."""

    organizations: int
    teams: int
    teams_suspended: int
    credits_allocated: Decimal
    credits_used: Decimal
    credits_held: Decimal
    credits_remaining: Decimal


class Holds(BaseModel):
    """Calls in flight, or left behind by a worker that died."""

    calls_held: int
    calls_held_overdue: int
    oldest_hold: datetime | None
    oldest_hold_seconds: int


class Status(BaseModel):
    """A database that answers. Without totals and holds while migrations are pending."""

    database: str
    postgresql: str
    pending_migrations: list[str]
    totals: Totals | None = None
    holds: Holds | None = None


def conninfo(chosen: Settings) -> str:
    """The database of these settings; the embedded one runs from here to the end of this process.

    Raises:
        StartupRefused: the embedded one does not start.
    """
    if chosen.database_url is not None:
        return libpq_conninfo(chosen.database_url.get_secret_value())
    return embedded.start(chosen.data_dir, stop_at_exit=True)


def status(chosen: Settings) -> Status:
    """Look at the database of these settings, without changing it.

    Raises:
        StartupRefused: there is none, or it does not answer.
    """
    folder = chosen.data_dir.expanduser().resolve()
    if chosen.database_url is None and not (folder / "postgres").is_dir():
        raise StartupRefused(
            problem=f"there is no database in {folder} yet. 'litellm-credits run' makes one; CREDITS_DATABASE_URL names another."
        )
    with refused_unless_reachable(), _connect(conninfo(chosen)) as connection:
        return _read(connection, embedded_in=folder if chosen.database_url is None else None)


def _connect(conninfo: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(conninfo, autocommit=True, connect_timeout=_PATIENCE_SECONDS)


def _read(connection: psycopg.Connection[tuple[object, ...]], *, embedded_in: Path | None) -> Status:
    about = connection.info
    where = f"embedded in {embedded_in}" if embedded_in else f"{about.dbname} on {about.host}:{about.port}"
    with connection.cursor(row_factory=dict_row) as cursor:
        server = cursor.execute(_SQL.server).fetchone()
    assert server is not None
    answer = Status(database=where, postgresql=server["version"], pending_migrations=pending(connection))
    if not answer.pending_migrations:
        with connection.cursor(row_factory=class_row(Totals)) as cursor:
            answer.totals = cursor.execute(_SQL.totals).fetchone()
        with connection.cursor(row_factory=class_row(Holds)) as cursor:
            answer.holds = cursor.execute(_SQL.holds).fetchone()
    return answer
