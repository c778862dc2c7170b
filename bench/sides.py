"""The proxies that are compared: without the plugin, with it, and LiteLLM as `pip install litellm[proxy]` leaves it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from litellm_credits.stack.child import Child, HeldPort
from litellm_credits.stack.stack import Stack, StandIn, shipped_config

ROOT = Path(__file__).parents[1]
BARE, METERED, STOCK = "bare", "metered", "stock"

_KEY = "sk-bench-0123456789abcdef0123456789"
_START_SECONDS = 180.0
_TICKS = os.sysconf("SC_CLK_TCK")
_OURS_GENERAL = ("custom_auth", "enforce_fallback_model_access")
_OURS_LITELLM = ("callbacks",)


@dataclass(frozen=True, slots=True)
class Side:
    """A running proxy, the key to call it with, and the process whose session holds all its workers."""

    url: str
    key: str
    pid: int

    def cpu_seconds(self) -> float:
        """CPU time that all its processes have used."""
        ticks = 0
        for pid in self._pids():
            with suppress(FileNotFoundError, ProcessLookupError):
                ticks += sum(map(int, _stat(pid)[11:13]))
        return ticks / _TICKS

    def memory_mb(self) -> float:
        """Resident memory of its largest process, a worker."""
        sizes = []
        for pid in self._pids():
            with suppress(FileNotFoundError, ProcessLookupError):
                sizes.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]))
        return max(sizes) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _pids(self) -> Iterator[int]:
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(FileNotFoundError, ProcessLookupError):
                    if int(_stat(int(folder.name))[2]) == self.pid:
                        yield int(folder.name)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name: state, parent, process group, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


@contextmanager
def running(names: Sequence[str], *, workers: int) -> Iterator[dict[str, Side]]:
    """The named sides on this machine, all up, against one provider."""
    with ExitStack() as up:
        folder = Path(up.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
        provider = _provider(up, folder)
        env = {
            "OPENAI_API_BASE": f"{provider}/v1",
            "OPENAI_API_KEY": "stand-in",
            "LITELLM_MASTER_KEY": _KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "TIMEOUT_WORKER_HEALTHCHECK": "60",
            "NO_PROXY": "*",
        }
        bins = {BARE: Path(sys.executable).parent, STOCK: _stock_environment() if STOCK in names else None}
        starting = {
            name: _litellm(up, folder, name, bin, env, workers) for name, bin in bins.items() if bin and name in names
        }
        sides = {}
        if METERED in names:
            stack = up.enter_context(Stack(folder / METERED, provider=None, env=env, admin_key=_KEY, workers=workers))
            sides[METERED] = Side(stack.base_url, _paying_team(stack), stack.proxy.process.pid)
        for name, (child, url) in starting.items():
            _wait(child, f"{url}/health/liveliness")
            sides[name] = Side(url, _KEY, child.process.pid)
        yield {name: sides[name] for name in names}


def _provider(up: ExitStack, folder: Path) -> str:
    port = HeldPort("127.0.0.1")
    up.callback(port.release)
    stand_in = StandIn("bench.provider:app", ROOT)
    command = [
        "-m",
        "uvicorn",
        stand_in.app,
        "--app-dir",
        str(ROOT),
        "--port",
        str(port.number),
        "--timeout-keep-alive",  # a connection that it closes when calls last longer fails the next one, on either side
        "600",
        "--log-level",
        "error",
    ]
    child = Child([sys.executable, *command], env={"PATH": os.environ["PATH"]}, cwd=folder, log=folder / "provider.log")
    up.callback(child.stop, 1.0)
    url = f"http://127.0.0.1:{port.number}"
    _wait(child, url)
    return url


def _litellm(up: ExitStack, folder: Path, name: str, bin: Path, env: dict[str, str], workers: int) -> tuple[Child, str]:
    """LiteLLM on its way up with the shipped configuration, less what the plugin adds to it."""
    config = yaml.safe_load(shipped_config().read_text())
    for section, ours in (("general_settings", _OURS_GENERAL), ("litellm_settings", _OURS_LITELLM)):
        config[section] = {key: value for key, value in config[section].items() if key not in ours}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    port = HeldPort("127.0.0.1")
    up.callback(port.release)
    command = [str(bin / "litellm"), "--config", str(path), "--host", "127.0.0.1", "--port", str(port.number)]
    child = Child(
        [*command, "--num_workers", str(workers)],
        env={"PATH": os.environ["PATH"], "HOME": str(folder)} | env,
        cwd=folder,
        log=folder / f"{name}.log",
    )
    up.callback(child.stop, 10.0)
    return child, f"http://127.0.0.1:{port.number}"


def _wait(child: Child, url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False).is_success:
                return
        if child.exit_code is not None or time.monotonic() > deadline:
            raise SystemExit(f"{url} did not come up:\n{child.last_words()}")
        time.sleep(0.2)


def _paying_team(stack: Stack) -> str:
    """A team that can pay for everything: its key."""
    with httpx.Client(
        base_url=f"{stack.base_url}/api",
        headers={"authorization": f"Bearer {stack.admin_key}"},
        trust_env=False,
        timeout=30,
    ) as admin:
        alias = {"model_alias": "gpt-3.5-turbo", "provider": "openai", "actual_model": "gpt-3.5-turbo"}
        team = {"organization_id": "bench", "team_id": "bench", "access_groups": ["bench"], "credits_allocated": 1e9}
        for path, body in (
            ("/organizations/create", {"organization_id": "bench", "name": "Bench"}),
            ("/models/aliases/create", alias | {"pricing_input": 0.0005, "pricing_output": 0.0015}),
            ("/model-access-groups/create", {"group_name": "bench", "model_aliases": ["gpt-3.5-turbo"]}),
            ("/teams/create", team),
        ):
            answer = admin.post(path, json=body)
            answer.raise_for_status()
        return str(answer.json()["virtual_key"])


def _stock_environment() -> Path:
    """The scripts of an environment from the same lock, less `opentelemetry-sdk`, which `litellm[proxy]` does not bring."""
    folder = ROOT / ".credits" / "bench" / "stock"
    if not (folder / "complete").exists():
        blocks = (ROOT / "requirements.lock").read_text().replace("\\\n", "\x00").splitlines()
        lock = folder / "stock.lock"
        folder.mkdir(parents=True, exist_ok=True)
        kept = [block for block in blocks if not block.startswith("opentelemetry-sdk==")]
        lock.write_text("\n".join(kept).replace("\x00", "\\\n") + "\n")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(folder / "bin" / "pip"), "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, "--require-hashes", "--only-binary", ":all:", "-r", str(lock)], check=True)
        (folder / "complete").touch()
    return folder / "bin"
