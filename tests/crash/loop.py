"""Kill -9 the proxy and PostgreSQL under load, again and again, and then check that every credit is explained.

    python -m tests.crash.loop --rounds 200 --seed 1

Each round is one kill, at a random moment. Clients note from the outside what they saw of every call; at the end, when
everything has come back and every lease has run out, the database must agree with all of them:

- an answer seen to its end is charged once, exactly (P4). The one exception is an answer that was delivered although the
  ledger did not answer within the bounded wait, by a process that was then killed before it could repeat the settle: the
  proxy has logged the call then, its row is expired, and it is counted apart;
- nothing else is charged but what a policy charges: what was produced before a client hung up or a provider broke off, a whole
  answer whose delivery was cut, and an expired hold on a plan that charges it;
- nothing is charged twice (P3), nothing stays held (P5), and nothing reached the provider without a hold (P2);
- `verify` is clean: balances, ledger and calls agree to the last digit (P6).
"""

import argparse
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import httpx

from litellm_credits.ledger.verify import verify
from tests.crash.clients import Attempt, Clients, Outcome
from tests.crash.victims import LEASE_SECONDS, SETTLE_WAIT_SECONDS, Postgres, Proxy
from tests.proxy.conftest import configuration, running_provider
from tests.proxy.gateway import Gateway, Team, wait_until

CLIENTS = 8
MOST_CALLS_BETWEEN_KILLS = 30

Row = dict[str, Any]

_LATE = re.compile(r"call (\S+): its settle is late")
"""What the proxy logs of an answer that it delivers unpaid (for now)."""

_REFUSALS = {(402, "insufficient_credits"), (503, "ledger_unavailable")}


@dataclass
class Report:
    """What happened, and what should not have."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    paid: int = 0
    by_policy: Counter[str] = field(default_factory=Counter)
    late: int = 0
    corrected: int = 0
    exceptions: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rounds, seen = sum(self.kills.values()), self.outcomes[Outcome.SEEN]
        lines = [
            f"{rounds} kills in {self.seconds:.0f} s ({_list(self.kills)}), seed {self.seed}",
            f"{sum(self.outcomes.values())} calls: {_list(self.outcomes)}",
            f"{sum(self.statuses.values())} call rows: {_list(self.statuses)}",
            f"{seen} answers seen to their end: {self.paid} charged once and exactly, {self.exceptions} lost to the one exception"
            f" ({self.late} settles were late, {self.corrected} came after their lease had run out)",
            f"{self.by_policy.total()} charges by policy: {_list(self.by_policy)}",
            *self.problems,
            f"{len(self.problems)} problems" if self.problems else "every credit is explained",
        ]
        return "\n".join(lines)


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"


# The kills --------------------------------------------------------------------------------------------------------------


def schedule(rounds: int) -> Iterator[str]:
    """What to kill in each round: mostly PostgreSQL, which is back in a second; sometimes a worker, after an
    outage that has left settles for it to repeat; seldom the whole proxy."""
    for number in range(1, rounds + 1):
        if number % 50 == 0:
            yield "proxy"
        elif number % 16 == 12:
            yield "postgres, then a worker"
        elif number % 8 == 4:
            yield "worker"
        elif number % 4 == 2:
            yield "backend"
        else:
            yield "postgres"


def run(rounds: int, seed: int, folder: Path, *, say: Callable[[str], None] = lambda _: None) -> Report:
    """Kill `rounds` times under load, let everything come back, and compare what clients saw with the database.

    To be called in the main thread. `say` is told about every kill.
    """
    report = Report(seed)
    with Postgres.running() as postgres, running_provider(folder) as provider_url:
        with _running_proxy(folder, postgres, provider_url) as proxy:
            gateway = _prepared(proxy, postgres, provider_url)
            started = time.monotonic()
            with Clients(_teams(gateway), CLIENTS, seed) as clients:
                _kill(rounds, Random(seed), postgres, proxy, clients, report, say)
            report.seconds = time.monotonic() - started
            patience = 4 * LEASE_SECONDS + 2 * SETTLE_WAIT_SECONDS
            wait_until(lambda: not _held(gateway), seconds=patience, what="the end of all holds")
        _check(report, gateway, clients.attempts, _late(proxy))
    return report


@contextmanager
def _running_proxy(folder: Path, postgres: Postgres, provider_url: str) -> Iterator[Proxy]:
    proxy = Proxy(folder, postgres.url, configuration(folder, provider_url))
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.stop()


def _prepared(proxy: Proxy, postgres: Postgres, provider_url: str) -> Gateway:
    aliases = ["ok", "drip", "abort", "err500"]
    gateway = Gateway(proxy.base_url, proxy.admin_key, postgres.url, provider_url, aliases, stack=proxy.stacks[0])
    gateway.prepare()
    return gateway


def _teams(gateway: Gateway) -> list[Team]:
    """Two that have enough, one of them on a plan that charges what expires, and one that will soon be short."""
    return [
        gateway.team(credits="100000"),
        gateway.team(credits="100000", plan={"on_process_death": "charge_hold"}),
        gateway.team(credits="0.1"),
    ]


def _kill(
    rounds: int,
    random: Random,
    postgres: Postgres,
    proxy: Proxy,
    clients: Clients,
    report: Report,
    say: Callable[[str], None],
) -> None:
    for kind in schedule(rounds):
        if "worker" in kind or "proxy" in kind:
            with clients.resting():
                proxy.wait_for_workers()
        clients.wait_for(random.randint(1, MOST_CALLS_BETWEEN_KILLS))
        match kind:
            case "postgres":
                with postgres.killed():
                    pass
            case "postgres, then a worker":
                with postgres.killed():
                    _wait_for_late_settle(proxy, clients)
                    proxy.kill_worker(random)
            case "backend":
                postgres.kill_backend(random)
            case "worker":
                proxy.kill_worker(random)
            case "proxy":
                proxy.kill()
                with clients.resting():
                    proxy.start()
        report.kills[kind] += 1
        say(f"kill {report.kills.total()} of {rounds}: {kind}; {len(clients.attempts)} calls, {clients.seen} seen")
    clients.wait_for(1)


def _wait_for_late_settle(proxy: Proxy, clients: Clients) -> None:
    """Return when an answer was delivered that the ledger could not be told of, or when there seems to be none in flight."""
    late, enough = len(_late(proxy)), len(clients.attempts) + 20 * CLIENTS
    wait_until(lambda: len(_late(proxy)) > late or len(clients.attempts) > enough, seconds=60, what="a late settle")


def _late(proxy: Proxy) -> set[str]:
    """The calls whose answers were delivered before they were charged."""
    return set(_LATE.findall(proxy.logs()))


def _held(gateway: Gateway) -> int:
    held: int = gateway.rows("SELECT count(*) AS n FROM credits.llm_calls WHERE status = 'held'")[0]["n"]
    return held


# The check --------------------------------------------------------------------------------------------------------------


def _check(report: Report, gateway: Gateway, attempts: list[Attempt], late: set[str]) -> None:
    """Compare what the clients saw with what the database says, and the database with itself."""
    rows: dict[str, list[Row]] = {attempt.label: [] for attempt in attempts}
    for row in gateway.rows("SELECT * FROM credits.llm_calls"):
        rows[row["purpose"]].append(row)
        report.statuses[row["status"]] += 1
        report.corrected += "late_settle" in row["flags"]
    report.late = len(late)
    for attempt in attempts:
        report.outcomes[attempt.outcome] += 1
        for problem in _problems_of(attempt, rows[attempt.label], late, report):
            report.problems.append(f"{attempt}: {problem}: {rows[attempt.label]}")
    report.problems += _sent_without_hold(gateway, rows)
    report.problems += _ledger_problems(gateway, [row for each in rows.values() for row in each])
    charges = gateway.rows("SELECT count(*) AS n FROM credits.credit_transactions WHERE transaction_type = 'charge'")
    if charges[0]["n"] != report.paid + report.by_policy.total():
        report.problems.append(f"{charges[0]['n']} charges in the ledger")
    audit = verify(gateway.database_url, grace_seconds=0)
    if not audit.clean:
        report.problems.append(audit.text())


def _problems_of(attempt: Attempt, rows: list[Row], late: set[str], report: Report) -> Iterator[str]:
    """What is wrong with the rows of one call, which are counted in the report."""
    charged = [row for row in rows if row["credits_charged"]]
    if len(charged) > 1:
        yield "charged twice"
    if any(row["status"] == "held" for row in rows):
        yield "still held"
    match attempt.outcome:
        case Outcome.SEEN:
            own = [row for row in rows if str(row["call_id"]) == attempt.call_id]
            if [_whole(row, attempt) for row in own] == [True]:
                report.paid += 1
                return
            if [row["status"] for row in own] != ["expired"] or attempt.call_id not in late:
                yield "seen to its end, but not charged exactly"
            else:
                report.exceptions += 1
            allowed: Callable[[Row], bool] = _expired
        case Outcome.LEFT:
            allowed = lambda row: _expired(row) or _whole(row, attempt) or "client_disconnected" in row["flags"]  # noqa: E731
        case Outcome.ABORTED:
            allowed = lambda row: _expired(row) or "upstream_aborted" in row["flags"]  # noqa: E731
        case Outcome.BROKEN:
            allowed = lambda row: _expired(row) or _whole(row, attempt) or "upstream_aborted" in row["flags"]  # noqa: E731
        case Outcome.REFUSED | Outcome.FAILED:
            known = _REFUSALS if attempt.outcome is Outcome.REFUSED else {(500, "500")}
            if (attempt.status, attempt.code) not in known:
                yield "an error that should not be"
            allowed = _expired
    for row in charged:
        report.by_policy[f"{attempt.outcome} ({_described(row)})"] += 1
        if not allowed(row):
            yield "charged, which no policy says"


def _whole(row: Row, attempt: Attempt) -> bool:
    """Whether the row charges the whole answer, exactly."""
    facts = (row["status"], row["basis"], row["credits_charged"], row["credits_uncollected"])
    return facts == ("settled", "provider_usage", attempt.wish.charge, 0)


def _expired(row: Row) -> bool:
    """Whether the row is one that its plan charges at the death of its process."""
    facts = (row["status"], row["policy"], row["credits_charged"])
    return facts == ("expired", "on_process_death=charge_hold", row["credits_held"])


def _described(row: Row) -> str:
    return " ".join(filter(None, (row["status"], row["basis"], *row["flags"])))


def _sent_without_hold(gateway: Gateway, rows: dict[str, list[Row]]) -> Iterator[str]:
    """Calls that reached the provider although none of their holds is known to have been committed (P2)."""
    log = httpx.get(f"{gateway.provider_url}/log", timeout=60).json()
    for label in {str(entry["body"]["messages"][0]["content"]).split()[0] for entry in log}:
        if not any("hold_outcome_unknown" not in row["flags"] for row in rows.get(label, ())):
            yield f"{label} reached the provider without a hold: {rows.get(label)}"


def _ledger_problems(gateway: Gateway, rows: list[Row]) -> Iterator[str]:
    """Calls whose ledger entries are not exactly what the call was charged: one charge, corrected at most once (P3)."""
    entries = gateway.rows(
        "SELECT call_id, sum(credits_amount) AS amount, array_agg(transaction_type::text ORDER BY transaction_id) AS types"
        "  FROM credits.credit_transactions WHERE call_id IS NOT NULL GROUP BY call_id"
    )
    found = {entry["call_id"]: entry for entry in entries}
    for row in rows:
        entry = found.pop(row["call_id"], {"amount": Decimal(0), "types": []})
        if entry["amount"] != -row["credits_charged"] or entry["types"] not in (
            [],
            ["charge"],
            ["charge", "adjustment"],
        ):
            yield f"ledger entries {entry} of {row}"
    yield from (f"ledger entries of no call: {entry}" for entry in found.values())


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(
        description="Kill the proxy and PostgreSQL under load; check that every credit is explained."
    )
    parser.add_argument("--rounds", type=int, default=200, help="how many kills")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1_000_000), help="of what is called and killed when"
    )
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crash"))
    print(f"seed {chosen.seed}, logs in {folder}", flush=True)
    report = run(chosen.rounds, chosen.seed, folder, say=lambda line: print(line, flush=True))
    print(report)
    if report.problems:
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
