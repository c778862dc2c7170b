"""The real proxy, two worker processes, the shipped configuration, and a provider that misbehaves on demand."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from litellm_credits.stack.child import Child, HeldPort
from litellm_credits.stack.stack import Stack

from .gateway import Gateway, Team, wait_until
from .provider import BEHAVIOURS

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "proxy_config.yaml"

IMPATIENT = {"timeout": 1, "stream_timeout": 1}
DEPLOYMENTS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in BEHAVIOURS} | {
    "impatient": ("hang", IMPATIENT),
    "impatient-mid": ("hang-mid", IMPATIENT),
    "falls-back": ("err500", {}),
    "falls-back-first": ("abort-first", {}),
    "falls-back-mid": ("abort", {}),
    "falls-outside": ("err500", {}),
    "outside": ("ok", {}),
}
"""model_name → the behaviour behind it and its own parameters."""

NOT_IN_ANY_GROUP = {"outside"}

_VENDORS = {
    "instruct": ("text-completion-openai/gpt-3.5-turbo-instruct", "/v1"),
    "claude": ("anthropic/claude-sonnet-4-5", ""),
    "gemini": ("gemini/gemini-2.5-flash", "/v1beta/models/gemini-2.5-flash"),
    "rerank": ("cohere/rerank-v3.5", "/v2/rerank"),
    "ocr": ("mistral/mistral-ocr-latest", "/v1"),
}
VENDOR_BEHAVIOURS = ("ok", "no-usage", "err401", "err403", "err500", "hang", "hang-mid", "abort", "gated")
VENDOR_DEPLOYMENTS = {
    f"{vendor}-{behaviour}": (model, behaviour, path)
    for vendor, (model, path) in _VENDORS.items()
    for behaviour in VENDOR_BEHAVIOURS
} | {"tokens": ("openai/gpt-3.5-turbo", "tokens", "/v1")}
"""model_name → LiteLLM's model, the behaviour behind it, and the path under that which LiteLLM is told."""


def configuration(folder: Path, provider_url: str, **changes: Any) -> Path:
    """The shipped configuration with this suite's deployments; `changes` are merged into its sections."""
    config = yaml.safe_load(SHIPPED.read_text())
    config["model_list"] = [
        {
            "model_name": name,
            "litellm_params": {
                "model": "openai/gpt-3.5-turbo",  # lends its limits and its tokenizer
                "api_base": f"{provider_url}/b/{behaviour}/v1",
                "api_key": "sk-provider",
                "max_retries": 0,
            }
            | more,
        }
        for name, (behaviour, more) in DEPLOYMENTS.items()
    ]
    config["model_list"] += [
        {
            "model_name": name,
            "litellm_params": {
                "model": model,
                "api_base": f"{provider_url}/b/{behaviour}{path}",
                "api_key": "sk-provider",
                "max_retries": 0,
            },
        }
        for name, (model, behaviour, path) in VENDOR_DEPLOYMENTS.items()
    ]
    config["general_settings"]["pass_through_endpoints"] = [
        {"path": path, "target": f"{provider_url}/b/{behaviour}/search", "auth": True, "cost_per_request": 0.01}
        for path, behaviour in OPENED.items()
    ]
    config["router_settings"] |= {
        "retry_after": 0,
        "disable_cooldowns": True,
        "fallbacks": [
            {"falls-back": ["ok"]},
            {"falls-back-first": ["ok"]},
            {"falls-back-mid": ["ok"]},
            {"falls-outside": ["outside"]},
        ],
    }
    for section, values in changes.items():
        config[section] = config.get(section, {}) | values
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


OPENED = {
    "/partner/find": "ok",
    "/partner/broken": "err500",
    "/partner/closed": "err401",
    "/partner/gated": "gated",
    "/partner/abort": "abort",
    "/partner/hang-mid": "hang-mid",
}
"""Pass-through routes that the operator has opened, and the behaviour behind each."""


def wait_for_port(child: Child, port: int, *, what: str) -> None:
    """Return once a process listens on this machine's `port`; fail where it has ended."""

    def listens() -> bool:
        assert child.exit_code is None, child.last_words()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    wait_until(listens, what=what)


@contextmanager
def running_provider(folder: Path) -> Iterator[str]:
    """The misbehaving provider as a process; its URL."""
    port = HeldPort("127.0.0.1")
    url = f"http://127.0.0.1:{port.number}"
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "tests.proxy.provider:app",
        "--port",
        str(port.number),
        "--log-level",
        "error",
    ]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE.parents[1])}
    child = Child(command, env=env, cwd=folder, log=folder / "provider.log")

    def healthy() -> bool:
        assert child.exit_code is None, child.last_words()
        try:
            return httpx.get(f"{url}/health").is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(healthy, seconds=30, what="the provider")
        yield url
    finally:
        child.stop(1)
        port.release()


@contextmanager
def running_gateway(
    folder: Path,
    database_url: str,
    provider_url: str,
    *,
    workers: int = 2,
    env: dict[str, str] | None = None,
    **changes: Any,
) -> Iterator[Gateway]:
    """A proxy of its own over this database, prepared with an alias and a group for every behaviour."""
    folder.mkdir(parents=True, exist_ok=True)
    stack = Stack(
        folder,
        database_url=database_url,
        workers=workers,
        config=configuration(folder, provider_url, **changes),
        provider=None,
        env=env,
    )
    with stack:
        aliases = [name for name in DEPLOYMENTS if name not in NOT_IN_ANY_GROUP]
        gateway = Gateway(stack.base_url, stack.admin_key, database_url, provider_url, aliases, stack=stack)
        with gateway.clients:
            gateway.prepare()
            yield gateway


@pytest.fixture(scope="session")
def provider_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One provider for all tests of this folder."""
    with running_provider(tmp_path_factory.mktemp("provider")) as url:
        yield url


@pytest.fixture(scope="session")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the proxy's other plugin notes what LiteLLM logs (journal.py)."""
    path = tmp_path_factory.mktemp("journal") / "journal"
    path.touch()
    return path


@pytest.fixture(scope="session")
def gateway(
    session_database_url: str, provider_url: str, journal: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One proxy with two workers for most tests of this folder."""
    folder = tmp_path_factory.mktemp("gateway")
    shutil.copy(HERE / "journal.py", folder)
    callbacks = {"callbacks": ["litellm_credits.proxy.plugin.credits", "journal.journal"]}
    env = {"JOURNAL": str(journal)}
    with running_gateway(folder, session_database_url, provider_url, env=env, litellm_settings=callbacks) as gateway:
        yield gateway


@pytest.fixture
def team(gateway: Gateway) -> Team:
    """A new team with 100 credits and access to everything."""
    return gateway.team()


@pytest.fixture
def other_team(gateway: Gateway) -> Team:
    """Another one."""
    return gateway.team()
