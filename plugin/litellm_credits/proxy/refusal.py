"""How a refusal of ours reaches the client: LiteLLM carries it to the ring, and the ring writes the body.

LiteLLM's own rendering would drop the fields that make an error actionable (required, available, ...) and name its internals.
"""

from litellm.proxy._types import ProxyException

from litellm_credits.errors import CreditsError
from litellm_credits.proxy.call import CURRENT


def refuse(error: CreditsError) -> ProxyException:
    """The exception to raise inside LiteLLM for `error`; the ring answers with the first error's `body()`."""
    call = CURRENT.get()
    if call is not None and call.refusal is None:
        call.refusal = error
    return ProxyException(message=error.message, type=error.type, param=error.param, code=error.status)
