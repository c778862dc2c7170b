"""What start-up and the first calls load stays: the garbage collector is told not to look at it again and again.

LiteLLM and what it imports are some 900,000 objects. Every full collection goes through all of them, and stops the event loop
for as long: a third of a second and more on a slow machine, a tenth of the CPU time of streams (docs/scale.md).
"""

import gc

_FIRST_CALLS = 50
"""After these LiteLLM has imported what it imports late, and filled what it fills once."""


class Heap:
    """This worker's heap, as its garbage collector sees it."""

    def __init__(self) -> None:
        self._awaited = _FIRST_CALLS

    def served(self) -> None:
        """A metered call is over. After the first ones, everything that is there is taken to be there for good."""
        if self._awaited:
            self._awaited -= 1
            if not self._awaited:
                gc.freeze()
