"""Teams: made together with groups, balance and first key; changed, suspended; deleted with all that is theirs."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import Field

from litellm_credits import money
from litellm_credits.db.database import Database, Transaction
from litellm_credits.db.database import Row as DbRow
from litellm_credits.db.queries import load
from litellm_credits.errors import AlreadyExists, NotFound, TeamSuspended
from litellm_credits.models import AccountStatus, Row
from litellm_credits.pricing.plan import BudgetMode, Plan
from litellm_credits.tenancy.accounts import close_accounts, lock_account, open_account, set_overdraft_limit
from litellm_credits.tenancy.virtual_keys import KeyTerms, NewKey, add_key

_SQL = load("tenancy")


class TeamView(Row):
    """A team with its groups, its balance in credits, and its plan."""

    team_id: str
    organization_id: str
    team_alias: str | None
    status: AccountStatus
    access_groups: list[str]
    allowed_model_aliases: list[str] = Field(description="What the groups let the team call, in order of preference.")
    metadata: dict[str, Any]
    rpm_limit: int | None = Field(description="Requests a minute, of all keys together; null: no limit.")
    tpm_limit: int | None = Field(description="Tokens a minute, of all keys together; null: no limit.")
    plan: Plan
    budget_mode: BudgetMode
    credits_per_dollar: Decimal
    tokens_per_credit: int
    credits_allocated: Decimal
    credits_used: Decimal
    credits_held: Decimal = Field(description="Promised to calls in flight.")
    credits_remaining: Decimal = Field(description="Allocated less used.")
    overdraft_limit: Decimal = Field(description="How far the balance may go below zero.")
    created_at: datetime
    updated_at: datetime


class NewTeam(TeamView):
    """A team at the one moment when its first key is shown."""

    key_id: str
    virtual_key: str = Field(description="The clear key. Not stored: this answer is the only one that shows it.")


class Teams:
    """All teams of all organizations."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(
        self,
        team_id: str,
        *,
        organization_id: str,
        team_alias: str | None,
        access_groups: list[str],
        credits: Decimal,
        metadata: dict[str, Any],
        plan: Plan,
        rpm_limit: int | None = None,
        tpm_limit: int | None = None,
        overdraft_limit: Decimal = Decimal(0),
    ) -> NewTeam:
        """Add a team with its groups, its balance, the ledger entry of its first credits, and a key: all or nothing.

        Raises:
            NotFound: no such organization or access group.
            AlreadyExists: the id is taken.
        """
        facts = {
            "team_id": team_id,
            "organization_id": organization_id,
            "team_alias": team_alias,
            "metadata": _json(metadata),
            "plan": _json(plan.differences()),
            "rpm_limit": rpm_limit,
            "tpm_limit": tpm_limit,
        }
        async with self._db.transaction() as tx:
            if await tx.one(_SQL.keep_organization, {"organization_id": organization_id}) is None:
                raise NotFound(what="organization", id=organization_id, param="organization_id")
            if await tx.one(_SQL.create_team, facts) is None:
                raise AlreadyExists(what="team", id=team_id, param="team_id")
            await _assign(tx, team_id, access_groups)
            await open_account(tx, team_id=team_id, organization_id=organization_id, credits=credits)
            await set_overdraft_limit(tx, team_id, overdraft_limit)
            key = await add_key(tx, team_id, KeyTerms())
            [row] = await tx.all(_SQL.team_views, {"team_ids": [team_id]})
        return _new_team(row, key)

    async def get(self, team_id: str) -> TeamView:
        """One team.

        Raises:
            NotFound: there is none of that id.
        """
        row = await self._db.one(_SQL.team_views, {"team_ids": [team_id]})
        if row is None:
            raise NotFound(what="team", id=team_id)
        return _view(row)

    async def require(self, team_id: str) -> None:
        """Raises NotFound unless there is a team of that id."""
        if await self._db.one(_SQL.team_exists, {"team_id": team_id}) is None:
            raise NotFound(what="team", id=team_id)

    async def page(self, *, after: str, limit: int) -> list[TeamView]:
        """Teams by id, starting after the id `after`."""
        ids = await self._db.all(_SQL.team_ids, {"after": after, "limit": limit})
        return await self._views(ids)

    async def of_organization(self, organization_id: str, *, after: str, limit: int) -> list[TeamView]:
        """An organization's teams by id, starting after the id `after`."""
        page = {"organization_id": organization_id, "after": after, "limit": limit}
        return await self._views(await self._db.all(_SQL.organization_team_ids, page))

    async def count_of_organization(self, organization_id: str) -> int:
        """How many teams an organization has."""
        row = await self._db.one(_SQL.organization_team_count, {"organization_id": organization_id})
        return int(row["teams"]) if row else 0

    async def _views(self, ids: list[DbRow]) -> list[TeamView]:
        team_ids = [row["team_id"] for row in ids]
        return [_view(row) for row in await self._db.all(_SQL.team_views, {"team_ids": team_ids})]

    async def update(
        self,
        team_id: str,
        changes: dict[str, Any],
        *,
        access_groups: list[str] | None = None,
        plan_changes: dict[str, Any] | None = None,
        overdraft_limit: Decimal | None = None,
    ) -> TeamView:
        """Change some of `team_alias`, `metadata` and the limits, replace the access groups, change some of the plan.

        Raises:
            NotFound: no such team or access group; nothing was changed.
            OverdraftInUse: more than the new limit is spent or held; nothing was changed.
        """
        async with self._db.transaction() as tx:
            if overdraft_limit is not None:
                await lock_account(tx, team_id)
                await set_overdraft_limit(tx, team_id, overdraft_limit)
            stored = await tx.one(_SQL.lock_team, {"team_id": team_id})
            if stored is None:
                raise NotFound(what="team", id=team_id)
            if plan_changes:
                plan = Plan.of(stored["plan"]).model_dump() | plan_changes
                changes = changes | {"plan": Plan.model_validate(plan).differences()}
            await tx.all(_SQL.update_team, {"team_id": team_id, "changes": _json(changes)})
            if access_groups is not None:
                await _assign(tx, team_id, access_groups)
            [row] = await tx.all(_SQL.team_views, {"team_ids": [team_id]})
        return _view(row)

    async def pause(self, team_id: str) -> TeamView:
        """Take no more calls; calls in flight end as they would. Again: nothing changes.

        Raises:
            NotFound: no such team.
            TeamSuspended: it is suspended, which is more.
        """
        return await self._turn(team_id, AccountStatus.paused, unless={AccountStatus.suspended})

    async def suspend(self, team_id: str) -> TeamView:
        """Refuse the team's keys altogether; calls in flight end as they would.

        Raises:
            NotFound: no such team.
        """
        return await self._turn(team_id, AccountStatus.suspended, unless=set())

    async def resume(self, team_id: str, *, by_team: bool) -> TeamView:
        """Take calls again.

        Raises:
            NotFound: no such team.
            TeamSuspended: a team cannot end a suspension.
        """
        return await self._turn(team_id, AccountStatus.active, unless={AccountStatus.suspended} if by_team else set())

    async def _turn(self, team_id: str, status: AccountStatus, *, unless: set[AccountStatus]) -> TeamView:
        async with self._db.transaction() as tx:
            stored = await tx.one(_SQL.lock_team, {"team_id": team_id})
            if stored is None:
                raise NotFound(what="team", id=team_id)
            if stored["status"] in unless:
                raise TeamSuspended(team_id=team_id)
            await tx.all(_SQL.update_team, {"team_id": team_id, "changes": _json({"status": status})})
            [row] = await tx.all(_SQL.team_views, {"team_ids": [team_id]})
        return _view(row)

    async def delete(self, team_id: str) -> None:
        """Delete a team with its keys, jobs and calls; its ledger ends with a closure and stays.

        Raises:
            NotFound: there is none of that id.
        """
        async with self._db.transaction() as tx:
            if not await close_accounts(tx, [team_id], reason="Team deleted"):
                raise NotFound(what="team", id=team_id)
            await tx.all(_SQL.delete_team, {"team_id": team_id})


async def _assign(tx: Transaction, team_id: str, access_groups: list[str]) -> None:
    wanted = list(dict.fromkeys(access_groups))
    await tx.all(_SQL.drop_access_groups, {"team_id": team_id, "access_groups": wanted})
    rows = await tx.all(_SQL.assign_access_groups, {"team_id": team_id, "access_groups": wanted})
    for name in wanted:
        if name not in {row["group_name"] for row in rows}:
            raise NotFound(what="model access group", id=name, param="access_groups")


def _json(document: dict[str, Any]) -> str:
    return money.dumps(document).decode()


def _view_fields(row: DbRow) -> dict[str, Any]:
    plan = Plan.of(row["plan"])
    flat = {name: getattr(plan, name) for name in ("budget_mode", "credits_per_dollar", "tokens_per_credit")}
    return {**row, "plan": plan, **flat}


def _view(row: DbRow) -> TeamView:
    return TeamView.model_validate(_view_fields(row))


def _new_team(row: DbRow, key: NewKey) -> NewTeam:
    return NewTeam.model_validate({**_view_fields(row), "key_id": str(key.key_id), "virtual_key": key.virtual_key})
