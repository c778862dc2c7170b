"""LiteLLM's own log of an unstreamed success, which waits until the answer has left.

LiteLLM queues it behind the provider's answer, to run as soon as anything waits. Without this plugin nothing does until the
answer has left; our settle would let it in before, a millisecond of CPU time that the client would wait for. LiteLLM has the
means to hold it back, for guardrails: with `defer_async_logging`, the start of the log is left with the call's logging object.
"""

from collections.abc import Callable
from typing import Any


class SuccessLog:
    """The log of one call. `logging`: LiteLLM's object for it."""

    def __init__(self, logging: Any) -> None:
        self._logging = logging
        self._start: Callable[[], None] | None = None
        logging.defer_async_logging = True

    def hold_back(self) -> None:
        """The call has succeeded: LiteLLM, which starts the log when all hooks have run, must find none to start."""
        self._start = self._taken() or self._start

    def drop(self) -> None:
        """The call has failed after all, which LiteLLM logs by itself."""
        self._taken()
        self._start = None

    def start(self) -> None:
        """The answer has left. Where no hook has told of it, LiteLLM may have left the log behind."""
        self.hold_back()
        if self._start is not None:
            self._start()

    def _taken(self) -> Callable[[], None] | None:
        start: Callable[[], None] | None = getattr(self._logging, "enqueue_deferred_logging", None)
        self._logging.enqueue_deferred_logging = None
        return start
