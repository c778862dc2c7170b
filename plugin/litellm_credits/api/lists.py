"""Pages of jobs and calls, for the routes that list those of a team and of an organization."""

from pydantic import BaseModel

from litellm_credits.api.services import Services
from litellm_credits.db.cursors import Cursor, next_cursor
from litellm_credits.jobs.jobs import AdminCallView, CallFilter, CallView, JobFilter, Owner
from litellm_credits.models import Job


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[Job]
    next_cursor: str | None


class TeamJobPage(JobPage):
    """A team's."""

    team_id: str


class CallPage(BaseModel):
    """A page of calls, newest first."""

    calls: list[AdminCallView | CallView]
    next_cursor: str | None


class TeamCallPage(CallPage):
    """A team's."""

    team_id: str


async def job_page(services: Services, owner: Owner, wanted: JobFilter, before: Cursor | None, limit: int) -> JobPage:
    """A page of jobs."""
    jobs = await services.jobs.page(owner, wanted, before=before, limit=limit)
    return JobPage(jobs=jobs, next_cursor=next_cursor(jobs, limit, "job_id"))


async def team_job_page(
    services: Services, team_id: str, wanted: JobFilter, before: Cursor | None, limit: int
) -> TeamJobPage:
    """A page of a team's jobs."""
    page = await job_page(services, Owner(team_id=team_id), wanted, before, limit)
    return TeamJobPage(team_id=team_id, **dict(page))


async def call_page(
    services: Services,
    owner: Owner,
    wanted: CallFilter,
    before: Cursor | None,
    limit: int,
    *,
    view: type[CallView],
) -> CallPage:
    """A page of calls."""
    calls = await services.jobs.all_calls(owner, wanted, before=before, limit=limit, view=view)
    return CallPage(calls=calls, next_cursor=next_cursor(calls, limit, "call_id"))
