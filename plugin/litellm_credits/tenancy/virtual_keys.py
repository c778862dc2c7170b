"""A team's virtual keys: made, shown once, revoked, rotated."""

from datetime import UTC, datetime
from uuid import UUID

from pydantic import Field

from litellm_credits.db.cursors import Cursor
from litellm_credits.db.database import Database, Row, Transaction
from litellm_credits.db.queries import Query, load
from litellm_credits.errors import BadInput, NotFound
from litellm_credits.models import KeyStatus
from litellm_credits.models import Row as RowModel
from litellm_credits.tenancy.keys import key_hash, new_key, shown_prefix

_SQL = load("tenancy")


class KeyView(RowModel):
    """What may be shown of a key at any time: neither the key nor its hash."""

    key_id: UUID
    team_id: str
    key_prefix: str = Field(description="The first characters of the key, to tell keys apart.")
    name: str | None
    status: KeyStatus
    expires_at: datetime | None
    created_at: datetime
    revoked_at: datetime | None


class NewKey(KeyView):
    """A key at the one moment when it is shown."""

    virtual_key: str = Field(description="The clear key. Not stored: this answer is the only one that shows it.")


class VirtualKeys:
    """All keys of all teams."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, team_id: str, *, name: str | None, expires_at: datetime | None) -> NewKey:
        """Add a key.

        Raises:
            NotFound: no such team.
            BadInput: `expires_at` has passed.
        """
        async with self._db.transaction() as tx:
            return await add_key(tx, team_id, name=name, expires_at=expires_at)

    async def page(self, team_id: str, *, before: Cursor | None, limit: int) -> list[KeyView]:
        """The team's keys, newest first."""
        rows = await self._db.all(
            _SQL.keys,
            {
                "team_id": team_id,
                "before_time": before and before.at,
                "before_id": before and before.id,
                "limit": limit,
            },
        )
        return [KeyView.model_validate(row) for row in rows]

    async def revoke(self, team_id: str, key_id: UUID) -> KeyView:
        """Make a key useless. Again: nothing changes.

        Raises:
            NotFound: the team has no such key.
        """
        async with self._db.transaction() as tx:
            return KeyView.model_validate(await _end(tx, _SQL.revoke_key, team_id, key_id, what="key"))

    async def rotate(self, team_id: str, key_id: UUID, *, expires_at: datetime | None) -> NewKey:
        """Revoke a key and make one of the same name in its place, with its expiry unless another is given.

        Raises:
            NotFound: the team has no such key, or it is revoked already; of two rotations at once, one wins.
            BadInput: the expiry has passed.
        """
        async with self._db.transaction() as tx:
            old = await _end(tx, _SQL.retire_key, team_id, key_id, what="active key")
            return await add_key(tx, team_id, name=old["name"], expires_at=expires_at or old["expires_at"])


async def add_key(tx: Transaction, team_id: str, *, name: str | None, expires_at: datetime | None) -> NewKey:
    """As `VirtualKeys.create`, inside a transaction that does more."""
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise BadInput(problem="expires_at has passed already", param="expires_at")
    key = new_key()
    facts = {
        "team_id": team_id,
        "key_hash": key_hash(key),
        "key_prefix": shown_prefix(key),
        "name": name,
        "expires_at": expires_at,
    }
    row = await tx.one(_SQL.create_key, facts)
    if row is None:
        raise NotFound(what="team", id=team_id)
    return NewKey.model_validate(row | {"virtual_key": key})


async def _end(tx: Transaction, query: Query, team_id: str, key_id: UUID, *, what: str) -> Row:
    row = await tx.one(query, {"team_id": team_id, "key_id": key_id})
    if row is None:
        raise NotFound(what=what, id=key_id)
    return row
