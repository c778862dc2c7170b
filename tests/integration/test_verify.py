"""`litellm-credits verify` (DESIGN 1, P6): clean after all that a ledger goes through; each promise broken by hand is seen."""

import json
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest
from click.testing import CliRunner
from tests.ledger_rig import Rig, hold_request, settle_of, void_of, worker

from litellm_credits.cli import main
from litellm_credits.errors import NotFound
from litellm_credits.ledger.calls import Held
from litellm_credits.ledger.verify import CHECKS, Report, verify
from litellm_credits.settings import settings

pytestmark = pytest.mark.integration


@pytest.fixture
async def rig(database_url: str) -> Iterator[Rig]:
    """Two teams and a deleted one that went through every kind of entry and ending; alpha ends with one call in flight."""
    rig = Rig(database_url)
    async with worker(database_url) as ledger:
        for team in (rig.team(credits=10), rig.team("beta", 10, overdraft=2, plan={"on_process_death": "charge_hold"})):
            await ledger.grant(team, Decimal(5), transaction_type="refund", reason="test")
            await ledger.grant(team, Decimal(-1), transaction_type="adjustment", reason="test")
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
    assert (report.teams, report.calls) == (2, 15)
    assert report.entries == rig.row("SELECT count(*) AS n FROM credits.credit_transactions")["n"]
    for team in ("alpha", "beta"):
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
        {"balances": [("alpha", "credits_allocated", 14, 15), ("alpha", "credits_remaining", None, None)]},
    ),
    (
        "UPDATE credits.team_credits SET credits_used = credits_used - 1, credits_allocated = credits_allocated - 1"
        " WHERE team_id = 'alpha'",
        {"balances": [("alpha", "credits_allocated", 14, 13), ("alpha", "credits_used", None, None)]},
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
        {"holds": [("alpha", "credits_held", 0, 2)]},
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
            "balances": [("alpha", "credits_allocated", 11, 14), ("alpha", "credits_used", None, None)],
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
        "UPDATE credits.llm_calls SET lease_until = now() - interval '121 seconds' WHERE status = 'held'",
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
