"""Fills a database by SQL alone, for measurements and for tests of plans."""

from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from litellm_credits.db.queries import Query, parse

_SQL = parse(Path(__file__).with_name("fill.sql").read_bytes())
_ONCE = (
    *("organizations", "teams", "balances", "grants", "live_grants", "ended_grants", "refills", "requests"),
    *("keys", "aliases", "groups", "members", "access", "jobs", "claims", "audit"),
)
_PER_CALL = ("calls", "entries", "draws")


FEW = 2_000
"""As few calls as a table may have had when its statistics were taken: for one that was empty then, plans are made to scan it."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything there is, beside calls. The last `earmarked` teams have a live grant of its own terms each."""

    teams: int
    earmarked: int
    keys: int
    aliases: int
    jobs: int


class Filler:
    """One database on its way from empty to full. To be used while nothing else writes to it."""

    def __init__(self, url: str, size: Size) -> None:
        self._url = url
        self._size = asdict(size)
        self._calls = 0
        self._run(_ONCE, self._size)

    def fill(self, calls: int) -> None:
        """Have `calls` settled calls with their ledger entries in all."""
        if calls > self._calls:
            self._run(_PER_CALL, self._size | {"first": self._calls + 1, "last": calls})
            self._calls = calls

    def _run(self, names: tuple[str, ...], params: dict[str, int]) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            for name in ("quietly", "call_ids", *names, "plainly", "analyze"):
                query: Query = _SQL[name]
                connection.execute(bytes(query), params if b"%(" in query else None)
