"""What stands in a provider's answer, which may be of mappings, of LiteLLM's models, or of any other objects."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def field(holder: object, *names: str) -> Any:
    """What stands under these names, one inside the other, in mappings or objects; None when there is nothing."""
    for name in names:
        if isinstance(holder, dict):
            holder = holder.get(name)
        elif isinstance(holder, BaseModel) and name[0] != "_":
            holder = _of_model(holder, name)
        else:
            holder = getattr(holder, name, None)
    return holder


def contents(holder: object) -> Mapping[str, Any]:
    """What a mapping or an object holds, by name."""
    if isinstance(holder, dict):
        return holder
    own: dict[str, Any] = getattr(holder, "__dict__", {})
    more = holder.__pydantic_extra__ if isinstance(holder, BaseModel) else None
    return own | more if more else own


def _of_model(holder: BaseModel, name: str) -> Any:
    """As `getattr`, which takes as long over a name that a model lacks as LiteLLM over a hundredth of a streamed chunk."""
    own = holder.__dict__
    if name in own:
        return own[name]
    more = holder.__pydantic_extra__
    if more and name in more:
        return more[name]
    return getattr(holder, name, None) if hasattr(type(holder), name) else None
