"""Clients that call without pause, each noting what it saw of every call: what happened is told from the outside."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from random import Random
from typing import Any
from uuid import uuid4

import httpx

from tests.proxy.gateway import Team, credits_for, wait_until

WORDS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
"""With an id before them, fifteen prompt tokens."""

RECOVERY_SECONDS = 60.0
"""How long service may be away after a kill."""

_WHOLE = credits_for(15, 8)
_PAUSE_SECONDS = 0.05
"""Between two calls of a client that found nobody listening."""


class Outcome(StrEnum):
    """What a client saw of a call."""

    SEEN = "seen"  # the whole answer: the body of a 200, or [DONE]
    LEFT = "left"  # a part of the stream, then it hung up by itself
    ABORTED = "aborted"  # a part of the stream, then the provider's failure
    FAILED = "failed"  # the provider's failure instead of an answer
    REFUSED = "refused"  # an error of ours: 402 or 503
    BROKEN = "broken"  # the connection broke, or there was none


@dataclass(frozen=True, slots=True)
class Wish:
    """A kind of call: the alias, whether streamed, after how many pieces to hang up, and what a whole answer costs."""

    model: str
    stream: bool
    leaves_after: int | None = None
    charge: Decimal = _WHOLE


_WISHES: Sequence[tuple[int, Wish]] = (
    (40, Wish("ok", stream=False)),
    (20, Wish("ok", stream=True)),
    (20, Wish("drip", stream=True, charge=credits_for(1, 8))),  # 0.8 s long: for kills in mid-stream
    (10, Wish("drip", stream=True, leaves_after=3)),
    (5, Wish("abort", stream=True)),
    (5, Wish("err500", stream=False)),
)
"""With their weights."""


@dataclass(slots=True)
class Attempt:
    """One call as its client saw it. `label` is its purpose and the first word of its prompt; `call_id` ours, if it came."""

    label: str
    team_id: str
    wish: Wish
    outcome: Outcome = Outcome.BROKEN
    status: int | None = None
    code: str | None = None
    call_id: str | None = None


class Clients:
    """Threads that call until told to stop.

    Attributes:
        attempts: the calls that ended for their clients.
        seen: how many of them were seen to their end.
    """

    def __init__(self, teams: Sequence[Team], number: int, seed: int) -> None:
        self.attempts: list[Attempt] = []
        self.seen = 0
        self._noting = threading.Lock()
        self._going = threading.Event()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._call_on, args=(teams[index % len(teams)], Random(f"{seed} {index}")))
            for index in range(number)
        ]

    def __enter__(self) -> "Clients":
        self._going.set()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, calls: int) -> None:
        """Return when so many more answers were seen to their end."""
        target = self.seen + calls
        wait_until(lambda: self.seen >= target, seconds=RECOVERY_SECONDS, what=f"{calls} more answers")

    @contextmanager
    def resting(self) -> Iterator[None]:
        """No new calls in the block: starting a proxy takes much longer beside them."""
        self._going.clear()
        try:
            yield
        finally:
            self._going.set()

    def _call_on(self, team: Team, random: Random) -> None:
        weights, wishes = zip(*_WISHES, strict=True)
        with team.http(timeout=60) as http:
            while self._going.wait() and not self._stopping.is_set():
                (wish,) = random.choices(wishes, weights)
                attempt = Attempt(f"crash-{uuid4().hex}", team.team_id, wish)
                try:
                    _make(http, attempt)
                except httpx.HTTPError as problem:
                    attempt.code = type(problem).__name__
                    if isinstance(problem, httpx.ConnectError):
                        time.sleep(_PAUSE_SECONDS)
                with self._noting:
                    self.attempts.append(attempt)
                    self.seen += attempt.outcome is Outcome.SEEN


def _make(http: httpx.Client, attempt: Attempt) -> None:
    """Call, read, and note the outcome; BROKEN stands until there is another.

    Raises:
        httpx.HTTPError: the connection broke.
    """
    wish = attempt.wish
    body: dict[str, Any] = {
        "model": wish.model,
        "messages": [{"role": "user", "content": f"{attempt.label} {WORDS}"}],
        "max_tokens": 8,
        "stream": wish.stream,
    }
    with http.stream("POST", "/v1/chat/completions", json=body, headers={"x-purpose": attempt.label}) as response:
        attempt.status, attempt.call_id = response.status_code, response.headers.get("x-credits-call-id")
        if response.status_code != 200:
            attempt.code = _error(json.loads(response.read()))
            attempt.outcome = Outcome.FAILED if attempt.call_id else Outcome.REFUSED
        elif wish.stream:
            attempt.outcome = _read(response, wish.leaves_after)
        elif json.loads(response.read())["choices"]:
            attempt.outcome = Outcome.SEEN


def _read(response: httpx.Response, leaves_after: int | None) -> Outcome:
    pieces, failed = 0, False
    for line in response.iter_lines():
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            return Outcome.ABORTED if failed else Outcome.SEEN
        if not line:
            continue
        event = json.loads(data)
        failed = failed or "error" in event
        pieces += any(choice["delta"].get("content") for choice in event.get("choices", ()))
        if pieces == leaves_after:
            return Outcome.LEFT
    return Outcome.ABORTED if failed else Outcome.BROKEN


def _error(body: Any) -> str:
    return str(body["error"]["code"])
