"""/audit: who changed what by hand, for the admin."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from litellm_credits.api.access import needs_admin
from litellm_credits.api.fields import BeforeNumber, Limit, Moment
from litellm_credits.api.route import Route
from litellm_credits.api.services import InServices
from litellm_credits.models import AuditEntry
from litellm_credits.tenancy.audit import AuditFilter

router = APIRouter(prefix="/audit", tags=["audit"], route_class=Route, dependencies=[Depends(needs_admin)])


class AuditPage(BaseModel):
    """A page of the audit log, newest first."""

    entries: list[AuditEntry]
    next_cursor: int | None


def _filter(
    organization_id: Annotated[str | None, Query(max_length=255)] = None,
    team_id: Annotated[str | None, Query(max_length=255)] = None,
    subject: Annotated[str | None, Query(max_length=63, description="The table, such as teams.")] = None,
    subject_id: Annotated[str | None, Query(max_length=600, description="The row's key in it.")] = None,
    actor: Literal["admin", "team", "database"] | None = None,
    request_id: UUID | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
) -> AuditFilter:
    return AuditFilter(
        organization_id=organization_id,
        team_id=team_id,
        subject=subject,
        subject_id=subject_id,
        actor=actor,
        request_id=request_id,
        start=start,
        end=end,
    )


@router.get("")
async def entries(
    services: InServices,
    wanted: Annotated[AuditFilter, Depends(_filter)],
    before: BeforeNumber = None,
    limit: Limit = 50,
) -> AuditPage:
    """What was changed by hand, by whom and from where, newest first."""
    found = await services.audit.page(wanted, before=before, limit=limit)
    return AuditPage(entries=found, next_cursor=found[-1].audit_id if len(found) == limit else None)
