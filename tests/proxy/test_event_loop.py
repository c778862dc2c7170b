"""Nothing of ours keeps a worker's event loop from its other calls, however large a request is.

LiteLLM's own work on a large body does, for a while: the admin's calls, which pass unmetered, tell for how long.
"""

import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from .conftest import running_gateway
from .gateway import Gateway

OURS_SECONDS = 0.25
"""More than a busy machine takes from a thread, far less than tokenizing such a text on the loop takes."""

TEXT = "Ünïcode wörds, not ascii: " * 40_000
"""About a million bytes, and 400,000 tokens."""

TURNS = [{"role": "user", "content": "some words of a turn"}, {"role": "assistant", "content": "and of another"}] * 5000


@pytest.fixture(scope="module")
def lone(session_database_url: str, provider_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A proxy with one worker, which records bodies whole."""
    folder, env = tmp_path_factory.mktemp("lone"), {"CREDITS_RECORD_BYTES": "4000000"}
    with running_gateway(folder, session_database_url, provider_url, workers=1, env=env) as gateway:
        yield gateway


def longest_pause(gateway: Gateway, work: Callable[[], None]) -> float:
    """The longest that the worker let a trivial request wait while `work` ran."""
    done, waits = threading.Event(), [0.0]

    def ping() -> None:
        with httpx.Client(base_url=gateway.base_url, timeout=60) as client:
            while not done.is_set():
                started = time.monotonic()
                assert client.get("/health/liveliness").is_success
                waits.append(time.monotonic() - started)

    pinger = threading.Thread(target=ping)
    pinger.start()
    try:
        work()
    finally:
        done.set()
        pinger.join()
    return max(waits)


@pytest.mark.parametrize(
    ("messages", "credits", "model", "stream", "status"),
    [
        pytest.param([{"role": "user", "content": TEXT}], "0.05", "ok", False, 402, id="tokenizer-before-a-402"),
        pytest.param(TURNS, "100", "ok", False, 200, id="ten-thousand-turns-recorded"),
        pytest.param(
            [{"role": "user", "content": TEXT}], "100", "no-usage", True, 200, id="tokenizer-for-lack-of-usage"
        ),
    ],
)
def test_other_calls_need_not_wait(
    lone: Gateway, messages: list[dict[str, str]], credits: str, model: str, stream: bool, status: int
) -> None:
    body = {"model": model, "messages": messages, "stream": stream, "max_tokens": 50}

    def call(client: httpx.Client, expected: int) -> None:
        for _ in range(2):
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == expected, answer.text[:500]

    team = lone.team(credits=credits)
    with team.http(timeout=120) as client:
        call(client, status)  # loads the tokenizer
        ours = longest_pause(lone, lambda: call(client, status))
    litellms = longest_pause(lone, lambda: call(lone.admin, 200))
    print(f"longest pause: metered {ours:.3f} s, unmetered {litellms:.3f} s")
    assert ours <= litellms + OURS_SECONDS
