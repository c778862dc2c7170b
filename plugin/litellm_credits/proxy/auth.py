"""LiteLLM's custom auth: who is calling, and is the route open to them."""

from fastapi import Request
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

from litellm_credits.errors import CreditsError, RouteNotMetered
from litellm_credits.proxy.call import CURRENT
from litellm_credits.proxy.refusal import refuse
from litellm_credits.proxy.routes import OPEN_TO_KEYS, is_open_to_keys
from litellm_credits.tenancy.principals import Admin, Authenticator


async def authenticate(authenticator: Authenticator, request: Request, api_key: str | None) -> UserAPIKeyAuth:
    """LiteLLM's view of the caller.

    Raises:
        ProxyException: 401 for a key that may not call, 403 for a suspended team or a route that is not metered.
    """
    call = CURRENT.get()
    try:
        caller = await authenticator.caller(api_key)
        if call is not None:
            call.caller = caller
        if isinstance(caller, Admin):
            return UserAPIKeyAuth(api_key=api_key, user_role=LitellmUserRoles.PROXY_ADMIN)
        if call is None or not is_open_to_keys(request.method, request.url.path):
            raise RouteNotMetered(method=request.method, path=request.url.path)
    except CreditsError as error:
        raise refuse(error) from None
    return UserAPIKeyAuth(
        api_key=api_key,
        team_id=caller.team_id,
        org_id=caller.organization_id,
        key_alias=str(caller.key_id),
        allowed_routes=list(OPEN_TO_KEYS),
        user_role=LitellmUserRoles.INTERNAL_USER,
    )
