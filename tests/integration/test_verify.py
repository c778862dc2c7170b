"""`litellm-credits verify` (DESIGN 1, P6): clean after all that a ledger goes through; each promise broken by hand is seen."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from click.testing import CliRunner
from tests.ledger_rig import Rig, hold_request, settle_of, void_of, worker

from litellm_credits.cli import main
from litellm_credits.errors import NotFound
from litellm_credits.jobs.jobs import Jobs
from litellm_credits.ledger.calls import Held
from litellm_credits.ledger.grants import Grants, Terms
from litellm_credits.ledger.ledger import Ledger
from litellm_credits.ledger.refunds import Refunds
from litellm_credits.ledger.verify import CHECKS, Report, verify
from litellm_credits.models import JobStatus
from litellm_credits.settings import settings

pytestmark = pytest.mark.integration


@pytest.fixture
async def rig(database_url: str) -> Iterator[Rig]:
    """Two teams and a deleted one that went through every kind of entry and ending; alpha ends with one call in flight."""
    rig = Rig(database_url)
    async with worker(database_url) as ledger:
        for team in (rig.team(credits=10), rig.team("beta", 10, overdraft=2, plan={"on_process_death": "charge_hold"})):
            await Grants(ledger._db).grant(team, Decimal(5), reason="test")
            await Grants(ledger._db).adjust(team, Decimal(-1), reason="test")
            job_id = rig.job(team)
            ids = []
            for number in range(8):
                held = await ledger.hold(hold_request(team, 1, job_id=job_id if number == 7 else None))
                assert isinstance(held, Held)
                ids.append(held.call_id)
            await ledger.end(settle_of(ids[0], team, "0.0000000001"))
            await ledger.end(settle_of(ids[1], team, 3))
            await ledger.end(settle_of(ids[2], team, 0))
            await ledger.end(void_of(ids[3], team))
            rig.let_lease_run_out(*ids[4:7])
            await ledger.expire()
            await ledger.end(settle_of(ids[4], team, "0.5"))
            await ledger.end(void_of(ids[5], team))
            await ledger.end(settle_of(ids[7], team, 1))
            rig.rows("DELETE FROM credits.jobs")
        held = await ledger.hold(hold_request("alpha", 2))
        assert isinstance(held, Held)
        await money_of_all_kinds(rig, ledger)
    gone = rig.team("gone", 3)
    rig.rows(
        "INSERT INTO credits.credit_transactions (account_id, team_id, organization_id, transaction_type,"
        " credits_amount, credits_before, credits_after, reason)"
        " SELECT account_id, team_id, organization_id, 'closure', -3, 3, 0, 'test'"
        "   FROM credits.team_credits WHERE team_id = %s",
        gone,
    )
    rig.rows("DELETE FROM credits.teams WHERE team_id = 'gone'")
    yield rig
    rig.close()


async def money_of_all_kinds(rig: Rig, ledger: Ledger) -> None:
    """What gamma goes through: grants of all fates, jobs of all kinds, refunds of all that, a key with a limit."""
    grants, refunds, jobs = Grants(ledger._db), Refunds(ledger._db), Jobs(ledger._db)
    gamma = rig.team("gamma", 10, plan={"budget_mode": "hybrid", "credits_per_job": "1"})
    key_id = rig.key(gamma, credit_limit=5)
    soon = datetime.now(UTC) + timedelta(days=1)
    lapsing = await grants.grant(gamma, Decimal(4), reason="lapsing", terms=Terms(expires_at=soon))
    voided = await grants.grant(gamma, Decimal(3), reason="voided", terms=Terms(job_types=["none"]))
    await grants.grant(gamma, Decimal(2), reason="only gpt", terms=Terms(model_aliases=["gpt"]))
    plain: dict[str, Any] = {"user_id": None, "external_task_id": None, "metadata": {}, "job_type": "test"}
    capped = await jobs.create(gamma, credit_cap=Decimal(4), **plain)
    await jobs.create(gamma, credit_cap=Decimal(1), **plain)
    ids = []
    for job_id in (capped.job_id, capped.job_id, None, None):
        held = await ledger.hold(
            hold_request(gamma, "1.5", job_id=job_id, key_id=key_id if job_id is None else uuid4())
        )
        assert isinstance(held, Held)
        ids.append(held.call_id)
    for call_id in (ids[0], ids[2]):
        assert await ledger.end(settle_of(call_id, gamma, "1.25"))
    await jobs.complete(capped.job_id, status=JobStatus.completed, metadata={}, error_message=None, team_id=gamma)
    await refunds.refund(call_id=ids[2], credits=Decimal("0.5"), reason="test")
    assert voided.grant_id is not None
    await grants.void(voided.grant_id, team_id=gamma, reason="test")
    rig.rows("UPDATE credits.credit_grants SET expires_at = now() WHERE grant_id = %s", lapsing.grant_id)
    await grants.end_expired()
    await refunds.refund(job_id=capped.job_id, credits=Decimal(2), reason="test")


def audit(rig: Rig, team_id: str | None = None) -> Report:
    return verify(rig.url, team_id=team_id, grace_seconds=120)


def found(report: Report) -> dict[str, list[tuple[str | None, str, Decimal, Decimal]]]:
    """The differences of the checks that failed."""
    return {
        check.name: [(one.team_id, one.subject, one.expected, one.found) for one in check.shown]
        for check in report.checks
        if check.differences
    }


def tamper(rig: Rig, statement: str, *params: object) -> None:
    """Change what no code of ours could: without triggers, constraints and foreign keys."""
    with psycopg.connect(rig.url) as connection:
        connection.execute("SET session_replication_role = replica")
        for table, constraint in connection.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint"
            " WHERE contype = 'c' AND connamespace = 'credits'::regnamespace"
        ).fetchall():
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}".encode())
        assert connection.execute(statement.encode(), params).rowcount == 1, "the tampering must hit one row"


def one_call(rig: Rig, team_id: str, condition: str = "credits_charged = 3") -> UUID:
    call_id: UUID = rig.row(f"SELECT call_id FROM credits.llm_calls WHERE team_id = %s AND {condition}", team_id)[
        "call_id"
    ]
    return call_id


async def test_everything_that_a_ledger_goes_through_is_explained(rig: Rig) -> None:
    report = audit(rig)
    assert found(report) == {}
    assert report.clean
    assert [check.name for check in report.checks] == list(CHECKS)
    assert (report.teams, report.calls) == (3, 19)
    assert report.entries == rig.row("SELECT count(*) AS n FROM credits.credit_transactions")["n"]
    for team in ("alpha", "beta", "gamma"):
        assert audit(rig, team).clean


async def test_empty_database_is_clean(database_url: str) -> None:
    assert verify(database_url, grace_seconds=120).clean


async def test_unknown_team(rig: Rig) -> None:
    with pytest.raises(NotFound):
        audit(rig, "nobody")


TAMPERINGS = [
    (
        "DELETE FROM credits.team_credits WHERE team_id = 'alpha'",
        {"accounts": [("alpha", "balance row", 1, 0)], "charges": None, "closed": None},
    ),
    (
        "UPDATE credits.team_credits SET credits_remaining = credits_remaining + 1 WHERE team_id = 'alpha'",
        {
            "accounts": [
                ("alpha", "credits_remaining = allocated - used", Decimal("9.4999999999"), Decimal("10.4999999999"))
            ],
            "balances": [("alpha", "credits_remaining", Decimal("9.4999999999"), Decimal("10.4999999999"))],
        },
    ),
    (
        "UPDATE credits.team_credits SET credits_allocated = credits_allocated + 1,"
        " credits_remaining = credits_remaining + 1 WHERE team_id = 'alpha'",
        {
            "balances": [("alpha", "credits_allocated", 14, 15), ("alpha", "credits_remaining", None, None)],
            "grants": [("alpha", "grants less what was taken back", 14, 15)],
        },
    ),
    (
        "UPDATE credits.team_credits SET credits_used = credits_used - 1, credits_allocated = credits_allocated - 1"
        " WHERE team_id = 'alpha'",
        {
            "balances": [("alpha", "credits_allocated", 14, 13), ("alpha", "credits_used", None, None)],
            "grants": [("alpha", "grants less what was taken back", 14, 13)],
        },
    ),
    (
        "UPDATE credits.team_credits SET overdraft_limit = -100 WHERE team_id = 'alpha'",
        {"accounts": [("alpha", "overdrawn by", 0, Decimal("92.5000000001"))]},
    ),
    (
        "UPDATE credits.team_credits SET credits_held = credits_held + 1 WHERE team_id = 'alpha'",
        {"holds": [("alpha", "credits_held", 2, 3)]},
    ),
    (
        "UPDATE credits.llm_calls SET status = 'voided' WHERE team_id = 'alpha' AND status = 'held'",
        {"holds": [("alpha", "calls_held", 0, 1), ("alpha", "credits_held", 0, 2)]},
    ),
    (
        "DELETE FROM credits.credit_transactions WHERE team_id = 'gone' AND transaction_type = 'closure'",
        {"closed": [("gone", None, 0, 3)]},
    ),
    (
        "DELETE FROM credits.credit_transactions WHERE team_id = 'alpha' AND credits_amount = -3",
        {"balances": None, "chain": None, "charges": [("alpha", "call {call} credits_charged", 0, 3)]},
    ),
    (
        "UPDATE credits.credit_transactions SET credits_before = credits_before + 1, credits_after = credits_after + 1"
        " WHERE team_id = 'alpha' AND credits_amount = -3",
        {"chain": None},
    ),
    (
        "UPDATE credits.credit_transactions SET credits_after = credits_after + 1"
        " WHERE transaction_id = (SELECT max(transaction_id) FROM credits.credit_transactions WHERE team_id = 'alpha')",
        {"chain": [("alpha", None, None, None)]},
    ),
    (
        "UPDATE credits.credit_transactions SET call_id = NULL WHERE team_id = 'alpha' AND credits_amount = -3",
        {
            "charges": [("alpha", "call {call} credits_charged", 0, 3)],
        },
    ),
    (
        "UPDATE credits.credit_transactions SET call_id = gen_random_uuid() WHERE team_id = 'alpha' AND credits_amount = -3",
        {"charges": None},
    ),
    (
        "UPDATE credits.credit_transactions SET transaction_type = 'adjustment' WHERE team_id = 'alpha' AND credits_amount = -3",
        {"charges": [("alpha", "call {call} charge entries", 1, 0)]},
    ),
    (
        "UPDATE credits.llm_calls SET credits_charged = 4 WHERE call_id = '{call}'",
        {"charges": [("alpha", "call {call} credits_charged", 3, 4)]},
    ),
    (
        "UPDATE credits.llm_calls SET status = 'voided' WHERE call_id = '{call}'",
        {"endings": [("alpha", "call {call} (voided) credits_charged", 0, 3)]},
    ),
    (
        "UPDATE credits.llm_calls SET status = 'expired' WHERE call_id = '{call}'",
        {"endings": [("alpha", "call {call} (expired) credits_charged", 0, 3)]},
    ),
    (
        "DELETE FROM credits.llm_calls WHERE call_id = '{call}'",
        {"charges": [("alpha", "call {call} row", 1, 0)]},
    ),
    (
        "UPDATE credits.llm_calls SET lease_until = now() - interval '121 seconds' WHERE team_id = 'alpha' AND status = 'held'",
        {"leases": [("alpha", None, 120, None)]},
    ),
]


@pytest.mark.parametrize(("statement", "expected"), TAMPERINGS, ids=[f"{n}" for n in range(len(TAMPERINGS))])
async def test_tampering_is_seen_where_it_was_done(
    rig: Rig, statement: str, expected: dict[str, list[tuple[str, str | None, object, object]] | None]
) -> None:
    """None in an expectation: any value."""
    call_id = one_call(rig, "alpha")
    tamper(rig, statement.format(call=call_id))
    report = audit(rig)
    assert not report.clean
    assert set(found(report)) == set(expected)
    for name, differences in expected.items():
        if differences is not None:
            seen = found(report)[name]
            assert len(seen) == len(differences)
            for one, wanted in zip(seen, differences, strict=True):
                for value, want in zip(one, wanted, strict=True):
                    assert want is None or value == (want.format(call=call_id) if isinstance(want, str) else want)
    assert audit(rig, "beta").clean, "another team is not blamed"
    if "gone" not in statement:
        assert set(found(audit(rig, "alpha"))) == set(expected), "an audit of the team alone sees the same"


GRANT = "SELECT grant_id FROM credits.credit_grants WHERE team_id = 'gamma' AND reason = 'only gpt'"
CAPPED = "SELECT job_id FROM credits.jobs WHERE status = 'completed'"
TAMPERINGS_WITH_TERMS = [
    (f"UPDATE credits.credit_grants SET credits_used = credits_used + 1 WHERE grant_id = ({GRANT})", {"grants"}),
    (f"UPDATE credits.credit_grants SET credits_held = credits_held + 1 WHERE grant_id = ({GRANT})", {"grants"}),
    (f"UPDATE credits.credit_grants SET credits_granted = 3 WHERE grant_id = ({GRANT})", {"grants"}),
    ("UPDATE credits.credit_grants SET credits_taken = 0 WHERE reason = 'voided'", {"grants"}),
    (f"UPDATE credits.credit_grants SET ended_at = now() WHERE grant_id = ({GRANT})", {"grants"}),
    ("UPDATE credits.team_credits SET credits_earmarked = credits_earmarked + 1 WHERE team_id = 'gamma'", {"grants"}),
    ("UPDATE credits.team_credits SET calls_held = calls_held + 1 WHERE team_id = 'gamma'", {"holds"}),
    ("UPDATE credits.jobs SET credits_held = credits_held + 1 WHERE status = 'pending'", {"holds", "jobs"}),
    (f"UPDATE credits.jobs SET credits_charged = 0 WHERE job_id = ({CAPPED})", {"jobs"}),
    (f"UPDATE credits.jobs SET credit_cap = 0.5 WHERE job_id = ({CAPPED})", {"jobs"}),
    (f"UPDATE credits.jobs SET credits_refunded = credits_refunded + 0.1 WHERE job_id = ({CAPPED})", {"refunds"}),
    (
        "UPDATE credits.llm_calls SET credits_refunded = 0 WHERE team_id = 'gamma' AND credits_refunded = 0.5",
        {"refunds", "keys"},
    ),
    (
        "UPDATE credits.grant_draws SET credits_held = credits_held + 9 WHERE (holder_id, grant_id) ="
        f" (SELECT holder_id, grant_id FROM credits.grant_draws WHERE grant_id = ({GRANT}) LIMIT 1)",
        {"grants", "draws"},
    ),
    ("UPDATE credits.virtual_keys SET credits_held = 0 WHERE credit_limit > 0", {"keys"}),
    ("UPDATE credits.virtual_keys SET credits_used = 0 WHERE credit_limit > 0", {"keys"}),
]


@pytest.mark.parametrize(("statement", "checks"), TAMPERINGS_WITH_TERMS, ids=range(len(TAMPERINGS_WITH_TERMS)))
async def test_tampering_with_grants_jobs_and_keys_is_seen(rig: Rig, statement: str, checks: set[str]) -> None:
    tamper(rig, statement)
    seen = found(audit(rig))
    assert checks <= set(seen), seen
    assert set(seen) - checks <= {"draws"}, "seen where it was done, or where it was paid from"
    assert {one[0] for differences in seen.values() for one in differences} == {"gamma"}
    assert set(found(audit(rig, "gamma"))) == set(seen)
    assert audit(rig, "alpha").clean


async def test_lease_that_ran_out_a_moment_ago_is_left_to_the_sweep(rig: Rig) -> None:
    rig.rows("UPDATE credits.llm_calls SET lease_until = now() - interval '60 seconds' WHERE status = 'held'")
    assert audit(rig).clean
    assert not verify(rig.url, grace_seconds=10).clean


async def test_all_differences_are_counted_though_only_some_are_shown(rig: Rig) -> None:
    for number in range(120):
        rig.rows("INSERT INTO credits.teams (team_id, organization_id) VALUES (%s, 'acme')", f"t{number}")
    accounts = next(check for check in audit(rig).checks if check.name == "accounts")
    assert (accounts.differences, len(accounts.shown)) == (120, 100)
    assert "and 20 more" in audit(rig).text()


async def test_audit_is_one_snapshot_and_changes_nothing(rig: Rig) -> None:
    """Between any two checks, somebody moves a credit: no difference may come of it."""

    def move(check: str) -> None:
        rig.rows("UPDATE credits.team_credits SET credits_held = credits_held + 0.1 WHERE team_id = 'alpha'")

    assert verify(rig.url, grace_seconds=120, progress=move).clean
    assert not audit(rig).clean


@pytest.fixture
def command(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    monkeypatch.setenv("CREDITS_DATABASE_URL", rig.url)
    settings.cache_clear()
    yield CliRunner()
    settings.cache_clear()


async def test_command_says_so_when_all_is_well(command: CliRunner) -> None:
    result = command.invoke(main, ["verify"])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "Every credit is explained."
    assert "checking balances" in result.stderr
    document = json.loads(command.invoke(main, ["verify", "--team", "alpha", "--json"]).stdout)
    assert document["clean"]
    assert (document["team_id"], document["teams"]) == ("alpha", 1)


async def test_command_exits_with_1_and_says_what_is_wrong(rig: Rig, command: CliRunner) -> None:
    tamper(rig, "UPDATE credits.team_credits SET credits_held = credits_held + 0.0000000001 WHERE team_id = 'alpha'")
    result = command.invoke(main, ["verify"])
    assert result.exit_code == 1
    assert "team alpha: credits_held: expected 2, found 2.0000000001" in result.stdout
    assert "1 differences" in result.stdout
    result = command.invoke(main, ["verify", "--json"])
    assert result.exit_code == 1
    document = json.loads(result.stdout, parse_float=Decimal)
    (holds,) = [check for check in document["checks"] if check["differences"]]
    assert holds["name"] == "holds"
    assert holds["shown"] == [
        {"team_id": "alpha", "subject": "credits_held", "expected": 2, "found": Decimal("2.0000000001")}
    ]


async def test_command_refuses_an_unknown_team(command: CliRunner) -> None:
    result = command.invoke(main, ["verify", "--team", "nobody"])
    assert result.exit_code == 1
    assert "There is no team 'nobody'" in result.stderr
