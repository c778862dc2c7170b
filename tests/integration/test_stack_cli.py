"""The command line and the processes behind it, run for real."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from litellm_credits.stack.child import HeldPort

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent
SHIPPED_CONFIG = Path(__file__).parents[2] / "proxy_config.yaml"
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"NO_PROXY": "*"}


def credits_command(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """A command that ended."""
    command = [BIN / "litellm-credits", *arguments]
    return subprocess.run(
        command, env=ENVIRONMENT | env, cwd=cwd, check=False, capture_output=True, text=True, timeout=90
    )


def litellm_command(config: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """LiteLLM itself, without our stack, that is expected to end by itself."""
    port = HeldPort("127.0.0.1")
    try:
        return subprocess.run(
            [BIN / "litellm", "--config", config, "--host", "127.0.0.1", "--port", str(port.number)],
            env=ENVIRONMENT
            | {"LITELLM_MASTER_KEY": "sk-0123456789abcdef", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
            | env,
            check=False,
            capture_output=True,
            text=True,
            timeout=90,
        )
    finally:
        port.release()


def refusal_of(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line with which a command refused."""
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    (line,) = [
        line for line in ended.stderr.splitlines() if line.startswith(("Error: ", "litellm-credits cannot start: "))
    ]
    return line


@pytest.fixture
def dead_url() -> Iterator[str]:
    """The URL of a database where nobody answers."""
    port = HeldPort("127.0.0.1")
    yield f"postgresql://someone@127.0.0.1:{port.number}/credits"
    port.release()


def test_help_lists_the_commands() -> None:
    shown = credits_command("--help")
    assert shown.returncode == 0
    for command in ("demo", "run", "migrate", "status"):
        assert re.search(rf"^  {command} +\S", shown.stdout, re.MULTILINE)


def test_migrate_can_be_repeated(empty_database_url: str) -> None:
    first = credits_command("migrate", CREDITS_DATABASE_URL=empty_database_url)
    assert first.returncode == 0, first.stderr
    assert re.search(r"^applied \d+_init$", first.stdout, re.MULTILINE)
    second = credits_command("migrate", CREDITS_DATABASE_URL=empty_database_url)
    assert second.returncode == 0
    assert second.stdout == "The database is up to date.\n"


def test_migrate_makes_the_embedded_database_and_stops_it(tmp_path: Path) -> None:
    assert refusal_of(credits_command("status", CREDITS_DATA_DIR=str(tmp_path))).startswith(
        "Error: there is no database in"
    )
    assert credits_command("migrate", CREDITS_DATA_DIR=str(tmp_path)).returncode == 0
    shown = credits_command("status", CREDITS_DATA_DIR=str(tmp_path))
    assert shown.returncode == 0, shown.stderr
    assert "up to date" in shown.stdout
    assert not processes_of(tmp_path)


def test_status_for_scripts(database_url: str) -> None:
    shown = credits_command("status", "--json", CREDITS_DATABASE_URL=database_url)
    assert shown.returncode == 0, shown.stderr
    status = json.loads(shown.stdout)
    assert status["pending_migrations"] == []
    assert status["totals"]["teams"] == 0
    assert status["holds"] == {"calls_held": 0, "calls_held_overdue": 0, "oldest_hold": None, "oldest_hold_seconds": 0}


def test_status_of_a_database_that_was_not_migrated(empty_database_url: str) -> None:
    shown = credits_command("status", CREDITS_DATABASE_URL=empty_database_url)
    assert shown.returncode == 1
    assert "litellm-credits migrate" in shown.stdout


@pytest.mark.parametrize("command", ["status", "migrate", "run"])
def test_a_database_that_is_down_is_said_in_one_line(command: str, dead_url: str, tmp_path: Path) -> None:
    ended = credits_command(command, CREDITS_DATABASE_URL=dead_url, CREDITS_DATA_DIR=str(tmp_path))
    assert re.match(r"Error: PostgreSQL does not answer \(.*\)\. Check CREDITS_DATABASE_URL\.", refusal_of(ended))
    assert ended.stderr.count("\n") == 1


def test_a_port_in_use_is_said_in_one_line(database_url: str, tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = credits_command(
            "run", "--port", port, CREDITS_DATABASE_URL=database_url, CREDITS_DATA_DIR=str(tmp_path)
        )
    assert refusal_of(ended).startswith(f"Error: port {port} of 127.0.0.1 cannot be used")


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    ended = credits_command("status", CREDITS_DATA_DIR=str(tmp_path), CREDITS_POOL_SIZE="none")
    assert refusal_of(ended).startswith("Error: CREDITS_POOL_SIZE: ")


def test_litellm_does_not_start_without_its_database(dead_url: str) -> None:
    refusal = refusal_of(litellm_command(SHIPPED_CONFIG, CREDITS_DATABASE_URL=dead_url))
    assert refusal.startswith("litellm-credits cannot start: PostgreSQL does not answer")


def test_litellm_does_not_start_with_a_wrong_setting(database_url: str) -> None:
    ended = litellm_command(SHIPPED_CONFIG, CREDITS_DATABASE_URL=database_url, CREDITS_POOL_SIZE="none")
    assert refusal_of(ended).startswith("litellm-credits cannot start: CREDITS_POOL_SIZE: ")


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("general_settings", "custom_auth"),
        ("litellm_settings", "callbacks"),
        ("litellm_settings", "global_disable_no_log_param"),
    ],
)
def test_litellm_does_not_start_unmetered(section: str, name: str, database_url: str, tmp_path: Path) -> None:
    config = yaml.safe_load(SHIPPED_CONFIG.read_text())
    del config[section][name]
    changed = tmp_path / "config.yaml"
    changed.write_text(yaml.safe_dump(config))
    refusal = refusal_of(litellm_command(changed, CREDITS_DATABASE_URL=database_url))
    assert name in refusal
    assert section in refusal


def test_litellm_does_not_start_with_a_second_copy_beside_its_configuration(database_url: str, tmp_path: Path) -> None:
    """LiteLLM would run that copy with globals of its own: two meters, each seeing half of the calls."""
    config = tmp_path / "proxy_config.yaml"
    config.write_text(SHIPPED_CONFIG.read_text())
    copy = tmp_path / "litellm_credits" / "proxy" / "plugin.py"
    copy.parent.mkdir(parents=True)
    copy.write_text((SHIPPED_CONFIG.parent / "plugin/litellm_credits/proxy/plugin.py").read_text())
    refusal = refusal_of(litellm_command(config, CREDITS_DATABASE_URL=database_url))
    assert "was loaded a second time" in refusal
    assert "Move the configuration out of the folder" in refusal


def test_the_demo_adds_up_and_can_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        told = credits_command("demo", cwd=tmp_path)
        assert told.returncode == 0, told.stdout + told.stderr
        for figure in (
            "15 + 8 = 23",
            "0.0000195",
            "0.000195",
            "Balance     1 - 0.00042 = 0.99958 credits",
            "  402 Not enough credits",
        ):
            assert figure in told.stdout
        assert "✓ All figures add up" in told.stdout
        assert not processes_of(tmp_path)


def test_run_works_as_its_lines_say_and_ctrl_c_stops_all_of_it(tmp_path: Path) -> None:
    with running(tmp_path) as (run, shown):
        lines = [line for line in shown.splitlines() if line.startswith(("ADMIN=", "KEY=", "JOB=", "curl "))]
        for _ in range(2):
            pasted = subprocess.run(
                ["bash", "-c", "\n".join(lines)],
                check=False,
                capture_output=True,
                text=True,
                env=ENVIRONMENT,
                timeout=60,
            )
            assert "200 OK" in pasted.stdout, pasted.stdout
            assert "x-credits-charged: " in pasted.stdout
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 0
        assert not processes_of(tmp_path)
    status = credits_command("status", "--json", CREDITS_DATA_DIR=str(tmp_path))
    assert json.loads(status.stdout)["totals"]["teams"] == 2
    assert (tmp_path / "admin-key").stat().st_mode & 0o777 == 0o600


def test_nothing_is_left_when_run_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as (run, _):
        assert len(processes_of(tmp_path)) > 3
        run.kill()
        deadline = time.monotonic() + 30
        while processes_of(tmp_path):
            assert time.monotonic() < deadline, processes_of(tmp_path)
            time.sleep(0.2)


@contextmanager
def running(data_dir: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`run` on an embedded database, with what it printed until it was ready."""
    port = HeldPort("127.0.0.1")
    port.release()
    command = [BIN / "litellm-credits", "run", "--port", str(port.number), *options]
    env = ENVIRONMENT | {"CREDITS_DATA_DIR": str(data_dir)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        assert run.stdout is not None
        try:
            shown = ""
            for line in run.stdout:
                shown += line
                if line.startswith("Ctrl-C"):
                    break
            else:
                pytest.fail(shown)
            yield run, shown
        finally:
            run.terminate()


def processes_of(data_dir: Path) -> list[Mapping[str, object]]:
    """The processes that work in or on a folder."""
    return [
        process.info
        for process in psutil.process_iter(["pid", "cmdline", "cwd"])
        if process.info["pid"] != os.getpid()
        and process.status() != psutil.STATUS_ZOMBIE
        and (str(data_dir) in " ".join(process.info["cmdline"] or ()) or str(data_dir) in (process.info["cwd"] or ""))
    ]


@pytest.mark.parametrize("delay_ms", range(0, 24, 3))
def test_a_keeper_told_twice_to_end_still_stops_its_server(tmp_path: Path, delay_ms: int) -> None:
    """A dying owner closes its input and has it sent SIGTERM: the second must not interrupt what the first began."""
    command = [sys.executable, "-m", "litellm_credits.stack.keeper", str(tmp_path)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        assert keeper.stdout.readline().startswith(b"postgresql://")
        keeper.stdin.close()
        time.sleep(delay_ms / 1000)  # the moments at which the second may come
        keeper.send_signal(signal.SIGTERM)
        keeper.wait(30)
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()
