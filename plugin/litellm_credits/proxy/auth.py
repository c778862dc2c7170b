"""LiteLLM's custom auth: who is calling, and is the route open to them."""

from fastapi import Request
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

from litellm_credits.api.asgi import route_path
from litellm_credits.errors import CreditsError, RouteNotMetered, TeamSuspended
from litellm_credits.proxy.call import CURRENT, Call
from litellm_credits.proxy.refusal import refuse
from litellm_credits.proxy.routes import Access
from litellm_credits.tenancy.principals import Admin, Authenticator, Principal

_UNKNOWN_ROUTE = "it is none of the routes that this proxy meters"


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
        if call is None:  # a websocket: its sessions are not metered
            raise RouteNotMetered(
                method="WEBSOCKET", path=route_path(request.scope), reason="websockets are not metered"
            )
        require_open(call, request)
        if request.method != "GET":
            await authenticator.may_call(caller)
    except CreditsError as error:
        raise refuse(error) from None
    path = route_path(request.scope)
    return UserAPIKeyAuth(
        api_key=api_key,
        team_id=caller.team_id,
        org_id=caller.organization_id,
        key_alias=str(caller.key_id),
        rpm_limit=caller.limits.rpm,
        tpm_limit=caller.limits.tpm,
        team_rpm_limit=caller.limits.team_rpm,
        team_tpm_limit=caller.limits.team_tpm,
        allowed_routes=[path],  # LiteLLM's own table may say less of this path; ours has said that it is open
        metadata={"allowed_passthrough_routes": [path]},  # the same of what the operator opened
        user_role=LitellmUserRoles.INTERNAL_USER,
    )


def require_open(call: Call, request: Request) -> None:
    """Whether a virtual key may send this request at all. LiteLLM must have routed it as our table reads it.

    Raises:
        RouteNotMetered: saying why not.
    """
    closed = why_closed(call)
    if closed is not None:
        raise closed
    assert call.match is not None
    if getattr(request.scope.get("route"), "path", None) != call.match.route.path:
        raise RouteNotMetered(method=call.method, path=call.path, reason=_UNKNOWN_ROUTE)


def why_closed(call: Call) -> RouteNotMetered | None:
    """Why the table does not open this request to virtual keys; None: it does."""
    route = call.match.route if call.match is not None else None
    if route is not None and route.access is not Access.REFUSED:
        return None
    return RouteNotMetered(method=call.method, path=call.path, reason=_UNKNOWN_ROUTE if route is None else route.reason)


async def why_stopped(authenticator: Authenticator, call: Call | None, error: TeamSuspended) -> CreditsError:
    """Whether the team that a hold was refused for is suspended, as `error` says, or paused: the hold does not tell."""
    try:
        if call is not None and isinstance(call.caller, Principal):
            (await authenticator.fresh(call.caller)).check_calls()
    except CreditsError as why:
        return why
    return error
