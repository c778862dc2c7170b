"""/health: for anyone."""

import asyncio
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from litellm_credits.api.answers import Answer
from litellm_credits.api.route import OpenRoute
from litellm_credits.api.services import InServices
from litellm_credits.db.queries import load
from litellm_credits.errors import LedgerUnavailable

router = APIRouter(prefix="/health", tags=["health"], route_class=OpenRoute)

_SQL = load("health")
_PATIENCE_SECONDS = 2.0


class Health(BaseModel):
    """Whether calls can be metered now."""

    status: Literal["healthy", "unhealthy"]
    database: Literal["up", "down"]


@router.get("", response_model=Health, responses={503: {"model": Health}})
async def health(services: InServices) -> Response:
    """200 while the database answers, else 503."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await services.db.one(_SQL.ping)
    except (LedgerUnavailable, TimeoutError):
        return Answer(Health(status="unhealthy", database="down"), status_code=503)
    return Answer(Health(status="healthy", database="up"))
