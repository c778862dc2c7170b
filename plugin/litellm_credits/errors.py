"""Everything that can go wrong, as its clients see it: HTTP status, `code` and message.

The docstring of an error is its message; `{fields}` in it are the facts it is raised with, and the facts named in
`shown` also travel as fields of the body. The body is OpenAI's: `{"error": {"message", "type", "param", "code"}}`.

    CreditsError
    ├── 401 InvalidKey, KeyExpired, KeyRevoked
    ├── 402 InsufficientCredits, JobCannotBeHeld, KeyLimitReached
    ├── 403 TeamSuspended, TeamPaused, ModelNotAllowed, PriceUnknown, RouteNotMetered, JobNotYours, JobRequired, AdminOnly, ...
    ├── 404 NotFound
    ├── 409 AlreadyExists, JobClosed, StillInUse, IdempotencyConflict, RequestInFlight, AlreadyDone, BalanceTooLow,
    │       OverdraftInUse, NotRefundable, NotOpen
    ├── 413 BodyTooLarge
    ├── 422 BadInput, IdempotencyKeyReused
    ├── 429 TooManyCallsInFlight, TooMuchHeld
    ├── 502 ProviderRefused
    └── 503 LedgerUnavailable, ModelNotDeployed
"""

import inspect
from decimal import Decimal
from typing import ClassVar

from litellm_credits.money import plain


class CreditsError(Exception):
    """{message}"""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "api_error"
    shown: ClassVar[tuple[str, ...]] = ()
    retry_after_seconds: ClassVar[int | None] = None
    """When the same request may succeed: the header Retry-After."""

    def __init__(self, *, param: str | None = None, **facts: object) -> None:
        self.param = param
        self.facts = facts
        shown = {name: plain(fact) if isinstance(fact, Decimal) else fact for name, fact in facts.items()}
        self.message = inspect.cleandoc(self.__class__.__doc__ or "").replace("\n", " ").format(**shown)
        super().__init__(self.message)

    def body(self) -> dict[str, dict[str, object]]:
        """The response body. Credit amounts stay `Decimal`: write it with `money.dumps`."""
        error: dict[str, object] = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        error.update({name: self.facts[name] for name in self.shown if name in self.facts})
        return {"error": error}


# 401 ------------------------------------------------------------------------------------------------------------------


class Unauthenticated(CreditsError):
    """No API key was sent. Send the team's virtual key as 'Authorization: Bearer sk-...'."""

    status, code, type = 401, "missing_api_key", "authentication_error"


class InvalidKey(CreditsError):
    """This API key is not known here. Check it, or ask the operator for a new one."""

    status, code, type = 401, "invalid_api_key", "authentication_error"


class KeyExpired(CreditsError):
    """This API key expired at {expired_at}. Ask the operator for a new one."""

    status, code, type = 401, "api_key_expired", "authentication_error"


class KeyRevoked(CreditsError):
    """This API key was revoked. Ask the operator for a new one."""

    status, code, type = 401, "api_key_revoked", "authentication_error"


# 402 ------------------------------------------------------------------------------------------------------------------


class InsufficientCredits(CreditsError):
    """
    Not enough credits: this call can cost up to {required} credits, {available} are available{others}. {advice}
    """

    status, code, type = 402, "insufficient_credits", "insufficient_quota"
    shown = ("required", "available", "held", "affordable_max_tokens", "retry_may_help")

    def __init__(
        self,
        *,
        required: Decimal,
        available: Decimal,
        held: Decimal,
        affordable_max_tokens: int,
        priced_by_tokens: bool = True,
    ) -> None:
        retry_may_help = available + held >= required
        if affordable_max_tokens > 0:
            advice = f"Lower max_tokens to at most {affordable_max_tokens}, or add credits."
        elif retry_may_help:
            advice = "Calls in flight hold the rest: try again when they have ended, or add credits."
        else:
            advice = "Add credits, or shorten the prompt."
        super().__init__(
            required=required,
            available=available,
            held=held,
            affordable_max_tokens=affordable_max_tokens,
            retry_may_help=retry_may_help,
            others=f" ({plain(held)} more are held by calls in flight)" if held else "",
            advice=advice,
        )


class JobCannotBeHeld(CreditsError):
    """
    Not enough credits: this job holds {required} credits from its creation on, {available} are available. {advice}
    """

    status, code, type = 402, "insufficient_credits", "insufficient_quota"
    shown = ("required", "available", "held", "retry_may_help")

    def __init__(self, *, required: Decimal, available: Decimal, held: Decimal) -> None:
        retry_may_help = available + held >= required
        waiting = "Calls and jobs hold the rest: try again when some have ended, add credits, or lower credit_cap."
        super().__init__(
            required=required,
            available=available,
            held=held,
            retry_may_help=retry_may_help,
            advice=waiting if retry_may_help else "Add credits, or lower credit_cap.",
        )


class KeyLimitReached(CreditsError):
    """
    The credit limit of this API key leaves {available} credits, this call can cost up to {required}. {advice}
    """

    status, code, type = 402, "key_limit_reached", "insufficient_quota"
    shown = ("required", "available", "held", "retry_may_help")

    def __init__(self, *, required: Decimal, left: Decimal, held: Decimal) -> None:
        retry_may_help = left + held >= required
        waiting = "Calls of this key hold the rest: try again when they have ended."
        super().__init__(
            required=required,
            available=max(left, Decimal(0)),
            held=held,
            retry_may_help=retry_may_help,
            advice=waiting if retry_may_help else "Ask for a higher credit_limit, or use another key of the team.",
        )


# 403 ------------------------------------------------------------------------------------------------------------------


class Forbidden(CreditsError):
    """{reason}"""

    status, code, type = 403, "forbidden", "permission_error"


class TeamSuspended(CreditsError):
    """Team '{team_id}' is suspended. Ask the operator to resume it."""

    status, code, type = 403, "team_suspended", "permission_error"


class TeamPaused(CreditsError):
    """Team '{team_id}' is paused: it takes no calls until somebody resumes it."""

    status, code, type = 403, "team_paused", "permission_error"


class ModelNotAllowed(CreditsError):
    """
    Team '{team_id}' has no access to a model named '{model}'. GET /v1/models lists what it may call.
    """

    status, code, type = 403, "model_not_allowed", "permission_error"


class PriceUnknown(CreditsError):
    """
    Model alias '{model}' has no price for calls of this kind and LiteLLM knows none for '{actual_model}', so the call could
    not be billed. The operator must set {needed} on the alias.
    """

    status, code, type = 403, "price_unknown", "permission_error"


class RouteNotMetered(CreditsError):
    """{method} {path} is not open to virtual keys: {reason}."""

    status, code, type = 403, "route_not_metered", "permission_error"


class ParameterNotAllowed(CreditsError):
    """
    '{name}' cannot be used here: it would choose a deployment or a price, cost what is not metered, or reach what other teams
    stored. Remove it.
    """

    status, code, type = 403, "parameter_not_allowed", "permission_error"


class JobNotYours(CreditsError):
    """Job '{job_id}' does not belong to your team."""

    status, code, type = 403, "job_not_yours", "permission_error"


class JobRequired(CreditsError):
    """This team's calls must belong to a job: create one and send its id as the x-job-id header."""

    status, code, type = 403, "job_required", "permission_error"


class AdminOnly(CreditsError):
    """{method} {path} needs the admin key (the proxy's master key)."""

    status, code, type = 403, "admin_only", "permission_error"


class TeamOnly(CreditsError):
    """{method} {path} acts for a team: call it with one of the team's virtual keys, not with the admin key."""

    status, code, type = 403, "team_only", "permission_error"


# 404, 409 -------------------------------------------------------------------------------------------------------------


class NotFound(CreditsError):
    """There is no {what} '{id}'."""

    status, code, type = 404, "not_found", "invalid_request_error"


class AlreadyExists(CreditsError):
    """There already is a {what} '{id}'."""

    status, code, type = 409, "already_exists", "invalid_request_error"


class JobClosed(CreditsError):
    """Job '{job_id}' is {state}: it takes no more calls and cannot be completed again. Create a new job."""

    status, code, type = 409, "job_closed", "invalid_request_error"
    shown = ("job_id", "state")


class StillInUse(CreditsError):
    """The {what} '{id}' is still used by {users}. Try again when it no longer is."""

    status, code, type = 409, "still_in_use", "invalid_request_error"


class IdempotencyConflict(CreditsError):
    """The idempotency key '{key}' was used before for a different operation. Use a new key for a new operation."""

    status, code, type = 409, "idempotency_conflict", "invalid_request_error"


class RequestInFlight(CreditsError):
    """The first request with this Idempotency-Key is still being worked on. Send it again in a moment for its answer."""

    status, code, type = 409, "idempotency_in_flight", "invalid_request_error"
    retry_after_seconds = 1


class AlreadyDone(CreditsError):
    """
    The request with this Idempotency-Key was done before and is not repeated; its answer {reason}. Use a new key to do it again.
    """

    status, code, type = 409, "idempotency_already_done", "invalid_request_error"
    shown = ("call",)


class BalanceTooLow(CreditsError):
    """Only {available} credits can be taken from team '{team_id}': the rest is spent or held. {required} were asked for."""

    status, code, type = 409, "balance_too_low", "invalid_request_error"
    shown = ("required", "available")


class OverdraftInUse(CreditsError):
    """The overdraft limit of team '{team_id}' cannot be less than {least}: so many credits are spent or held beyond its own."""

    status, code, type = 409, "overdraft_in_use", "invalid_request_error"
    shown = ("least",)


class NotRefundable(CreditsError):
    """Only {available} credits of the {what} '{id}' can be refunded: no more were charged and not refunded yet."""

    status, code, type = 409, "not_refundable", "invalid_request_error"
    shown = ("required", "available")


class NotOpen(CreditsError):
    """The {what} '{id}' is {state} already."""

    status, code, type = 409, "not_open", "invalid_request_error"
    shown = ("state",)


# 429 ------------------------------------------------------------------------------------------------------------------


class TooManyCallsInFlight(CreditsError):
    """Team '{team_id}' has {calls} calls in flight, as many as its plan allows. Try again when one has ended."""

    status, code, type = 429, "too_many_calls_in_flight", "rate_limit_error"
    shown = ("calls",)
    retry_after_seconds = 1


class TooMuchHeld(CreditsError):
    """
    With {required} credits more, calls and jobs in flight would hold more of the balance than the plan of team '{team_id}'
    allows at once. Try again when some have ended.
    """

    status, code, type = 429, "too_much_held", "rate_limit_error"
    shown = ("required", "held")
    retry_after_seconds = 1


# 4xx input ------------------------------------------------------------------------------------------------------------


class BadInput(CreditsError):
    """{problem}"""

    status, code, type = 422, "invalid_input", "invalid_request_error"


class IdempotencyKeyReused(CreditsError):
    """This Idempotency-Key was used before for a request with another body. Use a new key for a new request."""

    status, code, type = 422, "idempotency_key_reused", "invalid_request_error"


class MalformedJson(CreditsError):
    """The request body is not valid JSON ({problem})."""

    status, code, type = 400, "invalid_json", "invalid_request_error"


class BodyTooLarge(CreditsError):
    """The request body is larger than {limit_bytes} bytes, the most this proxy takes (CREDITS_MAX_BODY_BYTES)."""

    status, code, type = 413, "body_too_large", "invalid_request_error"


# 5xx ------------------------------------------------------------------------------------------------------------------


class ProviderRefused(CreditsError):
    """
    The provider behind '{model}' refused this proxy's own access to it ({status}). Your key is not to blame: tell the operator.
    """

    status, code, type = 502, "provider_refused", "api_error"
    status_code = status
    """As providers' errors have it, in whose place this stands on the call's record."""


class ModelNotDeployed(CreditsError):
    """
    Model alias '{model}' stands for '{actual_model}', which no deployment of this proxy serves. The operator must add it
    to model_list in the proxy's configuration.
    """

    status, code, type = 503, "model_not_deployed", "api_error"


class LedgerUnavailable(CreditsError):
    """The credit ledger's database cannot be reached; no provider was called. Try again shortly."""

    status, code, type = 503, "ledger_unavailable", "api_error"
    retry_after_seconds = 1


# Not for HTTP clients -------------------------------------------------------------------------------------------------


class StartupRefused(CreditsError):
    """litellm-credits cannot start: {problem}"""
