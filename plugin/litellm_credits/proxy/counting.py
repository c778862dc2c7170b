"""Token counting, which is free: under the team's names, and on no deployment but those that it may call.

LiteLLM runs no hook for these routes, so the ring writes the deployment's name into the request before LiteLLM sees it.
"""

from starlette.types import Receive, Scope

from litellm_credits.api.bodies import parse, replayed
from litellm_credits.endpoints.reading import items
from litellm_credits.endpoints.table import PRICED
from litellm_credits.errors import BadInput
from litellm_credits.money import dumps
from litellm_credits.proxy.bodies import redirected, whole_body
from litellm_credits.proxy.call import Call
from litellm_credits.proxy.request import refuse_overrides
from litellm_credits.proxy.resolution import Names
from litellm_credits.tenancy.principals import Authenticator, Principal


class TokenCounts:
    """Rewrites requests to count tokens."""

    def __init__(self, authenticator: Authenticator, names: Names) -> None:
        self._authenticator = authenticator
        self._names = names

    @staticmethod
    def takes(call: Call) -> bool:
        """Whether this request is one to count tokens."""
        return call.match is not None and call.match.route.endpoint == "count_tokens"

    async def rewrite(self, call: Call, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """The same request for the deployment behind the name; the admin's stay as they are.

        Raises:
            CreditsError: 400, 401, 403 or 422, naming the field.
        """
        caller = await self._authenticator.caller(call.key)
        if not isinstance(caller, Principal):
            return scope, receive
        body = await whole_body(receive)
        request = parse(body)
        if not isinstance(request, dict):
            raise BadInput(problem="The request body must be a JSON object.")
        assert call.match is not None
        refuse_overrides(request, PRICED["messages" if call.match.model is None else "generate_content"])
        named = call.match.model
        if named is None:
            items(request.get("messages"), "messages")
        resolution, _ = await self._names.resolve(caller, request.get("model") if named is None else named)
        deployment = self._names.deployed(resolution.aliases[0])
        if named is None:
            request["model"] = deployment.name
            body = dumps(request)
            return redirected(scope, body), replayed(body, receive)
        path = call.path.replace(f"/{named}:", f"/{deployment.name}:")
        return redirected(scope, body, path=path), replayed(body, receive)
