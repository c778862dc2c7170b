"""Where a page of a list ends: at the time and id of its last row, where the next one starts whatever came since."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in a list that is ordered by time, then id."""

    at: datetime
    id: UUID

    def __str__(self) -> str:
        """The form that clients keep and send back, safe in a URL."""
        return f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}_{self.id}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """The cursor that `str` gave.

        Raises:
            ValueError: for any other text.
        """
        at, _, id = text.partition("_")
        return cls(datetime.strptime(at, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC), UUID(id))


class _Timed(Protocol):
    @property
    def created_at(self) -> datetime: ...


def next_cursor(rows: Sequence[_Timed], limit: int, id_field: str) -> str | None:
    """Where the page after `rows` starts; None when `rows` is the last page."""
    if len(rows) < limit:
        return None
    return str(Cursor(rows[-1].created_at, getattr(rows[-1], id_field)))
