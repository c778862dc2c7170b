"""What a LiteLLM configuration names. Importing this module inside a starting proxy starts the plugin.

general_settings:
  custom_auth: litellm_credits.proxy.plugin.user_api_key_auth
litellm_settings:
  callbacks: litellm_credits.proxy.plugin.credits
"""

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth

from litellm_credits.proxy.auth import authenticate
from litellm_credits.proxy.boot import start

_running = start(__name__, globals())

credits = _running.hooks
"""The callback instance for `litellm_settings.callbacks`."""


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:
    """The handler for `general_settings.custom_auth`. LiteLLM fixes its parameters' names."""
    return await authenticate(_running.engine.authenticator, request, api_key)
