"""Nothing of ours keeps a worker's event loop from its other calls, however large a request is.

LiteLLM's own work on a large body that it serves does, for a while: the admin's calls, which pass unmetered, tell for how long.
"""

import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from .conftest import running_gateway
from .gateway import Gateway

OURS_SECONDS = 0.35
"""More than a busy machine takes from a thread, less than tokenizing such a text on the loop takes."""

TEXT = " ".join(f"wörd{number * 7919:x}" for number in range(660_000))
"""More than nine million bytes, close to the largest body, in words that the tokenizer has not seen before."""

TURNS = [{"role": "user", "content": "some words of a turn"}, {"role": "assistant", "content": "and of another"}] * 500

CASES: dict[str, tuple[list[dict[str, str]], str, int]] = {
    "tokenizer-before-a-402": ([{"role": "user", "content": TEXT}], "0.05", 402),
    "a-thousand-turns-recorded": (TURNS, "100", 200),
}
"""Messages, the team's credits, the answer's status. Tests are given names, since a failure prints what they are given."""


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


@pytest.mark.parametrize("name", CASES)
def test_other_calls_need_not_wait(lone: Gateway, name: str) -> None:
    messages, credits, status = CASES[name]
    body = {"model": "ok", "messages": messages, "max_tokens": 50}

    def call(client: httpx.Client, expected: int) -> None:
        for _ in range(2):
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == expected, answer.text[:500]

    with lone.team(credits=credits).http(timeout=120) as client:
        call(client, status)  # loads the tokenizer
        ours = longest_pause(lone, lambda: call(client, status))
    litellms = longest_pause(lone, lambda: call(lone.admin, 200)) if status == 200 else 0.0
    print(f"longest pause: metered {ours:.3f} s, unmetered {litellms:.3f} s")
    assert ours <= litellms + OURS_SECONDS
