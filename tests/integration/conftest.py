"""The management API over a real database, and what most tests of it start from."""

from collections.abc import AsyncIterator

import pytest
from api_client import ADMIN_KEY, Api, Books, Team, make_team
from fastapi import FastAPI

from litellm_credits.api.app import create_api
from litellm_credits.engine import Engine
from litellm_credits.settings import Settings


@pytest.fixture
def settings() -> Settings:
    """The defaults, with waits that suit tests."""
    return Settings(pool_timeout_seconds=2.0, max_body_bytes=200_000)


@pytest.fixture
async def engine(database_url: str, settings: Settings) -> AsyncIterator[Engine]:
    """A started engine over a fresh database."""
    engine = Engine(database_url, settings, master_key=lambda: ADMIN_KEY)
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
def app(engine: Engine) -> FastAPI:
    """The API's application."""
    return create_api(engine)


@pytest.fixture
def admin(app: FastAPI) -> Api:
    """A client with the master key."""
    return Api(app, ADMIN_KEY)


@pytest.fixture
def anyone(app: FastAPI) -> Api:
    """A client without a key."""
    return Api(app, None)


@pytest.fixture
async def catalog(admin: Api) -> None:
    """The alias gpt-3.5-turbo at the seed's prices, in the group test-chat-fast."""
    alias = {"model_alias": "gpt-3.5-turbo", "provider": "openai", "actual_model": "gpt-3.5-turbo"}
    await admin.ok("POST", "/models/aliases/create", alias | {"pricing_input": 0.0005, "pricing_output": 0.0015})
    group = {"group_name": "test-chat-fast", "display_name": "Fast", "model_aliases": ["gpt-3.5-turbo"]}
    await admin.ok("POST", "/model-access-groups/create", group)


@pytest.fixture
async def organization(admin: Api, catalog: None) -> str:
    """The organization acme."""
    await admin.ok("POST", "/organizations/create", {"organization_id": "acme", "name": "ACME"})
    return "acme"


@pytest.fixture
async def team(admin: Api, organization: str) -> Team:
    """The team alpha, with 100 credits."""
    return await make_team(admin, "alpha")


@pytest.fixture
async def other_team(admin: Api, organization: str) -> Team:
    """The team beta, with 100 credits."""
    return await make_team(admin, "beta")


@pytest.fixture
def books(database_url: str) -> Books:
    """The database, beside the API."""
    return Books(database_url)
