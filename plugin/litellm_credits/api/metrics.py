"""/metrics: the counters of metrics.py, for the admin's Prometheus."""

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from litellm_credits.api.access import needs_admin
from litellm_credits.api.route import Route

router = APIRouter(prefix="/metrics", tags=["metrics"], route_class=Route, dependencies=[Depends(needs_admin)])


@router.get("", response_class=Response)
async def metrics() -> Response:
    """This worker's counters in Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
