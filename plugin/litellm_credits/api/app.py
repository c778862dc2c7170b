"""The application under /api, put together."""

from decimal import Decimal
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from litellm_credits import __version__
from litellm_credits.api import answers, audit, catalog, credits, health, jobs, metrics, organizations, teams
from litellm_credits.api.services import Services
from litellm_credits.engine import Engine

KEYED_ROUTERS = (
    organizations.router,
    teams.admin_router,
    teams.router,
    catalog.aliases,
    catalog.groups,
    credits.refund_router,
    credits.admin_router,
    credits.router,
    jobs.router,
    audit.router,
    metrics.router,
)
"""Every route there is but health."""

_TAGS = [
    {"name": "jobs", "description": "A team's units of work. Team keys on their own jobs, the admin on all."},
    {"name": "credits", "description": "Balances and the ledger. Credits and USD are exact decimal numbers."},
    {"name": "teams", "description": "Who may call, with which keys and plan."},
    {"name": "organizations", "description": "The operator's customers, who own teams."},
    {"name": "models", "description": "The names that teams call, their prices, and who may call them."},
    {"name": "audit", "description": "Who changed what by hand, when and from where."},
    {"name": "metrics", "description": "Counters for Prometheus."},
    {"name": "health", "description": "Whether calls can be metered now."},
]

_DECIMAL_AS_TEXT = TypeAdapter(Decimal).json_schema(mode="serialization")


class _Api(FastAPI):
    """FastAPI, but for what it says of decimals: it takes them for text, and answers.Answer writes numbers."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, as it is."""
        if self.openapi_schema is None:
            self.openapi_schema = _decimals_as_numbers(super().openapi())
        return self.openapi_schema


def create_api(engine: Engine) -> FastAPI:
    """The management API over `engine`, to be mounted at /api. The engine's life is its owner's to begin and end."""
    app = _Api(
        title="litellm-credits",
        summary="Prepaid credits for LiteLLM: teams, keys, models, balances and jobs.",
        version=__version__,
        openapi_tags=_TAGS,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,  # no browser adds a bearer key by itself
    )
    app.state.engine = engine
    app.state.services = Services(engine)
    answers.install(app)
    app.include_router(health.router)
    for router in KEYED_ROUTERS:
        app.include_router(router, responses=answers.documented(401, 403, 422, 503))
    return app


def _decimals_as_numbers(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_decimals_as_numbers(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.items() >= _DECIMAL_AS_TEXT.items():
        others = {name: value for name, value in schema.items() if name not in _DECIMAL_AS_TEXT}
        return {"type": "number", **others}
    return {name: _decimals_as_numbers(member) for name, member in schema.items()}
