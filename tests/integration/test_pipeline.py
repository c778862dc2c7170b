"""Several statements at once: all or nothing, whatever happens to them or to their connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb
from tests.ledger_rig import eventually

from litellm_credits.db.database import Database
from litellm_credits.db.pipeline import for_each, step
from litellm_credits.db.queries import Query
from litellm_credits.errors import LedgerUnavailable

pytestmark = pytest.mark.integration

NOTE = Query("note", b"INSERT INTO notes VALUES (%(n)s)")
NOTES = Query("notes", b"SELECT n, n * 2 AS twice FROM notes WHERE n >= %(least)s ORDER BY n")
ECHO = Query("echo", b"SELECT %(text)s::text AS text, '100%%' AS whole")
DIVIDE = Query("divide", b"SELECT 1 / %(by)s::int")
LOCK = Query("lock", b"LOCK TABLE notes")
WHO = Query("who", b"SELECT pg_backend_pid() AS pid")


@asynccontextmanager
async def opened(url: str, *, prepare: bool, timeout_seconds: float = 30) -> AsyncIterator[Database]:
    """A database of which one connection is used."""
    db = Database(url, pool_size=1, timeout_seconds=timeout_seconds, prepare=prepare)
    await db.open()
    try:
        yield db
    finally:
        await db.close()


@pytest.fixture(params=[True, False], ids=["prepared", "unprepared"])
async def db(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url, prepare=request.param) as db:
        await db.all(Query("create", b"CREATE TABLE notes (n int)"))
        yield db


async def pid(db: Database) -> int:
    (row,) = await db.all(WHO)
    found: int = row["pid"]
    return found


async def test_each_step_sees_what_those_before_it_did_and_answers_with_its_own_rows(db: Database) -> None:
    for _ in range(3):
        steps = [step(NOTE, {"n": 3}), step(NOTE, {"n": 4}), step(NOTES, {"least": 4}), step(NOTES, {"least": 5})]
        *_, found, none = await db.together(steps)
        assert found[0] == {"n": 4, "twice": 8}
        assert none == []
    assert len(await db.all(NOTES, {"least": 0})) == 6


async def test_a_statement_for_several_at_once_takes_a_row_of_each(db: Database) -> None:
    several = Query(
        "several", b"INSERT INTO notes SELECT a * b FROM (VALUES [[(%(a)s::int, %(b)s::int)]]) AS given (a, b)"
    )
    for count in (1, 3, 1):
        await db.together([for_each(several, [{"a": number, "b": 10} for number in range(count)])])
    assert [row["n"] for row in await db.all(NOTES, {"least": 0})] == [0, 0, 0, 10, 20]


async def test_a_statement_for_several_takes_nothing_but_what_it_has_of_each() -> None:
    with pytest.raises(ValueError, match="beside its row"):
        for_each(Query("beside", b"SELECT %(c)s FROM (VALUES [[(%(a)s)]]) AS given (a)"), [{"a": 1, "c": 2}])


async def test_what_one_run_was_given_says_nothing_of_the_next(db: Database) -> None:
    kind = Query("kind", b"SELECT %(value)s::text AS value")
    given = [
        (7, "7"),
        ("seven", "seven"),
        (None, None),
        ([], "{}"),
        (["a"], "{a}"),
        ([7], "{7}"),
        (Decimal("0.10"), "0.10"),
        (2**40, str(2**40)),
        (True, "t"),
        (Jsonb({"a": 1}), '{"a": 1}'),
        (Jsonb("b", dumps=str.upper), "B"),
        (Jsonb({"a": 2}), '{"a": 2}'),
    ]
    for order in (given, given[::-1]):
        for value, text in order:
            assert await db.together([step(kind, {"value": value})]) == [[{"value": text}]]


async def test_a_step_that_fails_undoes_all_and_leaves_the_connection_good(db: Database) -> None:
    before = await pid(db)
    for _ in range(2):
        with pytest.raises(errors.DivisionByZero):
            await db.together([step(NOTE, {"n": 1}), step(DIVIDE, {"by": 0}), step(NOTE, {"n": 2})])
    assert await db.all(NOTES, {"least": 0}) == []
    assert await db.together([step(NOTES, {"least": 0}), step(ECHO, {"text": "on"})]) == [
        [],
        [{"text": "on", "whole": "100%"}],
    ]
    assert await pid(db) == before


async def test_a_commit_that_fails_says_why_and_undoes_all(db: Database) -> None:
    await db.all(Query("strict", b"ALTER TABLE notes ADD UNIQUE (n) DEFERRABLE INITIALLY DEFERRED"))
    before = await pid(db)
    for _ in range(2):
        with pytest.raises(errors.UniqueViolation):
            await db.together([step(NOTE, {"n": 1}), step(NOTE, {"n": 1})])
    assert await db.all(NOTES, {"least": 0}) == []
    await db.together([step(NOTE, {"n": 1}), step(NOTES, {"least": 0})])
    assert await pid(db) == before


async def test_bad_values_are_refused_before_anything_is_sent(db: Database) -> None:
    with pytest.raises((psycopg.Error, ValueError)):
        await db.together([step(NOTE, {"n": 1}), step(ECHO, {"text": "NUL \x00"})])
    assert await db.all(NOTES, {"least": 0}) == []
    assert await db.together([step(ECHO, {"text": "on"})]) == [[{"text": "on", "whole": "100%"}]]


async def test_what_does_not_fit_into_the_socket_goes_and_comes_all_the_same(db: Database) -> None:
    texts = [letter * 4_000_000 for letter in "abc"]
    async with asyncio.timeout(30):
        found = await db.together([step(ECHO, {"text": text}) for text in texts])
    assert [rows[0]["text"] for rows in found] == texts


async def test_prepared_statements_that_are_gone_are_prepared_again(db: Database) -> None:
    await db.together([step(NOTE, {"n": 1})])
    await db.all(Query("forget", b"DEALLOCATE ALL"))
    await db.together([step(NOTE, {"n": 2}), step(NOTE, {"n": 3})])
    assert [row["n"] for row in await db.all(NOTES, {"least": 0})] == [1, 2, 3]


async def test_a_connection_that_breaks_leaves_the_outcome_unknown_and_the_next_one_serves(
    db: Database, database_url: str
) -> None:
    with psycopg.connect(database_url) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE notes")
        waiting = asyncio.create_task(db.together([step(NOTE, {"n": 1}), step(NOTE, {"n": 2})]))
        await eventually(lambda: _waiting(database_url) == 1)
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        with pytest.raises(LedgerUnavailable):
            await waiting
    assert await db.together([step(NOTES, {"least": 0})]) == [[]]


async def test_a_step_that_waits_too_long_is_called_off(db: Database, database_url: str) -> None:
    async with opened(database_url, prepare=True, timeout_seconds=0.2) as hasty:
        with psycopg.connect(database_url) as other:
            other.execute("LOCK TABLE notes")
            with pytest.raises(LedgerUnavailable):
                await hasty.together([step(NOTE, {"n": 1})])
            await eventually(lambda: _waiting(database_url) == 0)
        assert await hasty.together([step(NOTES, {"least": 0})]) == [[]]


async def test_who_is_cancelled_leaves_nothing_behind(db: Database, database_url: str) -> None:
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE notes")
        waiting = asyncio.create_task(db.together([step(NOTE, {"n": 1}), step(LOCK, {})]))
        await eventually(lambda: _waiting(database_url) == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await eventually(lambda: _waiting(database_url) == 0)
    assert await db.together([step(NOTES, {"least": 0})]) == [[]]


def _waiting(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            " WHERE NOT granted AND datname = current_database()"
        ).fetchone()
    assert row is not None
    count: int = row[0]
    return count
