"""/teams: for the admin, but for a team's own jobs, calls and usage."""

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from pydantic import BaseModel, Field, model_validator

from litellm_credits.api.access import PathKeyId, ReadableTeamId, TeamScope, any_key, needs_admin
from litellm_credits.api.answers import documented
from litellm_credits.api.fields import (
    UNSET,
    AfterName,
    Before,
    Credits,
    InPeriod,
    Limit,
    Metadata,
    Moment,
    Name,
    Names,
    PathName,
    PerMinute,
    RequestModel,
    Text255,
    Text500,
    WantedCalls,
    WantedJobs,
)
from litellm_credits.api.lists import TeamCallPage, TeamJobPage, call_page, team_job_page
from litellm_credits.api.route import Route
from litellm_credits.api.services import InServices
from litellm_credits.db.cursors import next_cursor
from litellm_credits.jobs.jobs import AdminCallView, CallView, Owner
from litellm_credits.jobs.usage import TeamUsage
from litellm_credits.models import AccountStatus
from litellm_credits.pricing.plan import BudgetMode, Plan, Rate
from litellm_credits.tenancy.teams import NewTeam, TeamView
from litellm_credits.tenancy.virtual_keys import KeyTerms, KeyView, NewKey

admin_router = APIRouter(prefix="/teams", tags=["teams"], route_class=Route, dependencies=[Depends(needs_admin)])
router = APIRouter(prefix="/teams", tags=["teams"], route_class=Route, dependencies=[Depends(any_key)])


OverdraftLimit = Annotated[
    Credits, Field(ge=0, description="How far the balance may go below zero; not below what is so spent or held.")
]
AllowedAliases = Annotated[
    list[Name],
    Field(min_length=1, max_length=1000, description="What it may call of what its team may; null: all of it."),
]


class PlanFields(RequestModel):
    """The plan, whole or in its most used fields; what is not sent stays as it is, or the default."""

    plan: Plan = UNSET
    budget_mode: BudgetMode = UNSET
    credits_per_dollar: Rate = UNSET
    tokens_per_credit: Annotated[int, Field(strict=True, gt=0, le=1_000_000_000)] = UNSET

    def plan_changes(self) -> dict[str, Any]:
        """The fields of the plan that were sent; one sent beside `plan` wins."""
        within = self.plan.model_dump(exclude_unset=True) if self.plan else {}
        return within | {name: value for name, value in self.sent("plan").items() if name in Plan.model_fields}


class NewTeamRequest(PlanFields):
    """What a team is made of."""

    organization_id: PathName
    team_id: PathName
    team_alias: Text500 | None = None
    access_groups: Names = Field(default_factory=list)
    credits_allocated: Annotated[Credits, Field(ge=0)] = Decimal(0)
    overdraft_limit: OverdraftLimit = Decimal(0)
    metadata: Metadata = Field(default_factory=dict)
    rpm_limit: PerMinute | None = Field(None, description="Requests a minute, of all its keys together.")
    tpm_limit: PerMinute | None = Field(None, description="Tokens a minute, of all its keys together.")


class TeamChanges(PlanFields):
    """What may be changed of a team. Balances change under /credits only."""

    team_alias: Text500 | None = None
    overdraft_limit: OverdraftLimit = UNSET
    access_groups: Names = UNSET
    metadata: Metadata = UNSET
    rpm_limit: PerMinute | None = None
    tpm_limit: PerMinute | None = None


class AccessGroups(RequestModel):
    """The team's groups, in order. A bare list is taken too."""

    access_groups: Names

    @model_validator(mode="before")
    @classmethod
    def _bare_list(cls, data: Any) -> Any:
        return {"access_groups": data} if isinstance(data, list) else data


class NewKeyRequest(RequestModel):
    """What a key is made of."""

    name: Text255 | None = None
    expires_at: Moment | None = None
    allowed_aliases: AllowedAliases | None = None
    credit_limit: Annotated[Credits, Field(ge=0)] | None = Field(None, description="Most credits it may ever use.")
    rpm_limit: PerMinute | None = Field(None, description="Requests a minute.")
    tpm_limit: PerMinute | None = Field(None, description="Tokens a minute.")


class Rotation(RequestModel):
    """What the new key has of its own, and how long the old one goes on."""

    expires_at: Moment | None = None
    overlap_seconds: Annotated[int, Field(strict=True, ge=0, le=30 * 86_400)] = Field(
        0, description="How much longer the old key is taken, so that it can be replaced wherever it is in use."
    )


class TeamStatus(BaseModel):
    """Whether a team's keys and calls are taken."""

    team_id: str
    status: AccountStatus

    @classmethod
    def of(cls, team: TeamView) -> "TeamStatus":
        """A team's."""
        return cls(team_id=team.team_id, status=team.status)


class KeyPage(BaseModel):
    """A page of a team's keys, newest first."""

    team_id: str
    keys: list[KeyView]
    next_cursor: str | None


@admin_router.post("/create", responses=documented(404, 409))
async def create(request: NewTeamRequest, services: InServices) -> NewTeam:
    """Add a team, with its credits and a key. The answer is the only one that shows the key."""
    return await services.teams.create(
        request.team_id,
        organization_id=request.organization_id,
        team_alias=request.team_alias,
        access_groups=request.access_groups,
        credits=request.credits_allocated,
        metadata=request.metadata,
        plan=Plan.model_validate(request.plan_changes()),
        rpm_limit=request.rpm_limit,
        tpm_limit=request.tpm_limit,
        overdraft_limit=request.overdraft_limit,
    )


@admin_router.get("")
async def list_all(services: InServices, after: AfterName = "", limit: Limit = 100) -> list[TeamView]:
    """All teams, by id."""
    return await services.teams.page(after=after, limit=limit)


@admin_router.get("/{team_id}", responses=documented(404))
async def get(team_id: str, services: InServices) -> TeamView:
    """One team."""
    return await services.teams.get(team_id)


@admin_router.put("/{team_id}", responses=documented(404, 409))
async def update(team_id: str, request: TeamChanges, services: InServices) -> TeamView:
    """Change the fields that are sent."""
    own = ("team_alias", "metadata", "rpm_limit", "tpm_limit")
    changes = {name: value for name, value in request.sent().items() if name in own}
    return await services.teams.update(
        team_id,
        changes,
        access_groups=request.access_groups,
        plan_changes=request.plan_changes(),
        overdraft_limit=request.overdraft_limit,
    )


@admin_router.delete("/{team_id}", responses=documented(404))
async def delete(team_id: str, services: InServices) -> dict[str, str]:
    """Delete a team with its keys, jobs and calls. Its ledger ends with a closure and stays."""
    await services.teams.delete(team_id)
    return {"team_id": team_id, "message": f"Team '{team_id}' deleted"}


@admin_router.put("/{team_id}/suspend", responses=documented(404))
async def suspend(team_id: str, services: InServices) -> TeamView:
    """Refuse the team's keys from now on. Calls in flight end as they would."""
    return await services.teams.suspend(team_id)


@router.put("/{team_id}/pause", responses=documented(403, 404))
async def pause(team_id: ReadableTeamId, services: InServices) -> TeamStatus:
    """Take no more calls of the team; the rest stays open to its keys. Calls in flight end as they would."""
    return TeamStatus.of(await services.teams.pause(team_id))


@router.put("/{team_id}/resume", responses=documented(403, 404))
async def resume(team_id: ReadableTeamId, services: InServices, scope: TeamScope) -> TeamStatus:
    """Take the team's calls again. Only the admin can end a suspension."""
    return TeamStatus.of(await services.teams.resume(team_id, by_team=scope is not None))


@admin_router.put("/{team_id}/access-groups", responses=documented(404))
async def set_access_groups(team_id: str, request: Annotated[AccessGroups, Body()], services: InServices) -> TeamView:
    """Replace the team's groups."""
    return await services.teams.update(team_id, {}, access_groups=request.access_groups)


@admin_router.post("/{team_id}/keys", responses=documented(404))
async def create_key(team_id: str, services: InServices, request: NewKeyRequest | None = None) -> NewKey:
    """Add a key. The answer is the only one that shows it."""
    return await services.keys.create(team_id, KeyTerms(**dict(request or NewKeyRequest())))


@admin_router.get("/{team_id}/keys", responses=documented(404))
async def list_keys(team_id: ReadableTeamId, services: InServices, before: Before, limit: Limit = 50) -> KeyPage:
    """The team's keys, newest first; never the keys themselves."""
    keys = await services.keys.page(team_id, before=before, limit=limit)
    return KeyPage(team_id=team_id, keys=keys, next_cursor=next_cursor(keys, limit, "key_id"))


@admin_router.get("/{team_id}/keys/{key_id}", responses=documented(404))
async def get_key(team_id: str, key_id: PathKeyId, services: InServices) -> KeyView:
    """One key; never the key itself."""
    return await services.keys.get(team_id, key_id)


@admin_router.put("/{team_id}/keys/{key_id}", responses=documented(404))
async def update_key(team_id: str, key_id: PathKeyId, request: NewKeyRequest, services: InServices) -> KeyView:
    """Change the fields that are sent; null takes a limit away."""
    return await services.keys.update(team_id, key_id, request.sent())


@admin_router.delete("/{team_id}/keys/{key_id}", responses=documented(404))
async def revoke_key(team_id: str, key_id: PathKeyId, services: InServices) -> KeyView:
    """Revoke a key: it stays in the list and is refused from now on."""
    return await services.keys.revoke(team_id, key_id)


@admin_router.post("/{team_id}/keys/{key_id}/rotate", responses=documented(404))
async def rotate_key(team_id: str, key_id: PathKeyId, services: InServices, request: Rotation | None = None) -> NewKey:
    """Make another key on the same terms, and end this one at once or after an overlap. Only this answer shows the new one."""
    wanted = request or Rotation()
    return await services.keys.rotate(
        team_id, key_id, expires_at=wanted.expires_at, overlap_seconds=wanted.overlap_seconds
    )


@router.get("/{team_id}/jobs", responses=documented(403, 404))
async def list_jobs(
    team_id: ReadableTeamId, services: InServices, wanted: WantedJobs, before: Before, limit: Limit = 50
) -> TeamJobPage:
    """The team's jobs, newest first."""
    return await team_job_page(services, team_id, wanted, before, limit)


@router.get("/{team_id}/usage", responses=documented(403, 404))
async def usage(team_id: ReadableTeamId, services: InServices, period: InPeriod) -> TeamUsage:
    """Jobs and calls that began in a time, and what these calls cost; also by day, model alias, job type and purpose."""
    return await services.usage.of_team(team_id, start=period.start, end=period.end)


@router.get("/{team_id}/calls", responses=documented(403, 404))
async def list_calls(
    team_id: ReadableTeamId,
    services: InServices,
    scope: TeamScope,
    wanted: WantedCalls,
    before: Before,
    limit: Limit = 50,
) -> TeamCallPage:
    """The team's calls, newest first, without what was asked and answered (GET /jobs/{job_id}/calls shows that)."""
    view = AdminCallView if scope is None else CallView
    page = await call_page(services, Owner(team_id=team_id), wanted, before, limit, view=view)
    return TeamCallPage(team_id=team_id, **dict(page))
