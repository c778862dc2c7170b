"""PostgreSQL, a provider and the LiteLLM proxy, started in their order and stopped in the reverse one."""

import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from litellm_credits.db.migrate import migrate
from litellm_credits.db.reachable import refused_unless_reachable
from litellm_credits.errors import StartupRefused
from litellm_credits.stack.admin_key import VARIABLE as ADMIN_KEY_VARIABLE
from litellm_credits.stack.admin_key import admin_key
from litellm_credits.stack.child import Child, HeldPort

START_SECONDS = 120.0
"""How long the proxy may take to answer; it usually takes 10 to 25."""

DRAIN_SECONDS = 20.0
"""How long calls in flight may take to end when the proxy is stopped."""

_POLL_SECONDS = 0.1
_REFUSAL = StartupRefused(problem="").message
_INHERITED = ("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class StandIn:
    """An ASGI application that plays an OpenAI-compatible provider under /v1."""

    app: str = "litellm_credits.demo.provider:app"
    app_dir: Path | None = None


def shipped_config() -> Path:
    """The proxy_config.yaml of this program: inside an installed wheel, else in the checkout."""
    packaged = Path(__file__).with_name("proxy_config.yaml")
    return packaged if packaged.is_file() else Path(__file__).parents[3] / "proxy_config.yaml"


class Stack:
    """A running proxy with everything around it, between `start` and `stop`, or inside `with`.

    The processes see nothing of the caller's environment but what they cannot run without and what `env` adds: a stray
    DATABASE_URL or LITELLM_* variable changes what LiteLLM does. To be started by a thread that lives as long as the stack.

    Args:
        data_dir: where the embedded database, the admin key and the logs are kept.
        database_url: an external PostgreSQL; None: an embedded one. Either is migrated.
        admin_key: None: the one kept in `data_dir`.
        port: None: a free one.
        config: a LiteLLM configuration; None: the shipped one.
        provider: what OPENAI_API_BASE is to point at; None: what `env` says.
        env: more variables for the proxy.
        progress: is told what is being waited for.

    Attributes:
        base_url: where the proxy answers, once started; with the prefix that SERVER_ROOT_PATH in `env` names.
        log_path: what the proxy prints goes here.
    """

    base_url: str
    database_url: str
    proxy: Child

    def __init__(
        self,
        data_dir: Path,
        *,
        database_url: str | None = None,
        admin_key: str | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        workers: int = 1,
        config: Path | None = None,
        provider: StandIn | None = StandIn(),
        env: Mapping[str, str] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self.log_path = self.data_dir / "proxy.log"
        self._external_url = database_url
        self._given_admin_key = admin_key
        self._host = host
        self._port = port
        self._workers = workers
        self._config = (config or shipped_config()).resolve()
        self._provider = provider
        self._env = dict(env or {})
        self._progress = progress
        self._running = ExitStack()

    @property
    def is_external(self) -> bool:
        """Whether the database is not ours to start and stop."""
        return self._external_url is not None

    def start(self) -> None:
        """Start everything and wait until calls can be made.

        Raises:
            StartupRefused: saying what to do, or with the last lines of the log; nothing is left running.
        """
        with ExitStack() as starting:
            self._start(starting)
            self._running = starting.pop_all()

    def stop(self) -> None:
        """Stop everything: the proxy first, so that calls in flight can end and be settled."""
        self._running.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, starting: ExitStack) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.admin_key = self._given_admin_key or admin_key(self.data_dir, {})
        port = self._hold_port()
        starting.callback(port.release)
        self._progress("starting PostgreSQL" if self._external_url is None else "connecting to PostgreSQL")
        self.database_url = self._embedded(starting) if self._external_url is None else self._external_url
        with refused_unless_reachable():
            migrate(self.database_url)
        env = self._base_env() | self._env
        if self._provider is not None:
            provider_port = HeldPort("127.0.0.1")
            starting.callback(provider_port.release)
            provider = self._start_provider(starting, self._provider, provider_port.number)
            env |= {
                "OPENAI_API_BASE": f"http://127.0.0.1:{provider_port.number}/v1",
                "OPENAI_API_KEY": "stand-in",
            }
            _wait(provider, lambda: _listens(provider_port.number), "the stand-in for the provider")
        self._progress("starting the LiteLLM proxy, which takes 10 to 25 seconds")
        self.proxy = self._start_proxy(starting, env, port.number)
        reachable = "127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host  # noqa: S104
        prefix = env.get("SERVER_ROOT_PATH", "").rstrip("/")
        self.base_url = f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port.number}{prefix}"
        _wait(self.proxy, self._answers, "the LiteLLM proxy")
        port.release()

    def _hold_port(self) -> HeldPort:
        try:
            return HeldPort(self._host, self._port)
        except OSError as problem:
            raise StartupRefused(
                problem=f"port {self._port} of {self._host} cannot be used ({problem.strerror}). Choose another with --port."
            ) from problem

    def _base_env(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("LC_")}
        return inherited | {"NO_PROXY": "*", "PYTHONUNBUFFERED": "1"}

    def _embedded(self, starting: ExitStack) -> str:
        keeper = Child(
            [sys.executable, "-m", "litellm_credits.stack.keeper", str(self.data_dir)],
            env=self._base_env(),
            cwd=self.data_dir,
            log=self.data_dir / "keeper.log",
            pipes=True,
        )
        starting.callback(keeper.stop, DRAIN_SECONDS)
        said = keeper.output.readline().decode().strip()
        if refusal := _refusal_in(said):
            raise refusal
        if not said:
            raise StartupRefused(problem=f"the embedded PostgreSQL did not start:\n{keeper.last_words()}")
        return said

    def _start_provider(self, starting: ExitStack, provider: StandIn, port: int) -> Child:
        folder = ["--app-dir", str(provider.app_dir)] if provider.app_dir else []
        child = Child(
            [sys.executable, "-m", "uvicorn", provider.app, *folder, "--port", str(port), "--log-level", "warning"],
            env=self._base_env(),
            cwd=self.data_dir,
            log=self.data_dir / "provider.log",
        )
        starting.callback(child.stop, 1.0)
        return child

    def _start_proxy(self, starting: ExitStack, env: dict[str, str], port: int) -> Child:
        litellm = str(Path(sys.executable).with_name("litellm"))
        child = Child(
            [
                litellm,
                *("--config", str(self._config)),
                *("--host", self._host),
                *("--port", str(port)),
                *("--num_workers", str(self._workers)),
            ],
            env=env
            | {
                ADMIN_KEY_VARIABLE: self.admin_key,
                "CREDITS_DATABASE_URL": self.database_url,
                "CREDITS_DATA_DIR": str(self.data_dir),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_LOG": "ERROR",
                # uvicorn's supervisor kills workers that do not answer for 5 s, as one that imports LiteLLM may not.
                "TIMEOUT_WORKER_HEALTHCHECK": "60",
                "LITELLM_MODE": "PRODUCTION",  # else it reads a .env file of any folder above its own
            },
            cwd=self.data_dir,
            log=self.log_path,
        )
        starting.callback(child.stop, DRAIN_SECONDS)
        return child

    def _answers(self) -> bool:
        return all(_is_ok(f"{self.base_url}{path}") for path in ("/health/liveliness", "/api/health"))


def _wait(child: Child, ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if refusal := _refusal_in(child.log.read_text(errors="replace")):
            raise refusal
        if child.exit_code is not None:
            raise StartupRefused(
                problem=f"{what} ended with exit code {child.exit_code}. The end of {child.log}:\n{child.last_words()}"
            )
        if time.monotonic() > deadline:
            raise StartupRefused(
                problem=f"{what} did not answer within {START_SECONDS:.0f} s. The end of {child.log}:\n{child.last_words()}"
            )
        time.sleep(_POLL_SECONDS)


def _refusal_in(text: str) -> StartupRefused | None:
    """The refusal that another process of ours printed."""
    for line in text.splitlines():
        if line.startswith(_REFUSAL):
            return StartupRefused(problem=line.removeprefix(_REFUSAL).strip())
    return None


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _is_ok(url: str) -> bool:
    try:
        with _LOCAL.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
