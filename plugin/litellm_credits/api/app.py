"""The application under /api, put together."""

from fastapi import FastAPI

from litellm_credits import __version__
from litellm_credits.api import answers, catalog, credits, health, jobs, organizations, teams
from litellm_credits.api.services import Services
from litellm_credits.engine import Engine

KEYED_ROUTERS = (
    organizations.router,
    teams.admin_router,
    teams.router,
    catalog.aliases,
    catalog.groups,
    credits.admin_router,
    credits.router,
    jobs.router,
)
"""Every route there is but health."""

_TAGS = [
    {"name": "jobs", "description": "A team's units of work. Team keys on their own jobs, the admin on all."},
    {"name": "credits", "description": "Balances and the ledger. Credits and USD are exact decimal numbers."},
    {"name": "teams", "description": "Who may call, with which keys and plan."},
    {"name": "organizations", "description": "The operator's customers, who own teams."},
    {"name": "models", "description": "The names that teams call, their prices, and who may call them."},
    {"name": "health", "description": "Whether calls can be metered now."},
]


def create_api(engine: Engine) -> FastAPI:
    """The management API over `engine`, to be mounted at /api. The engine's life is its owner's to begin and end."""
    app = FastAPI(
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
