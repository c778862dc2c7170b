"""Unstreamed and streamed LLM calls through the whole service, without pytest.

    python scripts/test_streaming_integration.py
    TEST_MODEL=gpt-4 python scripts/test_streaming_integration.py

Starts what it needs, unless CREDITS_BASE_URL, CREDITS_DATABASE_URL and LITELLM_MASTER_KEY name a service that is already up.
Exits with 1 when something is not as it must be.
"""

import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import seed

from litellm_credits.errors import StartupRefused
from litellm_credits.stack import Stack

SCENARIOS = (
    seed.non_streaming_call,
    seed.streaming_call,
    seed.multiple_calls_same_job,
    seed.team_isolation,
    seed.summary,
)


def main() -> None:
    """Run all scenarios; the first that fails ends the run."""
    try:
        with running_service() as service:
            seed.prerequisites(service)
            with seed.world(service, organization_id="test_org_streaming", team_id="test_team_streaming") as world:
                for scenario in SCENARIOS:
                    scenario(world)
    except StartupRefused as refusal:
        sys.exit(refusal.message)
    except AssertionError:
        traceback.print_exc()
        sys.exit("\n❌ FAILED")
    print("\n✅ All tests PASSED")


@contextmanager
def running_service() -> Iterator[seed.Service]:
    """The service that the environment names, or one of our own with a database that is thrown away."""
    if named := seed.Service.named_by_environment():
        yield named
        return
    with (
        tempfile.TemporaryDirectory(prefix="litellm-credits-") as folder,
        Stack(Path(folder), progress=lambda step: print(f"… {step}", flush=True)) as stack,
    ):
        yield seed.Service.of(stack)


if __name__ == "__main__":
    main()
