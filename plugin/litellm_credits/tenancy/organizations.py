"""Organizations: the operator's customers, who own teams."""

from typing import Any

from litellm_credits import money
from litellm_credits.db.database import Database
from litellm_credits.db.queries import load
from litellm_credits.errors import AlreadyExists, NotFound
from litellm_credits.models import AccountStatus, Organization
from litellm_credits.tenancy.accounts import close_accounts

_SQL = load("tenancy")
_ACCOUNTS = load("accounts")


class Organizations:
    """All organizations."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, organization_id: str, *, name: str, metadata: dict[str, Any]) -> Organization:
        """Add an organization.

        Raises:
            AlreadyExists: the id is taken.
        """
        row = await self._db.one(
            _SQL.create_organization,
            {"organization_id": organization_id, "name": name, "metadata": money.dumps(metadata).decode()},
        )
        if row is None:
            raise AlreadyExists(what="organization", id=organization_id, param="organization_id")
        return Organization.model_validate(row)

    async def get(self, organization_id: str) -> Organization:
        """One organization.

        Raises:
            NotFound: there is none of that id.
        """
        row = await self._db.one(_SQL.organization, {"organization_id": organization_id})
        if row is None:
            raise NotFound(what="organization", id=organization_id)
        return Organization.model_validate(row)

    async def page(self, *, after: str, limit: int) -> list[Organization]:
        """Organizations by id, starting after the id `after`."""
        rows = await self._db.all(_SQL.organizations, {"after": after, "limit": limit})
        return [Organization.model_validate(row) for row in rows]

    async def set_status(self, organization_id: str, status: AccountStatus) -> Organization:
        """Suspend, pause or resume all of an organization's teams together; what they are by themselves stays as it is.

        Raises:
            NotFound: there is none of that id.
        """
        change = {"organization_id": organization_id, "status": status}
        row = await self._db.one(_SQL.set_organization_status, change)
        if row is None:
            raise NotFound(what="organization", id=organization_id)
        return Organization.model_validate(row)

    async def delete(self, organization_id: str) -> None:
        """Delete an organization with its teams and all that is theirs; their ledgers end with a closure and stay.

        Raises:
            NotFound: there is none of that id.
        """
        key = {"organization_id": organization_id}
        async with self._db.transaction() as tx:
            if await tx.one(_SQL.lock_organization, key) is None:
                raise NotFound(what="organization", id=organization_id)
            teams = [row["team_id"] for row in await tx.all(_ACCOUNTS.organization_accounts, key)]
            await close_accounts(tx, teams, reason="Organization deleted")
            await tx.all(_SQL.delete_organization, key)
