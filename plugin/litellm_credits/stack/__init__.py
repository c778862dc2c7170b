"""Everything the proxy needs, as real processes that start and stop together: for `demo`, `run` and the tests."""

from litellm_credits.stack.admin_key import admin_key
from litellm_credits.stack.stack import Stack, StandIn

__all__ = ["Stack", "StandIn", "admin_key"]
