"""LiteLLM's custom auth: who is calling, and is the route open to them."""

from fastapi import Request
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

from litellm_credits.errors import CreditsError, RouteNotMetered, TeamSuspended
from litellm_credits.proxy.call import CURRENT, Call
from litellm_credits.proxy.refusal import refuse
from litellm_credits.proxy.routes import OPEN_TO_KEYS, is_open_to_keys
from litellm_credits.tenancy.principals import Admin, Authenticator, Principal


async def authenticate(authenticator: Authenticator, request: Request, api_key: str | None) -> UserAPIKeyAuth:
    """LiteLLM's view of the caller.

    Raises:
        ProxyException: 401 for a key that may not call, 403 for a suspended or paused team or a route that is not metered.
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
        if request.method != "GET":
            await authenticator.may_call(caller)
    except CreditsError as error:
        raise refuse(error) from None
    return UserAPIKeyAuth(
        api_key=api_key,
        team_id=caller.team_id,
        org_id=caller.organization_id,
        key_alias=str(caller.key_id),
        rpm_limit=caller.limits.rpm,
        tpm_limit=caller.limits.tpm,
        team_rpm_limit=caller.limits.team_rpm,
        team_tpm_limit=caller.limits.team_tpm,
        allowed_routes=list(OPEN_TO_KEYS),
        user_role=LitellmUserRoles.INTERNAL_USER,
    )


async def why_stopped(authenticator: Authenticator, call: Call | None, error: TeamSuspended) -> CreditsError:
    """Whether the team that a hold was refused for is suspended, as `error` says, or paused: the hold does not tell."""
    try:
        if call is not None and isinstance(call.caller, Principal):
            (await authenticator.fresh(call.caller)).check_calls()
    except CreditsError as why:
        return why
    return error
