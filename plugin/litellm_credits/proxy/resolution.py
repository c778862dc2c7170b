"""From the name that a client asks for to the deployments that may serve it, and what each of them costs."""

import logging
from collections.abc import Mapping
from decimal import Decimal

from litellm_credits.catalog.catalog import Alias, Catalog, Resolution
from litellm_credits.endpoints.endpoint import Endpoint
from litellm_credits.engine import Engine
from litellm_credits.errors import BadInput, ModelNotAllowed, ModelNotDeployed, PriceUnknown
from litellm_credits.pricing.charge import Price
from litellm_credits.pricing.plan import AliasPrice, Plan
from litellm_credits.pricing.usage import Unit
from litellm_credits.proxy.call import Candidate
from litellm_credits.proxy.deployments import Deployment, Deployments
from litellm_credits.tenancy.principals import Principal

log = logging.getLogger("litellm_credits.proxy")


class Names:
    """Resolves names, for one engine."""

    def __init__(self, engine: Engine, opened: Mapping[str, Decimal]) -> None:
        """`opened`: the pass-through routes that the operator has opened, and their prices, USD a request."""
        self._engine = engine
        self._opened = opened
        self._deployments = Deployments()

    async def resolve(self, principal: Principal, requested: object) -> tuple[Resolution, Catalog]:
        """The aliases that this name stands for, for this team.

        Raises:
            BadInput: it is no name.
            ModelNotAllowed: the team may not call it, or there is no such thing.
        """
        if not isinstance(requested, str) or not requested:
            raise BadInput(problem="'model' must be the name of a model alias or of an access group.", param="model")
        catalog = await self._engine.catalog.current()
        try:
            return _resolved(catalog, requested, principal), catalog
        except ModelNotAllowed:
            # What is cached may say yes; only the database says no.
            catalog = await self._engine.catalog.fresh()
            principal = await self._engine.authenticator.fresh(principal)
            return _resolved(catalog, requested, principal), catalog

    def candidates(
        self, resolution: Resolution, catalog: Catalog, principal: Principal, endpoint: Endpoint
    ) -> tuple[Candidate, ...]:
        """The aliases that can serve, in order: those of the name, then the team's own among the router's fallbacks.

        Raises:
            ModelNotDeployed, PriceUnknown: none can; why the first cannot.
        """
        if not endpoint.routed:
            return (self._pass_through(resolution.aliases[0]),)
        usable: list[Candidate] = []
        problem: Exception | None = None
        for alias in resolution.aliases:
            try:
                usable.append(self._candidate(alias, principal.plan, endpoint))
            except (ModelNotDeployed, PriceUnknown) as unusable:
                problem = problem or unusable
        if not usable:
            assert problem is not None
            raise problem
        fallbacks = [name for first in usable for name in self._deployments.fallbacks(first.deployment.name)]
        allowed = catalog.aliases_for(principal.access_groups, principal.allowed_aliases) if fallbacks else []
        for name in fallbacks:
            for alias in map(catalog.aliases.__getitem__, allowed):
                if alias.actual_model == name and all(alias.actual_model != one.deployment.name for one in usable):
                    try:
                        usable.append(self._candidate(alias, principal.plan, endpoint))
                    except (ModelNotDeployed, PriceUnknown):
                        log.warning("router fallback %s is not usable for alias %s", name, alias.name)
        return tuple(usable)

    def _pass_through(self, alias: Alias) -> Candidate:
        price = alias.price
        if price is None or not price.covers([Unit.REQUEST]):
            price = Price(units={Unit.REQUEST: self._opened[alias.name]}, tokens=False)
        return Candidate(alias, Deployment(alias.name, alias.actual_model), price, price, markup=None)

    def deployed(self, alias: Alias) -> Deployment:
        """The deployments behind an alias.

        Raises:
            ModelNotDeployed: there are none.
        """
        deployment = self._deployments.find(alias.actual_model, f"{alias.provider}/{alias.actual_model}")
        if deployment is None:
            raise ModelNotDeployed(model=alias.name, actual_model=alias.actual_model, param="model")
        return deployment

    def _candidate(self, alias: Alias, plan: Plan, endpoint: Endpoint) -> Candidate:
        deployment = self.deployed(alias)
        own = plan.alias_prices.get(alias.name)
        stated = alias.price if own is None else _price(own)
        if stated is not None:
            price, dearest, markup = stated, stated.dearest, None
        elif deployment.price is not None and deployment.dearest is not None:
            markup = 1 + plan.cost_markup_percentage / 100
            price, dearest = deployment.price.times(markup), deployment.dearest.times(markup)
        else:
            price = dearest = Price(tokens=False)
            markup = None
        priced = (endpoint.tokens and price.tokens) or price.covers(endpoint.units)
        if not priced and not plan.calls_included:
            needed = ["pricing_input and pricing_output"] if endpoint.tokens else []
            needed += [f"pricing_rates.{unit}" for unit in endpoint.units]
            raise PriceUnknown(
                model=alias.name, actual_model=alias.actual_model, needed=", or ".join(needed), param="model"
            )
        return Candidate(alias, deployment, price, dearest, markup=markup)


def _price(own: AliasPrice) -> Price | None:
    return Price.stated(own.pricing_input, own.pricing_output, own.pricing_rates.stored())


def _resolved(catalog: Catalog, requested: str, principal: Principal) -> Resolution:
    return catalog.resolve(
        requested,
        team_id=principal.team_id,
        access_groups=principal.access_groups,
        allowed=principal.allowed_aliases,
    )
