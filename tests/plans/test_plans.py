"""Hot statements find their rows by index, however much there is: plans are asserted, not times.

Each statement is planned twice: for these parameters, and as the generic plan that a prepared statement may settle on.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from bench.fill import Filler, Size

from litellm_credits.db.pipeline import Step, for_each
from litellm_credits.db.queries import Query, load
from litellm_credits.jobs.jobs import CallFilter, JobFilter
from litellm_credits.ledger.statements import hold_params, settle_params
from litellm_credits.tenancy.audit import AuditFilter
from litellm_credits.tenancy.keys import key_hash
from tests.conftest import _new_database
from tests.ledger_rig import hold_request, settle_of

CALLS = 20_000
SIZE = Size(teams=5000, earmarked=5000, keys=10_000, aliases=100, jobs=10_000)
BIG = {
    *("llm_calls", "credit_transactions", "team_credits", "credit_grants", "grant_draws", "jobs", "refills"),
    *("refill_requests", "teams", "virtual_keys", "team_access_groups", "idempotency_keys", "audit_log"),
}
TEAM = "filled-7"

ledger, tenancy, jobs, refills = load("ledger"), load("tenancy"), load("jobs"), load("refills")
idempotency, audit = load("idempotency"), load("audit")
NOW = datetime.now(UTC)
PERIOD = {"start": NOW - timedelta(days=30), "end": NOW, "limit": 50}
FIRST_PAGE = {"before_time": None, "before_id": None, "limit": 50}
OF_TEAM = {"team_id": TEAM, "organization_id": None}
OF_ORGANIZATION = {"team_id": None, "organization_id": "filled-7"}
VOUCHING = {"worker_id": uuid4(), "lease_seconds": 120.0}
HOLD_REQUEST, SETTLE_OF = hold_request(TEAM, "0.01", job_id=uuid4()), settle_of(uuid4(), TEAM, "0.005")
HOLD = VOUCHING | hold_params(uuid4(), HOLD_REQUEST)
SETTLE = settle_params(SETTLE_OF)
REQUEST = {
    "scope": f"team:{TEAM}",
    "method": "POST",
    "path": "/api/jobs/create",
    "key": "key-7",
    "fingerprint": "0" * 64,
}
CLAIM = REQUEST | {"claim_id": uuid4(), "lease_seconds": 120.0, "kept_seconds": 86400.0}


def named(step: Step) -> tuple[Query, Mapping[str, Any]]:
    """The step with the names of its parameters."""
    query, values = step
    return query, dict(zip(query.names, values, strict=True))


HOT: dict[str, tuple[Query, Mapping[str, Any]]] = {
    # every call
    "lock_accounts": (ledger.lock_accounts, {"team_ids": [TEAM, "filled-8"]}),
    "hold_plain": named(for_each(ledger.hold_plain, [HOLD])),
    "hold_plain_of_many": named(for_each(ledger.hold_plain, [HOLD] * 16)),
    "hold": (ledger.hold, HOLD),
    "settle_plain": named(for_each(ledger.settle_plain, [SETTLE])),
    "settle_plain_of_many": named(for_each(ledger.settle_plain, [SETTLE] * 16)),
    "settle": (ledger.settle, SETTLE),
    "principal": (tenancy.principal, {"key_hash": key_hash("key-1")}),
    # the sweepers
    "renew": (ledger.renew, {"call_ids": [uuid4() for _ in range(20)], "lease_seconds": 120.0}),
    "overdue_calls": (ledger.overdue_calls, {"limit": 500, "seen": [uuid4()]}),
    "expired_grants": (ledger.expired_grants, {"limit": 500}),
    "expired_jobs": (ledger.expired_jobs, {"limit": 500}),
    "due_refills": (refills.due_refills, {"limit": 500, "failed": ["none"]}),
    "forget_answers": (idempotency.sweep, {"limit": 1000}),
    # jobs and credits
    "fund_job": (
        ledger.fund_job,
        {"team_id": TEAM, "job_id": uuid4(), "job_type": "filled", "credits": Decimal(1)},
    ),
    "close_job": (
        ledger.close_job,
        {"team_id": TEAM, "job_id": uuid4(), "status": "completed", "expired": False, "metadata": "{}"}
        | {"error_message": None, "most_bytes": 100_000},
    ),
    "calls_in_flight": (ledger.calls_in_flight, {"job_id": uuid4()}),
    "paying_grants": (ledger.paying_grants, {"holder_id": uuid4()}),
    "refundable_job": (ledger.refundable_job, {"job_id": uuid4()}),
    "earlier_entry": (ledger.earlier_entry, {"team_id": TEAM, "idempotency_key": "key"}),
    "balance": (ledger.balance, {"team_id": TEAM}),
    "spendable": (refills.spendable, {"team_id": TEAM}),
    "claim": (idempotency.claim, CLAIM),
    "earlier": (idempotency.earlier, REQUEST),
    # pages and sums
    "transactions": (ledger.transactions, {"team_id": TEAM, "before": 10_000, "limit": 50}),
    "grants": (ledger.grants, FIRST_PAGE | {"team_id": TEAM, "grant_id": None, "open": False}),
    "refill_requests": (refills.requests, FIRST_PAGE | {"team_id": TEAM, "status": None}),
    "keys": (tenancy.keys, FIRST_PAGE | {"team_id": TEAM}),
    "team_views": (tenancy.team_views, {"team_ids": [f"filled-{number}" for number in range(10)]}),
    "jobs": (jobs.jobs, FIRST_PAGE | asdict(JobFilter()) | OF_TEAM),
    "jobs_of_organization": (jobs.jobs, FIRST_PAGE | asdict(JobFilter()) | OF_ORGANIZATION),
    "calls": (jobs.team_calls, FIRST_PAGE | asdict(CallFilter()) | OF_TEAM),
    "calls_of_organization": (jobs.team_calls, FIRST_PAGE | asdict(CallFilter()) | OF_ORGANIZATION),
    "job_calls": (jobs.job_calls, {"job_id": uuid4(), "after_time": None, "after_id": None, "limit": 50}),
    "job_costs": (jobs.job_costs, {"job_id": uuid4()}),
    "usage": (jobs.usage, PERIOD | OF_TEAM),
    "usage_by": (jobs.usage_by, PERIOD | OF_TEAM | {"by": "model_alias"}),
    "usage_by_job_type": (jobs.usage_by_job_type, PERIOD | OF_TEAM),
    "audit": (audit.entries, asdict(AuditFilter()) | {"before": 10_000, "limit": 50}),
    "audit_of_team": (audit.entries, asdict(AuditFilter(team_id=TEAM)) | {"before": None, "limit": 50}),
    "audit_of_subject": (
        audit.entries,
        asdict(AuditFilter(subject="teams", subject_id=TEAM)) | {"before": None, "limit": 50},
    ),
}
FILTERED = {"refill_requests", "audit", "audit_of_team", "audit_of_subject"}
"""Their plan depends on which filters are given, so that no generic one can be good."""


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


@pytest.mark.parametrize("name", sorted(HOT.keys() - FILTERED))
def test_neither_does_its_generic_plan(filled: psycopg.Connection[Any], name: str) -> None:
    query, _ = HOT[name]
    (plan,) = filled.execute(b"EXPLAIN (GENERIC_PLAN, FORMAT JSON) " + query.positional).fetchone() or ((),)
    assert scanned_whole(plan[0]["Plan"]) == set(), json.dumps(plan, indent=1)


@pytest.mark.parametrize("name", sorted(FILTERED))
def test_what_has_filters_is_planned_for_its_parameters_each_time(filled: psycopg.Connection[Any], name: str) -> None:
    query, params = HOT[name]
    with psycopg.connect(filled.info.dsn, autocommit=True) as connection:
        for _ in range(10):  # the server makes its choice after five
            connection.execute(bytes(query), params, prepare=True)
        plans = connection.execute("SELECT generic_plans, custom_plans FROM pg_prepared_statements").fetchall()
    assert plans == [(0, 10)]


def test_the_watch_sees_a_scan(filled: psycopg.Connection[Any]) -> None:
    statement = "EXPLAIN (FORMAT JSON) SELECT count(*) FROM credits.llm_calls WHERE latency_ms > 1"
    (plan,) = filled.execute(statement).fetchone() or ((),)
    assert scanned_whole(plan[0]["Plan"]) == {"llm_calls"}


def scanned_whole(node: dict[str, Any]) -> set[str]:
    """The big tables that a plan reads from end to end, by themselves or by an index that it only filters."""
    filtered = "Filter" in node and "Index Cond" not in node and node["Node Type"].startswith("Index")
    found = {node["Relation Name"]} & BIG if filtered or node["Node Type"] == "Seq Scan" else set()
    return found.union(*(scanned_whole(child) for child in node.get("Plans", ())))
