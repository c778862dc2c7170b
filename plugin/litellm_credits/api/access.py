"""Who may do what: dependencies that the routes declare. Every route with a key has `needs_admin` or `any_key`."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from litellm_credits.api.services import Services, services
from litellm_credits.errors import AdminOnly, Forbidden, NotFound, TeamOnly
from litellm_credits.tenancy.principals import Admin, Principal

_bearer = HTTPBearer(auto_error=False, description="A team's virtual key, or the proxy's master key for the admin.")


def any_key(request: Request, _: Annotated[object, Security(_bearer)]) -> Admin | Principal:
    """Whoever holds a key; the handler must look at whose."""
    caller: Admin | Principal = request.state.caller
    return caller


Caller = Annotated[Admin | Principal, Depends(any_key)]


def needs_admin(request: Request, caller: Caller) -> None:
    """Raises AdminOnly for teams."""
    if not isinstance(caller, Admin):
        raise AdminOnly(method=request.method, path=request.url.path)


def own_team_id(request: Request, caller: Caller) -> str:
    """The team that calls.

    Raises:
        TeamOnly: it is the admin.
    """
    if isinstance(caller, Admin):
        raise TeamOnly(method=request.method, path=request.url.path)
    return caller.team_id


def team_scope(caller: Caller) -> str | None:
    """The team whose things the caller may touch; None: the admin, who may touch every team's."""
    return None if isinstance(caller, Admin) else caller.team_id


async def readable_team_id(team_id: str, caller: Caller, services: Annotated[Services, Depends(services)]) -> str:
    """The path's team: the caller's own, or for the admin any that exists.

    Raises:
        Forbidden: it is another team, whether that exists or not.
        NotFound: the admin asks for one that does not exist.
    """
    if isinstance(caller, Admin):
        await services.teams.require(team_id)
    elif caller.team_id != team_id:
        raise Forbidden(reason=f"This key belongs to another team than '{team_id}'.", param="team_id")
    return team_id


def path_job_id(job_id: str) -> UUID:
    """The path's job id. Raises NotFound for what cannot be one."""
    return _uuid(job_id, "job")


def path_key_id(key_id: str) -> UUID:
    """The path's key id. Raises NotFound for what cannot be one."""
    return _uuid(key_id, "key")


def _uuid(text: str, what: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(what=what, id=text) from None


OwnTeamId = Annotated[str, Depends(own_team_id)]
TeamScope = Annotated[str | None, Depends(team_scope)]
ReadableTeamId = Annotated[str, Depends(readable_team_id)]
PathJobId = Annotated[UUID, Depends(path_job_id)]
PathKeyId = Annotated[UUID, Depends(path_key_id)]
