"""A team's virtual keys: made, shown once, changed, revoked, rotated."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from pydantic import BaseModel, Field, field_validator

from litellm_credits import money
from litellm_credits.db.cursors import Cursor
from litellm_credits.db.database import Database, Row, Transaction
from litellm_credits.db.queries import load
from litellm_credits.errors import BadInput, NotFound
from litellm_credits.models import KeyStatus
from litellm_credits.models import Row as RowModel
from litellm_credits.tenancy.keys import key_hash, new_key, shown_prefix

_SQL = load("tenancy")


class KeyTerms(BaseModel):
    """What may be set on a key. None: nothing is set."""

    name: str | None = None
    expires_at: datetime | None = None
    allowed_aliases: list[str] | None = None
    credit_limit: Decimal | None = None
    rpm_limit: int | None = None
    tpm_limit: int | None = None


class KeyView(RowModel):
    """What may be shown of a key at any time: neither the key nor its hash."""

    key_id: UUID
    team_id: str
    key_prefix: str = Field(description="The first characters of the key, to tell keys apart.")
    name: str | None
    status: KeyStatus
    expires_at: datetime | None
    allowed_aliases: list[str] | None = Field(description="What it may call of what its team may; null: all of it.")
    credit_limit: Decimal | None = Field(description="Most credits that it may ever use; null: as its team.")
    credits_used: Decimal
    credits_held: Decimal = Field(description="Promised to calls in flight.")
    rpm_limit: int | None = Field(description="Requests a minute; null: as its team.")
    tpm_limit: int | None = Field(description="Tokens a minute; null: as its team.")
    created_at: datetime
    revoked_at: datetime | None
    replaced_by: UUID | None = Field(description="The key that a rotation put in its place.")
    last_used_at: datetime | None = Field(description="To about a minute.")

    @field_validator("allowed_aliases")
    @classmethod
    def _none_is_all(cls, names: list[str] | None) -> list[str] | None:
        return names or None


class NewKey(KeyView):
    """A key at the one moment when it is shown."""

    virtual_key: str = Field(description="The clear key. Not stored: this answer is the only one that shows it.")


class VirtualKeys:
    """All keys of all teams."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, team_id: str, terms: KeyTerms) -> NewKey:
        """Add a key.

        Raises:
            NotFound: no such team, or no alias of a name in `allowed_aliases`.
            BadInput: `expires_at` has passed.
        """
        async with self._db.transaction() as tx:
            return await add_key(tx, team_id, terms)

    async def page(self, team_id: str, *, before: Cursor | None, limit: int) -> list[KeyView]:
        """The team's keys, newest first."""
        start = {"before_time": before and before.at, "before_id": before and before.id}
        rows = await self._db.all(_SQL.keys, {"team_id": team_id, "limit": limit} | start)
        return [KeyView.model_validate(row) for row in rows]

    async def get(self, team_id: str, key_id: UUID) -> KeyView:
        """One key.

        Raises:
            NotFound: the team has no such key.
        """
        return KeyView.model_validate(_found(await self._db.one(_SQL.key, _named(team_id, key_id)), key_id))

    async def update(self, team_id: str, key_id: UUID, changes: dict[str, Any]) -> KeyView:
        """Change these of a key's terms.

        Raises:
            NotFound: the team has no such key, or no alias of a name in `allowed_aliases`.
            BadInput: `expires_at` has passed; revoke the key instead.
        """
        async with self._db.transaction() as tx:
            await _check(tx, changes)
            if "allowed_aliases" in changes:
                changes = changes | {"allowed_aliases": changes["allowed_aliases"] or []}
            row = await tx.one(_SQL.update_key, _named(team_id, key_id) | {"changes": money.dumps(changes).decode()})
            return KeyView.model_validate(_found(row, key_id))

    async def revoke(self, team_id: str, key_id: UUID) -> KeyView:
        """Make a key useless. Again: nothing changes.

        Raises:
            NotFound: the team has no such key.
        """
        return KeyView.model_validate(_found(await self._db.one(_SQL.revoke_key, _named(team_id, key_id)), key_id))

    async def rotate(self, team_id: str, key_id: UUID, *, expires_at: datetime | None, overlap_seconds: int) -> NewKey:
        """Make a key on the same terms and end the old one, at once or `overlap_seconds` from now.

        The new key has the old one's expiry unless another is given, and counts its credits from nothing.

        Raises:
            NotFound: the team has no such key, or it is revoked or replaced already; of two rotations at once, one wins.
            BadInput: the expiry has passed.
        """
        new_id = uuid4()
        async with self._db.transaction() as tx:
            old = _found(await tx.one(_SQL.lock_key, _named(team_id, key_id)), key_id)
            ending = {"replaced_by": new_id, "overlap_seconds": overlap_seconds}
            if await tx.one(_SQL.replace_key, _named(team_id, key_id) | ending) is None:
                raise NotFound(what="active key", id=key_id)
            terms = KeyTerms.model_validate({name: old[name] for name in KeyTerms.model_fields})
            terms.expires_at = expires_at or terms.expires_at
            return await add_key(tx, team_id, terms, key_id=new_id)


async def add_key(tx: Transaction, team_id: str, terms: KeyTerms, *, key_id: UUID | None = None) -> NewKey:
    """As `VirtualKeys.create`, inside a transaction that does more."""
    facts = terms.model_dump()
    await _check(tx, facts)
    key = new_key()
    facts |= {
        "key_id": key_id or uuid4(),
        "team_id": team_id,
        "key_hash": key_hash(key),
        "key_prefix": shown_prefix(key),
        "allowed_aliases": terms.allowed_aliases or [],
    }
    row = await tx.one(_SQL.create_key, facts)
    if row is None:
        raise NotFound(what="team", id=team_id)
    return NewKey.model_validate(row | {"virtual_key": key})


async def _check(tx: Transaction, terms: dict[str, Any]) -> None:
    expires_at = terms.get("expires_at")
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise BadInput(problem="expires_at has passed already", param="expires_at")
    unknown = await tx.one(_SQL.unknown_aliases, {"model_aliases": terms.get("allowed_aliases") or []})
    if unknown is not None:
        raise NotFound(what="model alias", id=unknown["name"], param="allowed_aliases")


def _named(team_id: str, key_id: UUID) -> Row:
    return {"team_id": team_id, "key_id": key_id}


def _found(row: Row | None, key_id: UUID) -> Row:
    if row is None:
        raise NotFound(what="key", id=key_id)
    return row
