"""What the statements of a call's life take (db/sql/ledger.sql), and what they say where nothing was held."""

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from litellm_credits.db.database import Row
from litellm_credits.errors import (
    JobClosed,
    JobNotYours,
    KeyLimitReached,
    NotFound,
    TeamSuspended,
    TooManyCallsInFlight,
    TooMuchHeld,
)
from litellm_credits.ledger.calls import Ending, HoldRequest, Short
from litellm_credits.money import dumps, plain

_HOLD_FIELDS = tuple(HoldRequest.__dataclass_fields__)
_ENDING_FIELDS = tuple(Ending.__dataclass_fields__)


def hold_params(call_id: UUID, request: HoldRequest) -> dict[str, Any]:
    """What the statements hold_plain, hold and forestall take to hold for a call so, beside who vouches for it."""
    params = {name: getattr(request, name) for name in _HOLD_FIELDS}
    return params | {"call_id": call_id, "aliases": list(request.aliases or (request.model_alias,))}


def void_of_unknown(call_id: UUID, request: HoldRequest) -> Ending:
    """The ending of a call whose hold nobody knows the outcome of."""
    return Ending(
        call_id=call_id,
        team_id=request.team_id,
        model_alias=request.model_alias,
        pricing_input=request.pricing_input,
        pricing_output=request.pricing_output,
        flags=["hold_outcome_unknown"],
    )


def with_fewer_details(ending: Ending) -> Ending | None:
    """The ending without its texts, then without its numbers too; None when only the money is left."""
    if "details_dropped" not in ending.flags:
        flags = [*ending.flags, "details_dropped"]
        return replace(ending, request_data=None, response_data=None, error=None, resolved_model=None, flags=flags)
    money = Ending(
        call_id=ending.call_id,
        team_id=ending.team_id,
        model_alias=ending.model_alias,
        pricing_input=ending.pricing_input,
        pricing_output=ending.pricing_output,
        basis=ending.basis,
        credits=ending.credits,
        policy=ending.policy,
        flags=ending.flags,
    )
    return None if money == ending else money


def settle_params(ending: Ending) -> dict[str, Any]:
    """What the statements settle_plain and settle take to end a call so."""
    params: dict[str, Any] = {name: getattr(ending, name) for name in _ENDING_FIELDS}
    params["status"] = "settled" if ending.basis else "voided"
    params["reason"] = f"call {ending.model_alias}: {ending.basis or 'voided'} {plain(ending.credits)}"
    for name in ("request_data", "response_data"):
        data = params[name]
        params[name] = None if data is None else Jsonb(data, dumps=_already_json)
    params["error"] = None if ending.error is None else Jsonb(ending.error)
    for name in ("units", "pricing_rates"):
        params[name] = Jsonb(params[name], dumps=dumps) if params[name] else None
    return params


def expire_params(row: Row) -> dict[str, Any]:
    """What the statement settle takes to end a call of `overdue_calls`, by its team's policy."""
    charge = row["policy"] == "charge_hold"
    ending = Ending(
        call_id=row["call_id"],
        team_id=row["team_id"],
        model_alias=row["model_alias"],
        pricing_input=row["pricing_input"],
        pricing_output=row["pricing_output"],
        credits=row["credits_held"] if charge else Decimal(0),
        policy=f"on_process_death={row['policy']}",
        flags=["lease_expired", "needs_reconciliation"],
    )
    reason = f"call {ending.model_alias}: expired, charged as held"
    return settle_params(ending) | {"status": "expired", "reason": reason}


def _already_json(data: bytes) -> str:
    return data.decode()


def refused(row: Row, request: HoldRequest) -> Short:
    """What the hold statement says of a call that it did not hold for.

    Raises:
        CreditsError: unless it is that the credits do not suffice.
    """
    if not row["team_active"]:
        raise TeamSuspended(team_id=request.team_id)
    if request.job_id is not None:
        if row["job_team"] is None:
            raise NotFound(what="job", id=request.job_id, param="job_id")
        if row["job_team"] != request.team_id:
            raise JobNotYours(job_id=request.job_id, param="job_id")
        if row["job_status"] not in ("pending", "in_progress"):
            raise JobClosed(job_id=request.job_id, state=row["job_status"], param="job_id")
    match row["refusal"]:
        case "job":  # it was closed while the hold waited for its turn
            raise JobClosed(job_id=request.job_id, state="closed", param="job_id")
        case "calls_in_flight":
            raise TooManyCallsInFlight(team_id=request.team_id, calls=row["calls_held"])
        case "held_share":
            raise TooMuchHeld(team_id=request.team_id, required=row["credits"], held=row["held_by_others"])
        case "key_limit":
            raise KeyLimitReached(required=row["credits"], left=row["key_available"], held=row["key_held"])
    return Short(available=row["available"], held=row["held_by_others"])
