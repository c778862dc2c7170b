"""What the database itself promises, and that schema.prisma, migrations/ and models.py are one."""

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import psycopg
import pytest
from psycopg import errors

from litellm_credits import models

PROJECT = Path(__file__).parents[2]

pytestmark = pytest.mark.integration

SEED = """
INSERT INTO credits.organizations (organization_id, name) VALUES ('o1', 'One');
INSERT INTO credits.teams (team_id, organization_id) VALUES ('t1', 'o1');
INSERT INTO credits.team_credits (team_id, organization_id, credits_allocated, credits_remaining)
    VALUES ('t1', 'o1', 10, 10);
INSERT INTO credits.virtual_keys (key_hash, key_prefix, team_id) VALUES (repeat('a', 64), 'sk-1', 't1');
INSERT INTO credits.model_aliases (model_alias, provider, actual_model) VALUES ('m1', 'openai', 'gpt');
INSERT INTO credits.model_access_groups (group_name) VALUES ('g1');
"""

CALL = """
INSERT INTO credits.llm_calls (call_id, team_id, endpoint, requested_model, model_group_used, model_alias,
                               pricing_input, pricing_output, stream, worker_id, lease_until,
                               status, basis, settled_at, credits_held)
VALUES (gen_random_uuid(), 't1', '/', 'm1', 'g1', 'm1', 1, 1, false, gen_random_uuid(), now(), {})
"""

TRANSACTION = """
INSERT INTO credits.credit_transactions (account_id, team_id, organization_id, reason, call_id, idempotency_key,
                                         transaction_type, credits_amount, credits_before, credits_after)
VALUES ('00000000-0000-0000-0000-000000000001', 't1', 'o1', 'test', {})
"""


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(SEED)
        yield conn


@pytest.mark.parametrize(
    ("constraint", "statement"),
    [
        ("team_credits_no_overdraft", "UPDATE credits.team_credits SET credits_held = 10.0000000001"),
        ("team_credits_no_overdraft", "UPDATE credits.team_credits SET credits_used = 11, credits_remaining = -1"),
        ("team_credits_held", "UPDATE credits.team_credits SET credits_held = -1"),
        ("team_credits_remaining", "UPDATE credits.team_credits SET credits_used = 1"),
        ("team_credits_overdraft_limit", "UPDATE credits.team_credits SET overdraft_limit = -1"),
        ("model_aliases_pricing_input", "UPDATE credits.model_aliases SET pricing_input = -1"),
        ("model_aliases_pricing_output", "UPDATE credits.model_aliases SET pricing_output = -1"),
        ("model_aliases_max_output_tokens", "UPDATE credits.model_aliases SET max_output_tokens = 0"),
        ("llm_calls_credits_held", CALL.format("'held', NULL, NULL, -1")),
        ("llm_calls_settled_at", CALL.format("'held', NULL, now(), 1")),
        ("llm_calls_settled_at", CALL.format("'voided', NULL, NULL, 1")),
        ("llm_calls_basis", CALL.format("'settled', NULL, now(), 1")),
        ("llm_calls_basis", CALL.format("'voided', 'cache_hit', now(), 1")),
        ("credit_transactions_sum", TRANSACTION.format("NULL, NULL, 'charge', -1, 10, 10")),
    ],
)
def test_impossible_rows_are_refused(db: psycopg.Connection[Any], constraint: str, statement: str) -> None:
    with pytest.raises(errors.CheckViolation) as refused:
        db.execute(statement)
    assert refused.value.diag.constraint_name == constraint


def test_an_overdraft_is_allowed_up_to_its_limit(db: psycopg.Connection[Any]) -> None:
    db.execute("UPDATE credits.team_credits SET overdraft_limit = 5, credits_held = 15")
    with pytest.raises(errors.CheckViolation):
        db.execute("UPDATE credits.team_credits SET credits_held = 15.0000000001")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE credits.credit_transactions SET reason = 'other'",
        "DELETE FROM credits.credit_transactions",
        "TRUNCATE credits.credit_transactions",
    ],
)
def test_the_ledger_is_append_only(db: psycopg.Connection[Any], statement: str) -> None:
    with pytest.raises(errors.RestrictViolation, match="the ledger is append-only"):
        db.execute(statement)


def test_a_call_is_charged_once_and_may_be_refunded(db: psycopg.Connection[Any]) -> None:
    call = "'00000000-0000-0000-0000-000000000002', NULL"
    db.execute(TRANSACTION.format(f"{call}, 'charge', -1, 10, 9"))
    db.execute(TRANSACTION.format(f"{call}, 'refund', 1, 9, 10"))
    with pytest.raises(errors.UniqueViolation):
        db.execute(TRANSACTION.format(f"{call}, 'charge', -1, 10, 9"))


def test_an_idempotency_key_is_used_once_per_account(db: psycopg.Connection[Any]) -> None:
    db.execute(TRANSACTION.format("NULL, 'k', 'allocation', 1, 0, 1"))
    with pytest.raises(errors.UniqueViolation):
        db.execute(TRANSACTION.format("NULL, 'k', 'allocation', 1, 1, 2"))


@pytest.mark.parametrize(
    ("statement", "payloads"),
    [
        ("INSERT INTO credits.teams (team_id, organization_id) VALUES ('t2', 'o1')", {"team:t2"}),
        ("UPDATE credits.teams SET status = 'suspended'", {"team:t1"}),
        ("DELETE FROM credits.teams", {"team:t1"}),
        ("UPDATE credits.teams SET team_id = 't2'", {"team:t1", "team:t2"}),
        ("UPDATE credits.virtual_keys SET status = 'revoked'", {"team:t1"}),
        ("INSERT INTO credits.team_access_groups VALUES ('t1', 'g1', 0)", {"team:t1"}),
        ("INSERT INTO credits.organizations (organization_id, name) VALUES ('o2', 'Two')", set()),
        ("UPDATE credits.organizations SET status = 'suspended'", {"organization:o1"}),
        ("DELETE FROM credits.organizations", {"organization:o1", "team:t1"}),
        ("UPDATE credits.model_aliases SET status = 'inactive'", {"catalog"}),
        ("DELETE FROM credits.model_access_groups", {"catalog"}),
        ("INSERT INTO credits.model_alias_access_groups VALUES ('g1', 'm1', 0)", {"catalog"}),
        ("UPDATE credits.team_credits SET credits_held = 1", set()),
        (CALL.format("'held', NULL, NULL, 1"), set()),
    ],
)
def test_changes_are_announced(db: psycopg.Connection[Any], statement: str, payloads: set[str]) -> None:
    db.execute("LISTEN credits_changed")
    db.execute(statement)
    db.execute("NOTIFY credits_changed, 'end'")
    heard = set()
    for notification in db.notifies(timeout=10):
        if notification.payload == "end":
            break
        heard.add(notification.payload)
    assert heard == payloads


COLUMN_TYPES = {
    "varchar": "str",
    "bpchar": "str",
    "text": "str",
    "uuid": "UUID",
    "int4": "int",
    "int8": "int",
    "bool": "bool",
    "numeric": "Decimal",
    "timestamptz": "datetime",
    "jsonb": "dict",
    "bytea": "bytes",
    "_text": "list",
    "_varchar": "list",
}


def rows() -> dict[str, type[models.Row]]:
    """The row models by the table that their docstrings name."""
    return {
        re.findall(r"Table credits\.(\w+)\.", row.__doc__ or "")[-1]: row
        for row in models.Row.__subclasses__()
        if row.__module__ == models.__name__
    }


def test_models_have_the_columns_of_the_database(db: psycopg.Connection[Any]) -> None:
    enums = {re.sub(r"(?<!^)([A-Z])", r"_\1", enum.__name__).lower(): enum for enum in models.StrEnum.__subclasses__()}
    columns = db.execute(
        "SELECT table_name, column_name, udt_name, is_nullable = 'YES' FROM information_schema.columns"
        " WHERE table_schema = 'credits' AND table_name <> '_prisma_migrations' ORDER BY table_name, ordinal_position"
    ).fetchall()
    expected = [
        (table, column, enums[udt].__name__ if udt in enums else COLUMN_TYPES[udt], nullable)
        for table, column, udt, nullable in columns
    ]
    found = []
    for table, row in sorted(rows().items()):
        for name, field in row.model_fields.items():
            kinds = get_args(field.annotation) if NoneType in get_args(field.annotation) else (field.annotation,)
            found.append((table, name, kinds[0].__name__, NoneType in kinds))
    assert sorted(found) == sorted(expected)  # a column that a migration adds comes last


def test_enums_have_the_labels_of_the_database(db: psycopg.Connection[Any]) -> None:
    labels = db.execute("SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum GROUP BY enumtypid").fetchall()
    assert sorted([list(enum) for enum in models.StrEnum.__subclasses__() if enum.__module__ == models.__name__]) == (
        sorted(row[0] for row in labels)
    )


def test_a_row_of_the_database_fits_its_model(db: psycopg.Connection[Any]) -> None:
    with db.cursor(row_factory=psycopg.rows.class_row(models.TeamCredits)) as cursor:
        credit = cursor.execute("SELECT * FROM credits.team_credits").fetchone()
    assert credit is not None
    assert credit.credits_remaining == 10


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the schema tool chain reads and writes, to break."""
    runpy.run_path(str(PROJECT / "scripts/schema.py"))["install_engine"]()
    modules = "scripts/schema/node_modules"
    for name in ("migrations", "plugin", "scripts"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    shutil.copy(PROJECT / "schema.prisma", tmp_path)
    (tmp_path / modules).symlink_to(PROJECT / modules)
    return tmp_path


def schema(checkout: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "scripts/schema.py", *arguments]
    result = subprocess.run(command, cwd=checkout, text=True, capture_output=True, check=False)
    return result.returncode, result.stdout + result.stderr


def test_check_passes_here(checkout: Path) -> None:
    code, output = schema(checkout, "check")
    assert code == 0, output


def test_check_finds_stale_models(checkout: Path) -> None:
    with (checkout / "plugin/litellm_credits/models.py").open("a") as models_file:
        models_file.write("by_hand = True\n")
    code, output = schema(checkout, "check")
    assert code == 1
    assert "-by_hand = True" in output
    assert "migrations/ do not build" not in output


def test_check_finds_a_changed_schema_until_write_wrote_the_migration(checkout: Path) -> None:
    path = checkout / "schema.prisma"
    path.write_text(path.read_text().replace("  team_alias ", "  nickname String?\n  team_alias ", 1))
    code, output = schema(checkout, "check")
    assert code == 1
    assert 'ALTER TABLE "credits"."teams" ADD COLUMN     "nickname" TEXT;' in output
    assert "+    nickname: str | None" in output

    code, output = schema(checkout, "write", "add_nickname")
    assert code == 0, output
    assert [path.name[15:] for path in sorted((checkout / "migrations").glob("*/"))][-1] == "add_nickname"
    code, output = schema(checkout, "check")
    assert code == 0, output
