"""`litellm-credits migrate`: all or nothing, one at a time, and in agreement with Prisma Migrate."""

import json
import multiprocessing
import runpy
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from litellm_credits.db import migrate as migrations
from litellm_credits.db.migrate import check, migrate, migrations_dir, pending
from litellm_credits.errors import StartupRefused
from litellm_credits.ledger.verify import verify

PROJECT = Path(__file__).parents[2]
NAMES = [path.parent.name for path in sorted(migrations_dir().glob("*/migration.sql"))]

pytestmark = pytest.mark.integration


@pytest.fixture
def own_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of migrations to add to, that starts as a copy of the real one."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrations_dir(), folder)
    monkeypatch.setattr(migrations, "migrations_dir", lambda: folder)
    return folder


def add(folder: Path, name: str, script: str) -> None:
    (folder / name).mkdir()
    (folder / name / "migration.sql").write_text(script)


def value(url: str, query: str) -> Any:
    with psycopg.connect(url) as conn:
        row = conn.execute(query).fetchone()
        return row and row[0]


def refusal(url: str) -> str:
    with psycopg.connect(url) as conn, pytest.raises(StartupRefused) as refused:
        check(conn)
    return refused.value.message


def test_migrates_once_and_then_has_nothing_to_do(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as conn:
        assert pending(conn) == NAMES
    assert migrate(empty_database_url) == NAMES
    assert migrate(empty_database_url) == []
    with psycopg.connect(empty_database_url) as conn:
        assert pending(conn) == []
        check(conn)


def test_takes_keywords_and_prismas_url_parameter(empty_database_url: str) -> None:
    keywords = psycopg.conninfo.make_conninfo(empty_database_url)
    assert migrate(keywords) == NAMES
    assert migrate(f"{empty_database_url}&schema=credits") == []
    assert migrations.libpq_conninfo("postgresql://u:p@h/d?schema=credits&sslmode=require") == (
        "postgresql://u:p@h/d?sslmode=require"
    )


def test_many_processes_migrate_at_once_and_each_migration_is_applied_once(empty_database_url: str) -> None:
    with ProcessPoolExecutor(6, mp_context=multiprocessing.get_context("spawn")) as processes:
        applied = list(processes.map(migrate, [empty_database_url] * 6))
    assert sorted(name for names in applied for name in names) == NAMES
    assert value(empty_database_url, "SELECT count(*) FROM credits._prisma_migrations") == len(NAMES)


def test_waits_while_prisma_migrates(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as prisma:
        prisma.execute("SELECT pg_advisory_lock(72707369)")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            migrate(psycopg.conninfo.make_conninfo(empty_database_url, options="-c lock_timeout=100"))
    assert migrate(empty_database_url) == NAMES


def test_a_failed_migration_leaves_nothing_of_itself(empty_database_url: str, own_migrations: Path) -> None:
    add(own_migrations, "29990101000000_broken", "CREATE TABLE credits.half (id int); SELECT 1/0;")
    with pytest.raises(StartupRefused, match=r"29990101000000_broken failed.*division by zero"):
        migrate(empty_database_url)
    assert value(empty_database_url, "SELECT to_regclass('credits.half')") is None
    assert value(empty_database_url, "SELECT array_agg(migration_name) FROM credits._prisma_migrations") == NAMES
    assert refusal(empty_database_url).endswith(
        "the database lacks 29990101000000_broken. Run: litellm-credits migrate"
    )


def test_a_failed_first_migration_leaves_not_even_the_schema(empty_database_url: str, own_migrations: Path) -> None:
    add(own_migrations, "00000000000000_broken", "CREATE TABLE credits.half (id int); SELECT 1/0;")
    with pytest.raises(StartupRefused, match="00000000000000_broken"):
        migrate(empty_database_url)
    assert value(empty_database_url, "SELECT to_regnamespace('credits')") is None


def test_an_empty_database_is_refused(empty_database_url: str) -> None:
    assert refusal(empty_database_url).endswith("Run: litellm-credits migrate")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE credits._prisma_migrations SET checksum = 'other'", "was edited"),
        ("UPDATE credits._prisma_migrations SET migration_name = '29990101000000_new'", "a newer version made it"),
        ("UPDATE credits._prisma_migrations SET finished_at = NULL", "failed half-way"),
    ],
)
def test_a_history_that_is_not_ours_is_refused_untouched(database_url: str, damage: str, message: str) -> None:
    with psycopg.connect(database_url) as conn:
        conn.execute(damage)
    assert message in refusal(database_url)
    with pytest.raises(StartupRefused, match=message):
        migrate(database_url)


def test_a_migration_that_prisma_rolled_back_is_applied_again(database_url: str, own_migrations: Path) -> None:
    add(own_migrations, "29990101000000_more", "SELECT 1;")
    assert migrate(database_url) == ["29990101000000_more"]
    with psycopg.connect(database_url) as conn:
        conn.execute("UPDATE credits._prisma_migrations SET rolled_back_at = now() WHERE migration_name LIKE '2999%'")
    assert migrate(database_url) == ["29990101000000_more"]


@pytest.fixture
def prisma(capfd: pytest.CaptureFixture[str]) -> Callable[[str, str], Any]:
    """Runs a command of Prisma's schema engine on a database and returns what it prints."""
    engine = runpy.run_path(str(PROJECT / "scripts/schema.py"))["engine"]

    def run(command: str, url: str) -> Any:
        capfd.readouterr()
        assert engine(command, url=url) == 0
        output = capfd.readouterr().out
        return json.loads(output) if output else None

    return run


IN_STEP = {"editedMigrationNames": [], "failedMigrationNames": [], "hasMigrationsTable": True, "history": None}


def test_prisma_takes_our_migrations_as_its_own(empty_database_url: str, prisma: Callable[[str, str], Any]) -> None:
    migrate(empty_database_url)
    assert prisma("status", empty_database_url) == IN_STEP
    assert prisma("deploy", empty_database_url) == {"appliedMigrationNames": []}


def test_we_take_prismas_migrations_as_ours(empty_database_url: str, prisma: Callable[[str, str], Any]) -> None:
    assert prisma("deploy", empty_database_url) == {"appliedMigrationNames": NAMES}
    with psycopg.connect(empty_database_url) as conn:
        check(conn)
    assert migrate(empty_database_url) == []
    assert prisma("diff", empty_database_url) is None


def test_balances_from_before_there_were_grants_become_one_grant_each(
    own_migrations: Path, empty_database_url: str, tmp_path: Path
) -> None:
    later = [path for path in sorted(own_migrations.iterdir()) if path.is_dir() and not path.name.endswith("_init")]
    for path in later:
        path.rename(tmp_path / path.name)
    migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as conn:
        conn.execute("INSERT INTO credits.organizations VALUES ('acme', 'ACME')")
        conn.execute("INSERT INTO credits.teams (team_id, organization_id) VALUES ('old', 'acme'), ('empty', 'acme')")
        conn.execute(
            "INSERT INTO credits.team_credits (team_id, organization_id, credits_allocated, credits_remaining, credits_held)"
            " VALUES ('old', 'acme', 7, 7, 2), ('empty', 'acme', 0, 0, 0)"
        )
        conn.execute(
            "INSERT INTO credits.credit_transactions (account_id, team_id, organization_id, transaction_type, credits_amount,"
            " credits_before, credits_after, reason) SELECT account_id, team_id, 'acme', 'allocation', 7, 0, 7, 'Initial'"
            " FROM credits.team_credits WHERE team_id = 'old'"
        )
        conn.execute(
            "INSERT INTO credits.llm_calls (call_id, team_id, endpoint, status, requested_model, model_group_used, model_alias,"
            " pricing_input, pricing_output, credits_held, stream, worker_id, lease_until)"
            " VALUES (gen_random_uuid(), 'old', '/', 'held', 'm', 'g', 'a', 1, 1, 2, false, gen_random_uuid(), now())"
        )
    for path in later:
        (tmp_path / path.name).rename(path)
    migrate(empty_database_url)
    report = verify(empty_database_url, grace_seconds=3600)
    assert report.clean, report.text()
    assert value(empty_database_url, "SELECT array_agg(credits_granted::int) FROM credits.credit_grants") == [7]
    assert value(empty_database_url, "SELECT sum(calls_held) FROM credits.team_credits") == 1
