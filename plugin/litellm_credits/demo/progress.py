"""What is being waited for: a spinner on a terminal, a line for each step elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status


class Progress:
    """Shows one step at a time."""

    def __init__(self, console: Console, spinner: Status | None) -> None:
        self._console = console
        self._spinner = spinner

    def on(self, step: str) -> None:
        """The step that begins now."""
        if self._spinner is not None:
            self._spinner.update(f"{step} …")
        else:
            self._console.print(f"… {step}", markup=False)


@contextmanager
def progress(console: Console) -> Iterator[Progress]:
    """Show steps until the block ends."""
    if not console.is_terminal:
        yield Progress(console, None)
        return
    with console.status("") as spinner:
        yield Progress(console, spinner)
