"""What teams used in a time: jobs and calls that began in it, and what these calls cost."""

from datetime import datetime
from decimal import Decimal

from pydantic import Field

from litellm_credits.db.database import Database
from litellm_credits.db.database import Row as DbRow
from litellm_credits.db.queries import load
from litellm_credits.models import Row

_SQL = load("jobs")
_MOST_PARTS = 100
_MOST_DAYS = 366


class Totals(Row):
    """Jobs and calls of a time, counted and summed."""

    total_jobs: int = 0
    completed_jobs: int = 0
    failed_jobs: int = 0
    cancelled_jobs: int = 0
    total_calls: int = 0
    successful_calls: int = 0
    failed_calls: int = 0
    total_tokens: int = 0
    total_cost_usd: Decimal = Decimal(0)
    credits_charged: Decimal = Decimal(0)

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(**{name: getattr(self, name) + getattr(other, name) for name in Totals.model_fields})


class JobTypeUsage(Row):
    """Jobs of one type, with all that they cost until now."""

    count: int
    cost_usd: Decimal
    credits_charged: Decimal


class CallsUsage(JobTypeUsage):
    """Calls that one alias served, that had one purpose, or that began on one day."""

    total_tokens: int


class Parts(Row):
    """A use of a time by its parts: the hundred with the most of each, and a year of days."""

    job_types: dict[str, JobTypeUsage]
    models: dict[str, CallsUsage]
    purposes: dict[str, CallsUsage] = Field(description="Calls without a purpose under the empty name.")
    days: dict[str, CallsUsage] = Field(description="By date in UTC; days without calls are left out.")


class TeamUsage(Parts):
    """A team's use of a time."""

    team_id: str
    start: datetime
    end: datetime
    summary: Totals


class OrganizationUsage(Parts):
    """An organization's use of a time: all of its teams together, and the hundred that were charged most."""

    organization_id: str
    start: datetime
    end: datetime
    summary: Totals
    teams: dict[str, Totals]


class Usage:
    """Usage of teams and organizations."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def of_team(self, team_id: str, *, start: datetime, end: datetime) -> TeamUsage:
        """What an existing team used from `start` to before `end`."""
        time = {"team_id": team_id, "organization_id": None, "start": start, "end": end}
        totals = await self._totals(time)
        return TeamUsage(
            team_id=team_id,
            start=start,
            end=end,
            summary=totals.get(team_id, Totals()),
            **dict(await self._parts(time)),
        )

    async def of_organization(self, organization_id: str, *, start: datetime, end: datetime) -> OrganizationUsage:
        """What the teams of an existing organization used from `start` to before `end`."""
        time = {"team_id": None, "organization_id": organization_id, "start": start, "end": end}
        teams = await self._totals(time)
        return OrganizationUsage(
            organization_id=organization_id,
            start=start,
            end=end,
            summary=sum(teams.values(), Totals()),
            teams=dict(list(teams.items())[:_MOST_PARTS]),
            **dict(await self._parts(time)),
        )

    async def _totals(self, time: DbRow) -> dict[str, Totals]:
        return {row["team_id"]: Totals.model_validate(row) for row in await self._db.all(_SQL.usage, time)}

    async def _parts(self, time: DbRow) -> Parts:
        job_types = await self._db.all(_SQL.usage_by_job_type, time | {"limit": _MOST_PARTS})
        return Parts(
            job_types={row["name"]: JobTypeUsage.model_validate(row) for row in job_types},
            models=await self._calls(time, "model_alias", _MOST_PARTS),
            purposes=await self._calls(time, "purpose", _MOST_PARTS),
            days=await self._calls(time, "day", _MOST_DAYS),
        )

    async def _calls(self, time: DbRow, by: str, limit: int) -> dict[str, CallsUsage]:
        rows = await self._db.all(_SQL.usage_by, time | {"by": by, "limit": limit})
        return {row["name"] or "": CallsUsage.model_validate(row) for row in rows}
