"""Hot statements find their rows by index, however much there is: plans are asserted, not times.

Each statement is planned twice: for these parameters, and as the generic plan that a prepared statement settles on.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from bench.fill import Filler, Size
from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH, MAX_CACHED_STATEMENT_PARAMS

from litellm_credits.db.queries import Query, load
from litellm_credits.ledger.ledger import _settle_params
from litellm_credits.tenancy.keys import key_hash
from tests.conftest import _new_database
from tests.ledger_rig import hold_request, settle_of

CALLS = 20_000
SIZE = Size(teams=5000, keys=10_000, aliases=100, jobs=10_000)
BIG = {"llm_calls", "credit_transactions", "team_credits", "teams", "virtual_keys", "jobs", "team_access_groups"}
TEAM = "filled-7"

ledger, tenancy, jobs = load("ledger"), load("tenancy"), load("jobs")
NOW = datetime.now(UTC)
PERIOD = {"start": NOW - timedelta(days=90), "end": NOW, "limit": 50}
FIRST_PAGE = {"team_id": TEAM, "before_time": None, "before_id": None, "limit": 50}
CALL_ID = UUID(bytes=b"\x00" * 16)

HOT: dict[str, tuple[Query, dict[str, Any]]] = {
    "hold": (
        ledger.hold,
        asdict(hold_request(TEAM, "0.01")) | {"call_id": uuid4(), "worker_id": uuid4(), "lease_seconds": 120.0},
    ),
    "settle": (ledger.settle, _settle_params(settle_of(CALL_ID, TEAM, "0.005"))),
    "renew": (ledger.renew, {"call_ids": [uuid4() for _ in range(20)], "lease_seconds": 120.0}),
    "expire": (ledger.expire, {"limit": 500}),
    "balance": (ledger.balance, {"team_id": TEAM}),
    "transactions": (ledger.transactions, {"team_id": TEAM, "before": 10_000, "limit": 50}),
    "principal": (tenancy.principal, {"key_hash": key_hash("key-1")}),
    "keys": (tenancy.keys, FIRST_PAGE),
    "jobs": (jobs.jobs, FIRST_PAGE | {"status": None}),
    "job_calls": (jobs.job_calls, {"job_id": uuid4(), "after_time": None, "after_id": None, "limit": 50}),
    "job_costs": (jobs.job_costs, {"job_id": uuid4()}),
    "team_calls": (jobs.team_calls, FIRST_PAGE),
    "usage": (jobs.usage, PERIOD | {"team_id": TEAM, "organization_id": None}),
    "usage_by_model": (jobs.usage_by_model, PERIOD | {"team_id": TEAM}),
}


@pytest.fixture(scope="module")
def filled(postgres_url: str, migrated_template: str) -> Iterator[psycopg.Connection[Any]]:
    """A database as it is after some use."""
    with _new_database(postgres_url, template=migrated_template) as url:
        Filler(url, SIZE).fill(CALLS)
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_reads_no_big_table_from_end_to_end(filled: psycopg.Connection[Any], name: str) -> None:
    query, params = HOT[name]
    (plan,) = filled.execute(b"EXPLAIN (FORMAT JSON) " + bytes(query), params).fetchone() or ((),)
    assert scanned_whole(plan[0]["Plan"]) == set(), json.dumps(plan, indent=1)


@pytest.mark.parametrize("name", HOT)
def test_neither_does_its_generic_plan(filled: psycopg.Connection[Any], name: str) -> None:
    query, params = HOT[name]
    (plan,) = filled.execute(b"EXPLAIN (GENERIC_PLAN, FORMAT JSON) " + numbered(query, params)).fetchone() or ((),)
    assert scanned_whole(plan[0]["Plan"]) == set(), json.dumps(plan, indent=1)


def test_the_watch_sees_a_scan(filled: psycopg.Connection[Any]) -> None:
    statement = "EXPLAIN (FORMAT JSON) SELECT count(*) FROM credits.llm_calls WHERE latency_ms > 1"
    (plan,) = filled.execute(statement).fetchone() or ((),)
    assert scanned_whole(plan[0]["Plan"]) == {"llm_calls"}


def scanned_whole(node: dict[str, Any]) -> set[str]:
    """The big tables that a plan reads from end to end."""
    found = {node["Relation Name"]} & BIG if node["Node Type"] == "Seq Scan" else set()
    return found.union(*(scanned_whole(child) for child in node.get("Plans", ())))


def numbered(query: Query, params: dict[str, Any]) -> bytes:
    """The statement as the server knows it: `$1` for the first parameter, and so on."""
    names = list(params)
    text = re.sub(rb"%\((\w+)\)s", lambda found: b"$%d" % (1 + names.index(found[1].decode())), bytes(query))
    return text.replace(b"%%", b"%")


@pytest.mark.parametrize("name", ["hold", "settle"])
def test_a_statement_of_every_call_is_parsed_once(name: str) -> None:
    # psycopg keeps what it has read of a statement only within these limits; reading it costs a sixth of a millisecond.
    query, params = HOT[name]
    assert len(query) <= MAX_CACHED_STATEMENT_LENGTH
    assert len(params) <= MAX_CACHED_STATEMENT_PARAMS
