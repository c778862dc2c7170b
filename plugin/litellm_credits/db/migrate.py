"""Applies migrations/ to a database, and tells whether that was done.

The files are Prisma Migrate's and so is the record of them, `credits._prisma_migrations`: `prisma migrate deploy` with
`?schema=credits` takes our work as its own and we take its work as ours. Unlike Prisma, a migration and its record are
one transaction here, so that a failed one leaves nothing behind.
"""

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import class_row, scalar_row

from litellm_credits.db.queries import load
from litellm_credits.errors import StartupRefused

queries = load("migrate")


@dataclass(frozen=True)
class _Migration:
    name: str
    script: bytes

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.script).hexdigest()


@dataclass(frozen=True)
class _Record:
    name: str
    checksum: str
    finished: bool


def migrations_dir() -> Path:
    """Where the migrations are: inside an installed wheel, else in the checkout."""
    packaged = Path(__file__).with_name("migrations")
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "migrations"


def libpq_conninfo(conninfo: str) -> str:
    """`conninfo` without the parameter `schema` of Prisma's URLs, which libpq refuses. We always use "credits"."""
    address, mark, query = conninfo.rpartition("?")
    if not mark:
        return conninfo
    parameters = [parameter for parameter in query.split("&") if not parameter.startswith("schema=")]
    return address + mark + "&".join(parameters)


def pending(conn: psycopg.Connection[Any]) -> list[str]:
    """The names of the migrations that the database does not have yet, in their order."""
    return [migration.name for migration in _pending(_records(conn))]


def check(conn: psycopg.Connection[Any]) -> None:
    """Promises that the database is the one that this version was written for.

    Raises:
        StartupRefused: saying what to do, when a migration is missing, failed, edited or newer than this version.
    """
    records = _records(conn)
    _refuse_conflicts(records)
    if missing := _pending(records):
        names = ", ".join(migration.name for migration in missing)
        raise StartupRefused(problem=f"the database lacks {names}. Run: litellm-credits migrate")


def migrate(conninfo: str) -> list[str]:
    """Bring the database up to date. Safe to run from several processes at once.

    Args:
        conninfo: a libpq URL or keywords; Prisma's `?schema=` is ignored.

    Returns:
        The names of the migrations that this call applied, in their order.

    Raises:
        StartupRefused: when a migration fails, which leaves nothing of it, or when the database's history is not this
            version's (see `check`).
        psycopg.OperationalError: when the database cannot be reached.
    """
    applied = []
    with psycopg.connect(libpq_conninfo(conninfo), autocommit=True) as conn:
        while migration := _apply_next(conn):
            applied.append(migration.name)
    return applied


def _apply_next(conn: psycopg.Connection[Any]) -> _Migration | None:
    with conn.transaction():
        conn.execute(queries.lock)
        records = _records(conn)  # after the lock: another process may have migrated while we waited
        _refuse_conflicts(records)
        migration = next(iter(_pending(records)), None)
        if migration:
            _apply(conn, migration)
        return migration


def _apply(conn: psycopg.Connection[Any], migration: _Migration) -> None:
    record = {"id": str(uuid.uuid4()), "checksum": migration.checksum, "name": migration.name}
    try:
        conn.execute(queries.create_records)
        conn.execute(queries.begin_record, record)
        conn.execute(migration.script)
        conn.execute(queries.finish_record, record)
    except psycopg.Error as error:
        problem = f"migration {migration.name} failed and was rolled back. PostgreSQL says: {error}"
        raise StartupRefused(problem=problem) from error


def _files() -> list[_Migration]:
    scripts = sorted(migrations_dir().glob("*/migration.sql"))
    return [_Migration(script.parent.name, script.read_bytes()) for script in scripts]


def _records(conn: psycopg.Connection[Any]) -> list[_Record]:
    with conn.cursor(row_factory=scalar_row) as cursor:
        if not cursor.execute(queries.has_records).fetchone():
            return []
    with conn.cursor(row_factory=class_row(_Record)) as cursor:
        return cursor.execute(queries.records).fetchall()


def _pending(records: list[_Record]) -> list[_Migration]:
    recorded = {record.name for record in records}
    return [migration for migration in _files() if migration.name not in recorded]


def _refuse_conflicts(records: list[_Record]) -> None:
    checksums = {migration.name: migration.checksum for migration in _files()}
    for record in records:
        if not record.finished:
            raise StartupRefused(
                problem=f"migration {record.name} failed half-way under Prisma Migrate. Repair it, then tell Prisma: "
                f"'migrate resolve --rolled-back {record.name}', and run: litellm-credits migrate"
            )
        if record.name not in checksums:
            raise StartupRefused(
                problem=f"the database has migration {record.name}, which this version does not know: a newer version "
                "made it. Install that version of litellm-credits, or a newer one"
            )
        if record.checksum != checksums[record.name]:
            raise StartupRefused(
                problem=f"migration {record.name} was edited after the database was built from it. Restore the file "
                "(reinstall litellm-credits); a change of the schema needs a migration of its own"
            )
