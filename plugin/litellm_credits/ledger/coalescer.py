"""Many transitions in one transaction: what comes while one is under way goes together in the next.

The calls of one team would only wait for each other's commit, and a round trip costs the same for ten of them as for one.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Generic, TypeVar

_MOST_TOGETHER = 16
_PROMPT_AT_ONCE = 2
"""So that PostgreSQL has something to do while the worker sends, and the other way round."""

_MOST_UNDER_WAY = 4
_PATIENCE_SECONDS = 0.02
"""How long a transaction may keep all others waiting. One that waits for a lock takes longer, and must not hold up others."""

T = TypeVar("T")


class Coalescer(Generic[T]):
    """Gives `work` everything that was added, as many at once as have come.

    No two pieces of work that are under way concern the same team. `work` runs in a context of its own, not in that of whoever
    added to it, and must not raise.
    """

    def __init__(self, work: Callable[[list[T]], Coroutine[Any, Any, None]], *, team_of: Callable[[T], str]) -> None:
        self._work = work
        self._team_of = team_of
        self._context = Context()
        self._waiting: list[T] = []
        self._under_way: dict[asyncio.Task[None], set[str]] = {}
        self._prompt: set[asyncio.Task[None]] = set()
        """Those under way that have not kept the others waiting for too long."""

    def add(self, item: T) -> None:
        """Have `item` worked on, soon."""
        self._waiting.append(item)
        self._start()

    def discard(self, item: T) -> bool:
        """Forget `item` if nothing has been done about it yet, and say so."""
        if item not in self._waiting:
            return False
        self._waiting.remove(item)
        return True

    async def idle(self) -> None:
        """Return when everything that was added has been worked on."""
        while self._waiting or self._under_way:
            await asyncio.wait(self._under_way)

    def _start(self) -> None:
        """Begin with what waits, unless enough is under way, or what has begun will take it."""
        full = len(self._prompt) == _PROMPT_AT_ONCE or len(self._under_way) == _MOST_UNDER_WAY
        if full or not all(self._under_way.values()) or not any(map(self._is_free, self._waiting)):
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(), context=self._context)
        self._under_way[task] = set()
        self._prompt.add(task)
        timer = loop.call_later(_PATIENCE_SECONDS, self._lose_patience, task, context=self._context)

        def ended(task: asyncio.Task[None]) -> None:
            timer.cancel()
            del self._under_way[task]
            self._lose_patience(task)

        task.add_done_callback(ended, context=self._context)

    async def _run(self) -> None:
        batch = self._take()  # not before: others have come in the meantime
        task = asyncio.current_task()
        assert task is not None
        self._under_way[task] = {self._team_of(item) for item in batch}
        if batch:
            self._start()
            await self._work(batch)

    def _lose_patience(self, task: asyncio.Task[None]) -> None:
        self._prompt.discard(task)
        self._start()

    def _take(self) -> list[T]:
        batch: list[T] = []
        left: list[T] = []
        for item in self._waiting:
            (batch if len(batch) < _MOST_TOGETHER and self._is_free(item) else left).append(item)
        self._waiting = left
        return batch

    def _is_free(self, item: T) -> bool:
        team = self._team_of(item)
        return all(team not in teams for teams in self._under_way.values())
