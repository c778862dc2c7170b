"""Fields of answers, whatever an answer is made of."""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr

from litellm_credits.attributes import contents, field


class Answer(BaseModel):
    """A model such as LiteLLM's: with fields, more than its fields, hidden ones, and fields taken away again."""

    model_config = ConfigDict(extra="allow")
    stated: int | None = 7
    taken: int | None = None
    _hidden: dict[str, int] = PrivateAttr(default_factory=lambda: {"cost": 1})

    @property
    def computed(self) -> int:
        return 9


def answer() -> Answer:
    one = Answer(more=8)  # type: ignore[call-arg]
    del one.taken
    return one


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (("stated",), 7),
        (("more",), 8),
        (("computed",), 9),
        (("taken",), None),
        (("missing",), None),
        (("_hidden", "cost"), 1),
        (("_missing",), None),
        (("missing", "below"), None),
    ],
)
def test_a_model_says_what_getattr_would(names: tuple[str, ...], value: object) -> None:
    assert field(answer(), *names) == value


@pytest.mark.parametrize("holder", [{"a": {"b": 1}}, SimpleNamespace(a={"b": 1}), Answer(a={"b": 1})])  # type: ignore[call-arg]
def test_mappings_objects_and_models_are_read_alike(holder: Any) -> None:
    assert field(holder, "a", "b") == 1
    assert field(holder, "a", "c") is None
    assert field(holder, "x", "b") is None


@pytest.mark.parametrize("holder", [None, 1, "text", [1]])
def test_of_anything_else_nothing_is_said(holder: object) -> None:
    assert field(holder, "a") is None


@pytest.mark.parametrize(
    ("holder", "held"),
    [
        ({"a": 1}, {"a": 1}),
        (answer(), {"stated": 7, "more": 8}),
        (Answer(), {"stated": 7, "taken": None}),
        (SimpleNamespace(a=1), {"a": 1}),
        (None, {}),
        ("text", {}),
        (7, {}),
    ],
)
def test_contents_of_mappings_models_and_anything_else(holder: object, held: dict[str, Any]) -> None:
    assert contents(holder) == held
