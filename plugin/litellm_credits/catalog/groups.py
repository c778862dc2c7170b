"""Model access groups: named, ordered sets of aliases, as the operator keeps them."""

from typing import Any

from litellm_credits import money
from litellm_credits.catalog.aliases import require
from litellm_credits.db.database import Database, Transaction
from litellm_credits.db.queries import load
from litellm_credits.errors import AlreadyExists, NotFound, StillInUse
from litellm_credits.models import ModelAccessGroup, Row

_SQL = load("catalog")


class GroupMember(Row):
    """An alias, as its group shows it."""

    model_alias: str
    display_name: str | None
    provider: str
    actual_model: str


class GroupView(ModelAccessGroup):
    """A group with its aliases in order of preference."""

    model_aliases: list[GroupMember]


class Groups:
    """All model access groups."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(
        self, group_name: str, *, display_name: str | None, description: str | None, model_aliases: list[str]
    ) -> GroupView:
        """Add a group of these aliases, in this order.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: no such alias.
        """
        facts = {"group_name": group_name, "display_name": display_name, "description": description}
        async with self._db.transaction() as tx:
            if await tx.one(_SQL.create_group, facts) is None:
                raise AlreadyExists(what="model access group", id=group_name, param="group_name")
            return await self._fill(tx, group_name, model_aliases)

    async def get(self, group_name: str) -> GroupView:
        """One group.

        Raises:
            NotFound: there is none of that name.
        """
        row = await self._db.one(_SQL.group_view, {"group_name": group_name})
        if row is None:
            raise NotFound(what="model access group", id=group_name)
        return GroupView.model_validate(row)

    async def page(self, *, after: str, limit: int) -> list[GroupView]:
        """Groups by name, starting after the name `after`."""
        rows = await self._db.all(_SQL.group_views, {"after": after, "limit": limit})
        return [GroupView.model_validate(row) for row in rows]

    async def update(
        self, group_name: str, changes: dict[str, Any], *, model_aliases: list[str] | None = None
    ) -> GroupView:
        """Set the columns that `changes` names; with `model_aliases`, hold exactly these, in this order.

        Raises:
            NotFound: no such group or alias.
        """
        key = {"group_name": group_name, "changes": money.dumps(changes).decode()}
        async with self._db.transaction() as tx:
            if await tx.one(_SQL.update_group, key) is None:
                raise NotFound(what="model access group", id=group_name)
            return await self._fill(tx, group_name, model_aliases)

    async def delete(self, group_name: str) -> None:
        """Delete a group that no team has; its aliases stay.

        Raises:
            NotFound: there is none of that name.
            StillInUse: naming the first teams that have it.
        """
        key = {"group_name": group_name}
        async with self._db.transaction() as tx:
            if await tx.one(_SQL.lock_group, key) is None:
                raise NotFound(what="model access group", id=group_name)
            users = [row["team_id"] for row in await tx.all(_SQL.group_users, key)]
            if users:
                raise StillInUse(what="model access group", id=group_name, users=f"teams: {', '.join(users)}")
            await tx.all(_SQL.delete_group, key)

    async def _fill(self, tx: Transaction, group_name: str, model_aliases: list[str] | None) -> GroupView:
        if model_aliases is not None:
            wanted = list(dict.fromkeys(model_aliases))
            await require(tx, _SQL.keep_aliases, wanted, what="model alias", param="model_aliases")
            await tx.all(_SQL.clear_group, {"group_name": group_name})
            await tx.all(_SQL.fill_group, {"group_name": group_name, "model_aliases": wanted})
        [row] = await tx.all(_SQL.group_view, {"group_name": group_name})
        return GroupView.model_validate(row)
