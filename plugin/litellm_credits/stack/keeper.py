"""A process that owns the embedded PostgreSQL for as long as its standard input is open.

    python -m litellm_credits.stack.keeper DATA_DIR

Prints the server's URL, or the reason why there is none. However the owner of the other end dies, the server is stopped in
order: PostgreSQL is a daemon and would otherwise stay.
"""

import signal
import sys
from pathlib import Path

from litellm_credits.db import embedded
from litellm_credits.errors import StartupRefused


def main() -> None:
    """Serve until the owner closes our input, sends SIGTERM, or dies, which does both: what comes second must not interrupt
    the stopping of the server."""
    stopping = False

    def stop(*_: object) -> None:
        if not stopping:
            sys.exit()

    signal.signal(signal.SIGTERM, stop)
    try:
        try:
            print(embedded.start(Path(sys.argv[1]), stop_at_exit=True), flush=True)
        except StartupRefused as refusal:
            print(refusal.message, flush=True)
            sys.exit(1)
        sys.stdin.read()
    finally:
        stopping = True


if __name__ == "__main__":
    main()
