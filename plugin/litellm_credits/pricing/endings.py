"""What an ending charges: the table of DESIGN 2, with the rows where a plan may differ."""

from dataclasses import dataclass

from litellm_credits.models import CallBasis
from litellm_credits.pricing.plan import OnDisconnect, OnMissingUsage, OnZeroOutput, Plan
from litellm_credits.pricing.usage import Usage


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a call's answer when the call ends.

    `usage` is the provider's, when it sent one that can be true; `malformed` says that it sent one that cannot.
    `disconnected` means that the client left before the answer was complete; `counts_itself`, that the request alone says
    what is charged.
    """

    usage: Usage | None
    has_output: bool
    malformed: bool = False
    cached: bool = False
    disconnected: bool = False
    counts_itself: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """How to charge. `basis` None: not at all, the call is voided. `policy`: the plan's rule that said so, if one did."""

    basis: CallBasis | None
    policy: str | None = None
    flags: tuple[str, ...] = ()


def judge(evidence: Evidence, plan: Plan) -> Verdict:
    """What to charge a call that was dispatched and did not fail before any output."""
    if evidence.cached:
        return Verdict(CallBasis.cache_hit, f"cache_hit_rate={plan.cache_hit_rate}")
    if evidence.disconnected and plan.on_disconnect is not OnDisconnect.CHARGE_OUTPUT:
        policy = f"on_disconnect={plan.on_disconnect}"
        return Verdict(CallBasis.held_estimate if plan.on_disconnect is OnDisconnect.CHARGE_HOLD else None, policy)
    if evidence.counts_itself and (evidence.has_output or not evidence.disconnected):
        return Verdict(CallBasis.request_units)
    if evidence.usage is not None and not evidence.usage.empty:
        return Verdict(CallBasis.provider_usage)
    flags = ("usage_malformed",) if evidence.malformed else ()
    if not evidence.has_output:
        if evidence.disconnected:  # nobody knows what the provider did
            return Verdict(None, "on_disconnect=charge_output", (*flags, "needs_reconciliation"))
        policy = f"on_zero_output={plan.on_zero_output}"
        charges = plan.on_zero_output is OnZeroOutput.CHARGE_USAGE
        return Verdict(CallBasis.counted_output if charges else CallBasis.zero_output, policy, flags)
    policy, flags = f"on_missing_usage={plan.on_missing_usage}", flags or ("usage_missing",)
    match plan.on_missing_usage:
        case OnMissingUsage.COUNT:
            return Verdict(CallBasis.counted_output, policy, flags)
        case OnMissingUsage.CHARGE_HOLD:
            return Verdict(CallBasis.held_estimate, policy, flags)
        case OnMissingUsage.CHARGE_NOTHING:
            return Verdict(None, policy, flags)
