"""A worker's heap: what start-up and the first calls load stays, and garbage is collected between the turns of the event loop.

LiteLLM and what it imports are some 900,000 objects. Every full collection goes through all of them, and stops the event loop
for as long: a third of a second and more on a slow machine, a tenth of the CPU time of streams (docs/scale.md).

Python 3.11 collects in the midst of whatever allocates. Where that is a ContextVar being set, and what is collected sets one too,
the process dies (https://github.com/python/cpython/issues/148891); and LiteLLM's streams set some when they are collected. Later
versions collect between two instructions.
"""

import asyncio
import gc
import sys
from contextvars import Context

_FIRST_CALLS = 50
"""After these LiteLLM has imported what it imports late, and filled what it fills once."""

_COLLECTS_ANYWHERE = sys.version_info < (3, 12)
_COLLECT_SECONDS = 0.1


class Heap:
    """This worker's heap, as its garbage collector sees it."""

    def __init__(self, *, collects_anywhere: bool = _COLLECTS_ANYWHERE) -> None:
        self._awaited = _FIRST_CALLS
        self._collects_anywhere = collects_anywhere

    def served(self) -> None:
        """A metered call is over. After the first ones, everything that is there is taken to be there for good."""
        if self._awaited:
            self._awaited -= 1
            if not self._awaited:
                gc.freeze()
                if self._collects_anywhere and gc.isenabled():
                    gc.disable()
                    self._collect_later()

    def _collect_later(self) -> None:
        """In a context of its own, where what is collected may set what it wants."""
        asyncio.get_running_loop().call_later(_COLLECT_SECONDS, self._collect, context=Context())

    def _collect(self) -> None:
        """What the collector would have done: the oldest generation whose time has come, and those younger than it."""
        due = [0 < threshold < count for count, threshold in zip(gc.get_count(), gc.get_threshold(), strict=True)]
        if any(due):
            gc.collect(max(generation for generation, is_due in enumerate(due) if is_due))
        self._collect_later()
