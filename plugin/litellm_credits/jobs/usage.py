"""What teams used in a time: jobs and calls that began in it, and what these calls cost."""

from datetime import datetime
from decimal import Decimal

from litellm_credits.db.database import Database
from litellm_credits.db.queries import load
from litellm_credits.models import Row

_SQL = load("jobs")
_MOST_GROUPS = 100


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


class ModelUsage(JobTypeUsage):
    """Calls that one alias served."""

    total_tokens: int


class TeamUsage(Row):
    """A team's use of a time."""

    team_id: str
    start: datetime
    end: datetime
    summary: Totals
    job_types: dict[str, JobTypeUsage]
    models: dict[str, ModelUsage]


class OrganizationUsage(Row):
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
        time = {"team_id": team_id, "start": start, "end": end, "limit": _MOST_GROUPS}
        job_types = await self._db.all(_SQL.usage_by_job_type, time)
        models = await self._db.all(_SQL.usage_by_model, time)
        teams = await self._totals(team_id=team_id, organization_id=None, start=start, end=end)
        return TeamUsage(
            team_id=team_id,
            start=start,
            end=end,
            summary=teams.get(team_id, Totals()),
            job_types={row["job_type"]: JobTypeUsage.model_validate(row) for row in job_types},
            models={row["model_alias"]: ModelUsage.model_validate(row) for row in models},
        )

    async def of_organization(self, organization_id: str, *, start: datetime, end: datetime) -> OrganizationUsage:
        """What the teams of an existing organization used from `start` to before `end`."""
        teams = await self._totals(team_id=None, organization_id=organization_id, start=start, end=end)
        return OrganizationUsage(
            organization_id=organization_id,
            start=start,
            end=end,
            summary=sum(teams.values(), Totals()),
            teams=dict(list(teams.items())[:_MOST_GROUPS]),
        )

    async def _totals(
        self, *, team_id: str | None, organization_id: str | None, start: datetime, end: datetime
    ) -> dict[str, Totals]:
        scope = {"team_id": team_id, "organization_id": organization_id, "start": start, "end": end}
        rows = await self._db.all(_SQL.usage, scope)
        return {row["team_id"]: Totals.model_validate(row) for row in rows}
