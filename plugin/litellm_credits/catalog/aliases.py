"""Model aliases, as the operator keeps them."""

from decimal import Decimal
from typing import Any

from litellm_credits import money
from litellm_credits.db.database import Database, Row, Transaction
from litellm_credits.db.queries import Query, load
from litellm_credits.errors import AlreadyExists, BadInput, NotFound
from litellm_credits.models import ModelAlias
from litellm_credits.pricing.charge import TOKEN_RATES
from litellm_credits.pricing.rates import Rates

_SQL = load("catalog")
_TENANCY = load("tenancy")


class AliasView(ModelAlias):
    """An alias with the groups that it is in. Prices in USD per 1,000 tokens."""

    access_groups: list[str]


class Aliases:
    """All model aliases."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(
        self,
        model_alias: str,
        *,
        provider: str,
        actual_model: str,
        display_name: str | None,
        description: str | None,
        pricing_input: Decimal | None,
        pricing_output: Decimal | None,
        pricing_rates: Rates | None,
        max_output_tokens: int | None,
        access_groups: list[str],
    ) -> AliasView:
        """Add an alias, as the last of each of the groups.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: no such access group.
            BadInput: one price is set without the other.
        """
        facts = {
            "model_alias": model_alias,
            "provider": provider,
            "actual_model": actual_model,
            "display_name": display_name,
            "description": description,
            "pricing_input": pricing_input,
            "pricing_output": pricing_output,
            "pricing_rates": money.dumps(pricing_rates.stored() if pricing_rates else {}).decode(),
            "max_output_tokens": max_output_tokens,
        }
        async with self._db.transaction() as tx:
            if await tx.one(_SQL.create_alias, facts) is None:
                raise AlreadyExists(what="model alias", id=model_alias, param="model_alias")
            return await self._finish(tx, model_alias, access_groups)

    async def get(self, model_alias: str) -> AliasView:
        """One alias.

        Raises:
            NotFound: there is none of that name.
        """
        row = await self._db.one(_SQL.alias_view, {"model_alias": model_alias})
        if row is None:
            raise NotFound(what="model alias", id=model_alias)
        return AliasView.model_validate(row)

    async def require(self, model_aliases: list[str], *, param: str) -> None:
        """Raises NotFound unless there are aliases of all these names."""
        unknown = await self._db.one(_TENANCY.unknown_aliases, {"model_aliases": model_aliases})
        if unknown is not None:
            raise NotFound(what="model alias", id=unknown["name"], param=param)

    async def page(self, *, after: str, limit: int) -> list[AliasView]:
        """Aliases by name, starting after the name `after`."""
        rows = await self._db.all(_SQL.alias_views, {"after": after, "limit": limit})
        return [AliasView.model_validate(row) for row in rows]

    async def update(self, model_alias: str, changes: dict[str, Any], *, access_groups: list[str] | None) -> AliasView:
        """Set the columns that `changes` names; with `access_groups`, be in exactly these.

        Raises:
            NotFound: no such alias or access group.
            BadInput: one price would stand without the other.
        """
        async with self._db.transaction() as tx:
            rates = changes.get("pricing_rates")
            if isinstance(rates, Rates):
                changes = changes | {"pricing_rates": rates.stored()}
            key = {"model_alias": model_alias, "changes": money.dumps(changes).decode()}
            if await tx.one(_SQL.update_alias, key) is None:
                raise NotFound(what="model alias", id=model_alias)
            return await self._finish(tx, model_alias, access_groups)

    async def delete(self, model_alias: str) -> None:
        """Delete an alias, also out of its groups. Calls that name it are kept.

        Raises:
            NotFound: there is none of that name.
        """
        if await self._db.one(_SQL.delete_alias, {"model_alias": model_alias}) is None:
            raise NotFound(what="model alias", id=model_alias)

    async def _finish(self, tx: Transaction, model_alias: str, access_groups: list[str] | None) -> AliasView:
        if access_groups is not None:
            await require(tx, _SQL.keep_groups, access_groups, what="model access group", param="access_groups")
            membership = {"model_alias": model_alias, "access_groups": access_groups}
            await tx.all(_SQL.leave_other_groups, membership)
            await tx.all(_SQL.join_groups, membership)
        [row] = await tx.all(_SQL.alias_view, {"model_alias": model_alias})
        _check_prices(row)
        return AliasView.model_validate(row)


async def require(tx: Transaction, query: Query, names: list[str], *, what: str, param: str) -> None:
    """Keep all of these rows from being deleted until the transaction ends.

    Raises:
        NotFound: naming the first that does not exist.
    """
    known = {row["name"] for row in await tx.all(query, {"names": names})}
    for name in names:
        if name not in known:
            raise NotFound(what=what, id=name, param=param)


def _check_prices(row: Row) -> None:
    if (row["pricing_input"] is None) != (row["pricing_output"] is None):
        missing = "pricing_input" if row["pricing_input"] is None else "pricing_output"
        raise BadInput(problem="pricing_input and pricing_output go together: set both, or neither", param=missing)
    if row["pricing_input"] is None and any(name in row["pricing_rates"] for name in (*TOKEN_RATES, "tiers")):
        raise BadInput(
            problem="rates of parts of tokens need pricing_input and pricing_output beside them", param="pricing_rates"
        )
