"""What becomes of a database that does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from litellm_credits.errors import StartupRefused


@contextmanager
def refused_unless_reachable() -> Iterator[None]:
    """Raises StartupRefused, with PostgreSQL's own reason, where the block cannot connect."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.ProgrammingError) as problem:
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise StartupRefused(problem=f"PostgreSQL does not answer ({reason}). Check CREDITS_DATABASE_URL.") from problem
