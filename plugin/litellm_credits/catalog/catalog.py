"""The whole catalog in memory, and how a requested name becomes the aliases that may serve it.

A few hundred aliases fit in memory, so each worker keeps a snapshot and replaces it when the schema's triggers say that
anything in the catalog changed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from litellm_credits.db.database import Database
from litellm_credits.db.listen import EVERYTHING
from litellm_credits.db.queries import load
from litellm_credits.errors import ModelNotAllowed
from litellm_credits.pricing.charge import Price

_SQL = load("catalog")
_DEAF_TTL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that teams call. `price` None: it states none, LiteLLM's own counts."""

    name: str
    provider: str
    actual_model: str
    price: Price | None
    max_output_tokens: int | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a requested name stands for, for one team: the aliases that may serve it, in order of preference."""

    requested: str
    group: str
    aliases: tuple[Alias, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The active aliases by name, and the active groups with their active aliases in order."""

    aliases: dict[str, Alias]
    groups: dict[str, tuple[str, ...]]

    def resolve(
        self, requested: str, *, team_id: str, access_groups: tuple[str, ...], allowed: tuple[str, ...] | None = None
    ) -> Resolution:
        """What `requested` stands for: an alias in one of the groups, or the name of one of the groups.

        Of the groups' aliases only those in `allowed` count, unless that is None.

        Names match exactly. An alias wins over a group of the same name; of several groups that hold an alias, the
        team's first is the one recorded.

        Raises:
            ModelNotAllowed: for anything else, whether it exists or not.
        """
        for group in access_groups:
            if requested in self._members(group, allowed):
                return Resolution(requested, group, (self.aliases[requested],))
        members = self._members(requested, allowed) if requested in access_groups else ()
        if not members:
            raise ModelNotAllowed(team_id=team_id, model=requested, param="model")
        return Resolution(requested, requested, tuple(self.aliases[name] for name in members))

    def names_for(self, access_groups: tuple[str, ...], allowed: tuple[str, ...] | None = None) -> list[str]:
        """Every name that `resolve` accepts for these groups: aliases first, then the groups themselves."""
        groups = (group for group in access_groups if self._members(group, allowed))
        return list(dict.fromkeys([*self.aliases_for(access_groups, allowed), *groups]))

    def aliases_for(self, access_groups: tuple[str, ...], allowed: tuple[str, ...] | None = None) -> list[str]:
        """Every alias that these groups hold, in order of preference."""
        return list(dict.fromkeys(alias for group in access_groups for alias in self._members(group, allowed)))

    def _members(self, group: str, allowed: tuple[str, ...] | None) -> tuple[str, ...]:
        members = self.groups.get(group, ())
        return members if allowed is None else tuple(alias for alias in members if alias in allowed)


class CatalogCache:
    """The catalog as of the last change."""

    def __init__(self, db: Database, *, ttl_seconds: float, hearing: Callable[[], bool]) -> None:
        self._db = db
        self._ttl_seconds = ttl_seconds
        self._hearing = hearing
        self._read_at = 0.0
        self._catalog: Catalog | None = None
        self._changes = 0

    async def current(self) -> Catalog:
        """The catalog, from memory unless it changed.

        Raises:
            LedgerUnavailable: when it must be read and cannot.
        """
        ttl = self._ttl_seconds if self._hearing() else _DEAF_TTL_SECONDS
        if self._catalog is not None and time.monotonic() - self._read_at < ttl:
            return self._catalog
        return await self.fresh()

    async def fresh(self) -> Catalog:
        """The catalog, read now: for a refusal that rests on the cached one."""
        started, changes = time.monotonic(), self._changes
        aliases = {
            row["model_alias"]: Alias(
                name=row["model_alias"],
                provider=row["provider"],
                actual_model=row["actual_model"],
                price=Price.stated(row["pricing_input"], row["pricing_output"], row["pricing_rates"]),
                max_output_tokens=row["max_output_tokens"],
            )
            for row in await self._db.all(_SQL.active_aliases)
        }
        groups = {
            row["group_name"]: tuple(name for name in row["aliases"] if name in aliases)
            for row in await self._db.all(_SQL.active_groups)
        }
        catalog = Catalog(aliases, groups)
        if changes == self._changes:  # else it may be older than a change we have already heard of
            self._catalog, self._read_at = catalog, started
        return catalog

    def hear(self, payload: str) -> None:
        """Forget the catalog when a change notification concerns it."""
        if payload in ("catalog", EVERYTHING):
            self._changes += 1
            self._catalog = None
