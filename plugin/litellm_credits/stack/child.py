"""Processes that do not outlive us, and ports that are theirs before they listen."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1


class Child:
    """A process in a session of its own, so that a Ctrl-C in the terminal reaches only us and we end it in order.

    On Linux it is also told to end when the thread that made it dies, however that dies.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        pipes: bool = False,
    ) -> None:
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_end_with_parent(),  # noqa: PLW1509 (one system call, nothing that could wait for a lock)
            )
        self.log = log

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    @property
    def output(self) -> IO[bytes]:
        """Its standard output, of one made with `pipes`."""
        assert self.process.stdout is not None
        return self.process.stdout

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, patience_seconds: float) -> None:
        """Ask it to end, wait, then kill what is left of its group. Also when the wait is interrupted."""
        try:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()


class HeldPort:
    """A TCP port that nobody else is given while a child is on its way to listen on it.

    Bound, but not listening: Linux and macOS let a server that sets SO_REUSEADDR, as uvicorn does, take such a port over.

    Raises:
        OSError: the port asked for is in use.
    """

    def __init__(self, host: str, port: int | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port or 0))
        except OSError:
            self._socket.close()
            raise
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Let go, once the child listens or will not."""
        self._socket.close()


def _end_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) and None
