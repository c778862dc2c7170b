"""The audit (DESIGN 1, P6): recompute every balance from the ledger and the calls, and report each difference.

It reads one snapshot of the database, so it can run beside live traffic and still be exact, and it changes nothing.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import class_row, dict_row

from litellm_credits.db.queries import load
from litellm_credits.errors import NotFound
from litellm_credits.money import plain

_SQL = load("verify")

CHECKS = {
    "accounts": "every team has a balance, and none is overdrawn",
    "balances": "balances are the sums of their ledger entries",
    "closed": "the ledgers of deleted teams end at zero",
    "chain": "each ledger entry begins where the one before it ended",
    "charges": "each call was charged once, as its ledger entries say",
    "endings": "only calls that settled, or expired into a charge, were charged",
    "refunds": "calls and jobs were refunded what the ledger says",
    "jobs": "each job was charged its price once, and none is above its cap",
    "grants": "all credits come from grants, and none was overspent",
    "draws": "what grants hold and paid is part of what calls and jobs did",
    "keys": "keys have counted what their calls hold and cost",
    "holds": "what is held is what calls in flight and jobs hold",
    "leases": "nothing is held for a process that died",
}
"""The checks in their order, and what each promises. Their SQL has the same names in db/sql/verify.sql."""

MOST_SHOWN = 100
"""Differences listed per check; all are counted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that does not explain itself. Amounts are credits, where `subject` does not say otherwise."""

    team_id: str | None
    subject: str
    expected: Decimal
    found: Decimal
    differences: int

    def __str__(self) -> str:
        return f"team {self.team_id}: {self.subject}: expected {plain(self.expected)}, found {plain(self.found)}"


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found. `shown` are the first MOST_SHOWN of its `differences`."""

    name: str
    promise: str
    differences: int
    shown: list[Difference]
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """An audit of one team, or of all when `team_id` is None."""

    team_id: str | None
    teams: int
    calls: int
    entries: int
    checks: list[Check]

    @property
    def clean(self) -> bool:
        """Whether everything explains itself."""
        return not any(check.differences for check in self.checks)

    def document(self) -> dict[str, Any]:
        """The report for scripts; write it with `money.dumps`."""
        document = asdict(self) | {"clean": self.clean}
        for check in document["checks"]:
            check["shown"] = [
                {name: value for name, value in difference.items() if name != "differences"}
                for difference in check["shown"]
            ]
        return document

    def text(self) -> str:
        """The report for people."""
        lines = [f"{self.teams} teams, {self.calls} calls, {self.entries} ledger entries"]
        for check in self.checks:
            lines.append(f"{'FAIL' if check.differences else 'ok':<4}  {check.name:<8}  {check.promise}")
            lines += [f"        {difference}" for difference in check.shown]
            if more := check.differences - len(check.shown):
                lines.append(f"        and {more} more")
        wrong = sum(check.differences for check in self.checks)
        lines.append(f"{wrong} differences" if wrong else "Every credit is explained.")
        return "\n".join(lines)


def verify(
    conninfo: str,
    *,
    team_id: str | None = None,
    grace_seconds: float,
    progress: Callable[[str], None] = lambda check: None,
) -> Report:
    """Audit the database, or one team's part of it.

    Args:
        conninfo: a PostgreSQL URL or keyword string.
        team_id: audit this team only.
        grace_seconds: how long ago a hold's lease may have run out: the time that a sweep takes to come, at most a lease.
        progress: called with the name of each check before it runs; of 10 million calls, some take a minute.

    Raises:
        NotFound: no such team.
        psycopg.OperationalError: when the database cannot be reached.
    """
    params = {"team_id": team_id, "grace_seconds": grace_seconds, "limit": MOST_SHOWN}
    with psycopg.connect(conninfo, application_name="litellm-credits verify") as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute(bytes(_SQL.prepare))
        extent = connection.cursor(row_factory=dict_row).execute(bytes(_SQL.extent), params).fetchone()
        assert extent is not None
        if team_id is not None and not extent["teams"]:
            raise NotFound(what="team", id=team_id)
        checks = []
        for name, promise in CHECKS.items():
            progress(name)
            started = time.monotonic()
            cursor = connection.cursor(row_factory=class_row(Difference))
            shown = cursor.execute(bytes(getattr(_SQL, name)), params).fetchall()
            count = shown[0].differences if shown else 0
            checks.append(Check(name, promise, count, shown, time.monotonic() - started))
    return Report(team_id, checks=checks, **extent)
