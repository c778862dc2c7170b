"""/models/aliases and /model-access-groups: for the admin."""

from fastapi import APIRouter, Depends
from pydantic import Field

from litellm_credits.api.access import needs_admin
from litellm_credits.api.answers import documented
from litellm_credits.api.fields import (
    UNSET,
    AfterName,
    Description,
    Limit,
    Name,
    Names,
    PathName,
    Price,
    Provider,
    RequestModel,
    Text255,
    TokenLimit,
)
from litellm_credits.api.route import Route
from litellm_credits.api.services import InServices
from litellm_credits.catalog.aliases import AliasView
from litellm_credits.catalog.groups import GroupView
from litellm_credits.models import CatalogStatus
from litellm_credits.pricing.rates import Rates

aliases = APIRouter(prefix="/models/aliases", tags=["models"], route_class=Route, dependencies=[Depends(needs_admin)])
groups = APIRouter(
    prefix="/model-access-groups", tags=["models"], route_class=Route, dependencies=[Depends(needs_admin)]
)


class NewAlias(RequestModel):
    """What an alias is made of. Prices of tokens: both or neither. Without any price LiteLLM's own price of the model counts."""

    model_alias: Name
    display_name: Text255 | None = None
    provider: Provider
    actual_model: Name = Field(description="A model_name of the proxy's model_list.")
    description: Description | None = None
    pricing_input: Price | None = None
    pricing_output: Price | None = None
    pricing_rates: Rates | None = Field(None, description="The other rates: parts of tokens, units, long prompts.")
    max_output_tokens: TokenLimit | None = None
    access_groups: Names = Field(default_factory=list)


class AliasChanges(RequestModel):
    """What may be changed of an alias."""

    display_name: Text255 | None = None
    provider: Provider = UNSET
    actual_model: Name = UNSET
    description: Description | None = None
    pricing_input: Price | None = None
    pricing_output: Price | None = None
    pricing_rates: Rates | None = Field(None, description="The other rates: parts of tokens, units, long prompts.")
    max_output_tokens: TokenLimit | None = None
    status: CatalogStatus = UNSET
    access_groups: Names = UNSET


class NewGroup(RequestModel):
    """What a group is made of. The order of the aliases is the order of preference."""

    group_name: PathName
    display_name: Text255 | None = None
    description: Description | None = None
    model_aliases: Names = Field(default_factory=list)


class GroupChanges(RequestModel):
    """What may be changed of a group."""

    display_name: Text255 | None = None
    description: Description | None = None
    status: CatalogStatus = UNSET
    model_aliases: Names = UNSET


class GroupAliases(RequestModel):
    """The group's aliases, in order."""

    model_aliases: Names


@aliases.post("/create", responses=documented(404, 409))
async def create_alias(request: NewAlias, services: InServices) -> AliasView:
    """Add an alias."""
    return await services.aliases.create(**dict(request))


@aliases.get("")
async def list_aliases(services: InServices, after: AfterName = "", limit: Limit = 100) -> list[AliasView]:
    """All aliases, by name."""
    return await services.aliases.page(after=after, limit=limit)


@aliases.get("/{model_alias:path}", responses=documented(404))
async def get_alias(model_alias: str, services: InServices) -> AliasView:
    """One alias."""
    return await services.aliases.get(model_alias)


@aliases.put("/{model_alias:path}", responses=documented(404))
async def update_alias(model_alias: str, request: AliasChanges, services: InServices) -> AliasView:
    """Change the fields that are sent. Calls in flight keep the price they were held at."""
    return await services.aliases.update(
        model_alias, request.sent("access_groups"), access_groups=request.access_groups
    )


@aliases.delete("/{model_alias:path}", responses=documented(404))
async def delete_alias(model_alias: str, services: InServices) -> dict[str, str]:
    """Delete an alias, also out of its groups."""
    await services.aliases.delete(model_alias)
    return {"model_alias": model_alias, "message": f"Model alias '{model_alias}' deleted"}


@groups.post("/create", responses=documented(404, 409))
async def create_group(request: NewGroup, services: InServices) -> GroupView:
    """Add a group."""
    return await services.groups.create(**dict(request))


@groups.get("")
async def list_groups(services: InServices, after: AfterName = "", limit: Limit = 100) -> list[GroupView]:
    """All groups, by name."""
    return await services.groups.page(after=after, limit=limit)


@groups.get("/{group_name}", responses=documented(404))
async def get_group(group_name: str, services: InServices) -> GroupView:
    """One group."""
    return await services.groups.get(group_name)


@groups.put("/{group_name}", responses=documented(404))
async def update_group(group_name: str, request: GroupChanges, services: InServices) -> GroupView:
    """Change the fields that are sent."""
    return await services.groups.update(group_name, request.sent("model_aliases"), model_aliases=request.model_aliases)


@groups.put("/{group_name}/models", responses=documented(404))
async def set_group_aliases(group_name: str, request: GroupAliases, services: InServices) -> GroupView:
    """Replace the group's aliases."""
    return await services.groups.update(group_name, {}, model_aliases=request.model_aliases)


@groups.delete("/{group_name}", responses=documented(404, 409))
async def delete_group(group_name: str, services: InServices) -> dict[str, str]:
    """Delete a group that no team has."""
    await services.groups.delete(group_name)
    return {"group_name": group_name, "message": f"Model access group '{group_name}' deleted"}
