"""Two proxies that share a Redis, which LiteLLM counts requests in: a key's limits hold for both together."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from litellm_credits.stack.child import Child, HeldPort

from .conftest import running_gateway, wait_for_port
from .gateway import PROMPT, Gateway, Team

LIMIT = 4


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis that keeps nothing."""
    program = shutil.which("redis-server")
    assert program is not None, "apt-get install redis-server"
    folder, port = tmp_path_factory.mktemp("redis"), HeldPort("127.0.0.1")
    number = port.number
    port.release()  # Redis does not share a port
    command = [program, "--bind", "127.0.0.1", "--port", str(number), "--save", "", "--appendonly", "no"]
    child = Child(command, env={"PATH": os.environ["PATH"]}, cwd=folder, log=folder / "redis.log")

    try:
        wait_for_port(child, number, what="Redis")
        yield number
    finally:
        child.stop(5)


@pytest.fixture(scope="module")
def two(
    redis_port: int, session_database_url: str, provider_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Gateway]]:
    """Started at once, each by a thread that outlives it, as docs/keys-and-teams.md says."""
    folder = tmp_path_factory.mktemp("shared")
    shared = {"coordination_redis": {"host": "127.0.0.1", "port": redis_port}}
    with ThreadPoolExecutor(2) as threads, ExitStack() as running:
        yield list(
            threads.map(
                running.enter_context,
                (
                    running_gateway(
                        folder / name, session_database_url, provider_url, workers=1, general_settings=shared
                    )
                    for name in ("one", "other")
                ),
            )
        )


def test_a_keys_limit_holds_for_all_machines_together(two: list[Gateway]) -> None:
    team = two[0].team(rpm_limit=LIMIT)
    body = {"model": "ok", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8}
    statuses = []
    for number in range(3 * LIMIT):
        with Team(two[number % 2], team.team_id, team.key).http() as http:
            statuses.append(http.post("/v1/chat/completions", json=body).status_code)
    assert statuses.count(200) == LIMIT, statuses
    assert set(statuses) == {200, 429}
    team.check_books()
