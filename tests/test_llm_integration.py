"""LLM calls through the whole service, streamed and not: the tests that this project was born from.

They start what they need. With CREDITS_BASE_URL, CREDITS_DATABASE_URL and LITELLM_MASTER_KEY they run against a service that is
already up; TEST_MODEL names another model. `pytest -s` shows what is verified.
"""

from collections.abc import Iterator

import pytest

from tests import seed

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest) -> seed.Service:
    """A running service."""
    return seed.Service.named_by_environment() or seed.Service.of(request.getfixturevalue("stack"))


@pytest.fixture(scope="module")
def world(service: seed.Service) -> Iterator[seed.World]:
    """Two teams that may call."""
    with seed.world(service, organization_id="test_org_integration", team_id="test_team_llm") as made:
        yield made


def test_prerequisites(service: seed.Service) -> None:
    seed.prerequisites(service)


def test_non_streaming_call(world: seed.World) -> None:
    seed.non_streaming_call(world)


def test_streaming_call(world: seed.World) -> None:
    seed.streaming_call(world)


def test_multiple_calls_same_job(world: seed.World) -> None:
    seed.multiple_calls_same_job(world)


def test_team_isolation(world: seed.World) -> None:
    seed.team_isolation(world)


def test_summary(world: seed.World) -> None:
    seed.summary(world)
