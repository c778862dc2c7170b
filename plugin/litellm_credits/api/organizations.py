"""/organizations: for the admin."""

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from litellm_credits.api.access import needs_admin
from litellm_credits.api.answers import documented
from litellm_credits.api.fields import (
    AfterName,
    Before,
    InPeriod,
    Limit,
    Metadata,
    PathName,
    RequestModel,
    Text500,
    WantedCalls,
    WantedJobs,
)
from litellm_credits.api.lists import CallPage, JobPage, call_page, job_page
from litellm_credits.api.route import Route
from litellm_credits.api.services import InServices
from litellm_credits.jobs.jobs import AdminCallView, Owner
from litellm_credits.jobs.usage import OrganizationUsage
from litellm_credits.models import AccountStatus, Organization
from litellm_credits.tenancy.teams import TeamView

router = APIRouter(
    prefix="/organizations", tags=["organizations"], route_class=Route, dependencies=[Depends(needs_admin)]
)


class NewOrganization(RequestModel):
    """What an organization is made of."""

    organization_id: PathName
    name: Text500
    metadata: Metadata = Field(default_factory=dict)


class OrganizationTeams(BaseModel):
    """A page of an organization's teams, and how many there are in all."""

    organization_id: str
    team_count: int
    teams: list[TeamView]


@router.post("/create", responses=documented(409))
async def create(request: NewOrganization, services: InServices) -> Organization:
    """Add an organization."""
    return await services.organizations.create(request.organization_id, name=request.name, metadata=request.metadata)


@router.get("")
async def list_all(services: InServices, after: AfterName = "", limit: Limit = 100) -> list[Organization]:
    """All organizations, by id."""
    return await services.organizations.page(after=after, limit=limit)


@router.get("/{organization_id}", responses=documented(404))
async def get(organization_id: str, services: InServices) -> Organization:
    """One organization."""
    return await services.organizations.get(organization_id)


@router.delete("/{organization_id}", responses=documented(404))
async def delete(organization_id: str, services: InServices) -> dict[str, str]:
    """Delete an organization with its teams, keys, jobs and calls. The teams' ledgers end with a closure and stay."""
    await services.organizations.delete(organization_id)
    return {"organization_id": organization_id, "message": f"Organization '{organization_id}' deleted"}


@router.put("/{organization_id}/suspend", responses=documented(404))
async def suspend(organization_id: str, services: InServices) -> Organization:
    """Refuse the keys of all its teams from now on. Calls in flight end as they would."""
    return await services.organizations.set_status(organization_id, AccountStatus.suspended)


@router.put("/{organization_id}/pause", responses=documented(404))
async def pause(organization_id: str, services: InServices) -> Organization:
    """Take no more calls of its teams; the rest stays open to their keys. Calls in flight end as they would."""
    return await services.organizations.set_status(organization_id, AccountStatus.paused)


@router.put("/{organization_id}/resume", responses=documented(404))
async def resume(organization_id: str, services: InServices) -> Organization:
    """End a suspension or pause. A team that is suspended or paused by itself stays so."""
    return await services.organizations.set_status(organization_id, AccountStatus.active)


@router.get("/{organization_id}/teams", responses=documented(404))
async def teams(
    organization_id: str, services: InServices, after: AfterName = "", limit: Limit = 100
) -> OrganizationTeams:
    """An organization's teams, by id."""
    await services.organizations.get(organization_id)
    return OrganizationTeams(
        organization_id=organization_id,
        team_count=await services.teams.count_of_organization(organization_id),
        teams=await services.teams.of_organization(organization_id, after=after, limit=limit),
    )


@router.get("/{organization_id}/usage", responses=documented(404))
async def usage(organization_id: str, services: InServices, period: InPeriod) -> OrganizationUsage:
    """Jobs and calls that began in a time, and what these calls cost: of all teams together, by team, and by their parts."""
    await services.organizations.get(organization_id)
    return await services.usage.of_organization(organization_id, start=period.start, end=period.end)


@router.get("/{organization_id}/jobs", responses=documented(404))
async def list_jobs(
    organization_id: str, services: InServices, wanted: WantedJobs, before: Before, limit: Limit = 50
) -> JobPage:
    """The jobs of all its teams, newest first."""
    await services.organizations.get(organization_id)
    return await job_page(services, Owner(organization_id=organization_id), wanted, before, limit)


@router.get("/{organization_id}/calls", responses=documented(404))
async def list_calls(
    organization_id: str, services: InServices, wanted: WantedCalls, before: Before, limit: Limit = 50
) -> CallPage:
    """The calls of all its teams, newest first, without what was asked and answered."""
    await services.organizations.get(organization_id)
    owner = Owner(organization_id=organization_id)
    return await call_page(services, owner, wanted, before, limit, view=AdminCallView)
