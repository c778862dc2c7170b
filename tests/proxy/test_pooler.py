"""Two proxies on one PostgreSQL, both through pgbouncer's transaction pooling: one truth, and changes are seen at once.

One of them may also talk to PostgreSQL itself, to hear of changes; the other hears nothing and must know it.
"""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import openai
import pytest
from psycopg.conninfo import conninfo_to_dict

from litellm_credits.stack.child import Child, HeldPort

from .conftest import running_gateway, wait_for_port
from .gateway import PROMPT, Gateway, Team, wait_until

CHANGES_WITHIN_SECONDS = 2.0
"""The promise is one second; the rest is the test's own calls."""


class Two(NamedTuple):
    """Proxies of the same database: one that hears changes, and one that cannot."""

    hearing: Gateway
    deaf: Gateway


def pgbouncer_command() -> str:
    """The program, which distributions keep where only administrators look."""
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert found is not None, "apt-get install pgbouncer"
    return found


@pytest.fixture(scope="module")
def pooled_url(session_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's database, through pgbouncer."""
    database = conninfo_to_dict(session_database_url)
    folder, port = tmp_path_factory.mktemp("pgbouncer"), HeldPort("127.0.0.1")
    number = port.number
    port.release()  # pgbouncer does not share a port
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host={database['host']} port={database.get('port') or 5432} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {number}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 8\nignore_startup_parameters = extra_float_digits\n"
    )
    command = [pgbouncer_command(), str(configuration)]
    if os.geteuid() == 0:  # which it refuses to run as
        for readable in (configuration, folder, *folder.parents[:2]):
            readable.chmod(0o755)
        command[1:1] = ["-u", Path(str(database["host"])).owner()]
    child = Child(command, env={"PATH": os.environ["PATH"]}, cwd=folder, log=folder / "pgbouncer.log")

    try:
        wait_for_port(child, number, what="pgbouncer")
        yield f"postgresql://postgres@127.0.0.1:{number}/{database['dbname']}"
    finally:
        child.stop(5)


@pytest.fixture(scope="module")
def two(
    pooled_url: str, session_database_url: str, provider_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Two]:
    """Started at once, each by a thread that outlives it."""
    folder = tmp_path_factory.mktemp("two")
    without_prepared = {"CREDITS_PREPARE_STATEMENTS": "false"}  # for pgbouncer before 1.21
    listening = without_prepared | {"CREDITS_LISTEN_URL": session_database_url}
    with ThreadPoolExecutor(2) as threads, ExitStack() as running:
        hearing, deaf = threads.map(
            running.enter_context,
            (
                running_gateway(folder / name, pooled_url, provider_url, workers=1, env=env)
                for name, env in (("hearing", listening), ("deaf", without_prepared))
            ),
        )
        yield Two(hearing, deaf)


def on(gateway: Gateway, team: Team) -> Team:
    """The same team, calling another proxy."""
    return Team(gateway, team.team_id, team.key)


def status_of_a_call(team: Team) -> int:
    try:
        team.chat("ok")
    except openai.APIStatusError as refusal:
        return refusal.status_code
    return 200


def test_a_balance_is_spent_once_however_many_machines_spend_it(two: Two) -> None:
    body = {"model": "ok", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8}
    with two.hearing.team().http() as probe:
        charged = Decimal(probe.post("/v1/chat/completions", json=body).headers["x-credits-charged"])
    team = two.hearing.team(credits=str(charged * 8))

    def call(one: Team) -> int:
        with one.http() as http:
            return http.post("/v1/chat/completions", json=body).status_code

    callers = [on(gateway, team) for gateway in two for _ in range(12)]
    with ThreadPoolExecutor(len(callers)) as threads:
        statuses = list(threads.map(call, callers))
    assert set(statuses) == {200, 402}
    balance = team.balance()
    assert balance["credits_used"] == charged * statuses.count(200)
    assert balance["credits_remaining"] >= 0
    team.check_books()


@pytest.mark.parametrize("side", Two._fields)
def test_a_suspension_is_seen_on_both_within_a_second(two: Two, side: str) -> None:
    here: Gateway = getattr(two, side)
    there = two.deaf if here is two.hearing else two.hearing
    team = there.team()
    assert status_of_a_call(on(here, team)) == 200
    assert status_of_a_call(team) == 200
    there.call("PUT", f"/api/teams/{team.team_id}/suspend")
    wait_until(lambda: status_of_a_call(on(here, team)) == 403, seconds=CHANGES_WITHIN_SECONDS)


def test_the_deaf_one_says_so(two: Two) -> None:
    assert "set CREDITS_LISTEN_URL" in two.deaf.stack.log_path.read_text()
    assert "set CREDITS_LISTEN_URL" not in two.hearing.stack.log_path.read_text()
