"""A metered call that is made under an Idempotency-Key: named on its claim before it may leave."""

from litellm_credits.proxy.call import Call
from litellm_credits.tenancy.idempotency import CLAIM, IdempotencyKeys


async def note_call(keys: IdempotencyKeys, call: Call) -> None:
    """Note the call that holds credits now on the claim that it is made under, if there is one.

    Raises:
        RequestInFlight: another attempt has taken the request; this one must not leave.
        LedgerUnavailable: neither must it.
    """
    claim = CLAIM.get()
    if claim is not None and call.held is not None:
        await keys.note_call(claim, call.held.call_id)
