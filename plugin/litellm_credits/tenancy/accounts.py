"""What happens to a team's balance when the team begins and when it goes."""

from collections.abc import Sequence
from decimal import Decimal

from litellm_credits.db.database import Transaction
from litellm_credits.db.queries import load
from litellm_credits.errors import NotFound, OverdraftInUse

_SQL = load("accounts")
_LEDGER = load("ledger")
_PLAIN: dict[str, object] = {
    "kind": "paid",
    "priority": 100,
    "effective_at": None,
    "expires_at": None,
    "model_aliases": [],
    "job_types": [],
    "rollover_credits": 0,
    "rollover_days": None,
    "idempotency_key": None,
}
"""The terms of a plain grant; ledger/grants.py has all others, and this room lies below it."""


async def open_account(tx: Transaction, *, team_id: str, organization_id: str, credits: Decimal) -> None:
    """Give a new team its balance; credits above zero are its first ledger entry."""
    await tx.all(_SQL.open_account, {"team_id": team_id, "organization_id": organization_id})
    if credits:
        grant = {
            "team_id": team_id,
            "credits": credits,
            "transaction_type": "allocation",
            "reason": "Initial allocation",
        }
        await tx.all(_LEDGER.grant, _PLAIN | grant)


async def lock_account(tx: Transaction, team_id: str) -> None:
    """From here to the end of the transaction nothing else moves the team's credits; before any other lock of it.

    Raises:
        NotFound: no such team.
    """
    if await tx.one(_LEDGER.lock_account, {"team_id": team_id}) is None:
        raise NotFound(what="team", id=team_id)


async def set_overdraft_limit(tx: Transaction, team_id: str, overdraft_limit: Decimal) -> None:
    """Let the balance go so far below zero. The transaction has locked the balance or just made it.

    Raises:
        OverdraftInUse: more than that is spent or held already.
    """
    row = await tx.one(_SQL.set_overdraft_limit, {"team_id": team_id, "overdraft_limit": overdraft_limit})
    assert row is not None
    if row["least"] > overdraft_limit:
        raise OverdraftInUse(team_id=team_id, least=row["least"])


async def close_accounts(tx: Transaction, team_ids: Sequence[str], *, reason: str) -> list[str]:
    """Write the last ledger entry of these teams, which the same transaction must delete. Returns the teams that exist.

    From here on no call of theirs is held or settled, so none can be charged or released beside the closure.
    """
    existing = [row["team_id"] for row in await tx.all(_SQL.lock_accounts, {"team_ids": list(team_ids)})]
    await tx.all(_SQL.close_accounts, {"team_ids": existing, "reason": reason})
    return existing
