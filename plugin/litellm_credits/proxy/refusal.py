"""How a refusal of ours reaches the client: LiteLLM carries it to the ring, and the ring writes the body.

LiteLLM's own rendering would drop the fields that make an error actionable (required, available, ...) and name its internals.
"""

from litellm.proxy._types import ProxyException

from litellm_credits.endpoints.endpoint import Dialect
from litellm_credits.errors import CreditsError
from litellm_credits.money import dumps
from litellm_credits.proxy.call import CURRENT

_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
"""Anthropic's `error.type` by status (its API's page on errors); `api_error` for the others."""

_GOOGLE = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
"""google.rpc.Code by HTTP status, as in Google's API design guide; `FAILED_PRECONDITION` for the others."""


def refuse(error: CreditsError) -> ProxyException:
    """The exception to raise inside LiteLLM for `error`; the ring answers with the first error's `rendered` body."""
    call = CURRENT.get()
    if call is not None and call.refusal is None:
        call.refusal = error
    return ProxyException(message=error.message, type=error.type, param=error.param, code=error.status)


def rendered(error: CreditsError, dialect: Dialect) -> bytes:
    """The body of `error` as clients of this dialect read it; our own fields are the same in all of them."""
    facts = error.body()["error"]
    match dialect:
        case Dialect.OPENAI:
            return dumps({"error": facts})
        case Dialect.ANTHROPIC:
            kind = _ANTHROPIC.get(error.status, "api_error")
            return dumps({"type": "error", "error": {**facts, "type": kind}})
        case Dialect.GOOGLE:
            reason = {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": error.code.upper(),
                "domain": "litellm-credits",
                "metadata": {name: str(value) for name, value in facts.items() if name not in ("message", "type")},
            }
            status = _GOOGLE.get(error.status, "FAILED_PRECONDITION")
            return dumps(
                {
                    "error": {
                        "code": error.status,
                        "message": error.message,
                        "status": status,
                        "details": [reason],
                    }
                }
            )
