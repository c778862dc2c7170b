"""What is common to all priced endpoints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from litellm_credits.pricing.usage import Unit, Usage

ONE = Decimal(1)


class Dialect(StrEnum):
    """Whose shape the endpoint's errors have."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GOOGLE = "google"


@dataclass(frozen=True, slots=True)
class Demand:
    """The most that a request can use. `prompt` None: as many tokens as the model's context window has.

    `per_choice` None: the request leaves it open how much each of its `choices` answers may be; 0 choices: no tokens come out.
    """

    prompt: int | None = 0
    per_choice: int | None = None
    choices: int = 0
    units: Mapping[Unit, Decimal] = field(default_factory=dict)


class Reader:
    """Reads one stream: what a model writes, and what its provider says of usage. Fed with each chunk before it leaves."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.stated: object = None
        self.model: str | None = None
        self.id: object = None
        self.only_usage = False
        """Whether the chunk just fed carries nothing but usage."""
        self.closing = False
        """Whether the chunk just fed is the stream's last word, which must not leave before the charge is durable."""

    def feed(self, chunk: Any) -> None:
        """Take in one chunk."""


class Endpoint:
    """A priced endpoint. Methods take the request as the client sent it, and answers as LiteLLM gives them.

    `tokens`: it can be priced by tokens. `units`: or by any of these.
    """

    name: ClassVar[str]
    call_types: ClassVar[frozenset[str]]
    """What LiteLLM's hooks call it."""
    dialect: ClassVar[Dialect] = Dialect.OPENAI
    fields: ClassVar[frozenset[str]]
    """What a request may hold at its top. LiteLLM hands all else to the provider, or to an endpoint of its own, unbounded."""
    form: ClassVar[bool] = False
    """Whether requests are multipart forms; else they are JSON objects."""
    tokens: ClassVar[bool] = True
    units: ClassVar[tuple[Unit, ...]] = (Unit.REQUEST,)
    asks_for_usage: ClassVar[bool] = False
    """Whether a stream tells its usage only when `stream_options` asks for it."""
    limits_output: ClassVar[bool] = True
    """Whether a request can state how much may be written."""
    counts_itself: ClassVar[bool] = False
    """Whether the request alone says what is charged, whatever the answer."""
    routed: ClassVar[bool] = True
    """Whether LiteLLM's router chooses a deployment."""
    default_model: ClassVar[str | None] = None

    def refuse(self, body: Mapping[str, Any]) -> None:
        """Refuse what could not be metered.

        Raises:
            ParameterNotAllowed, BadInput: naming the field.
        """

    def demand(self, body: Mapping[str, Any]) -> Demand:
        """The most that this request can use.

        Raises:
            BadInput: naming the field that does not say.
        """
        raise NotImplementedError

    def limit_output(self, request: dict[str, Any], tokens: int) -> None:
        """Write the limit of output tokens per choice into a request."""

    def countable(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The prompt as LiteLLM's token counter takes it: as `text`, or as `messages`, `tools` and `tool_choice`."""
        return {"text": ""}

    def stated(self, answer: object) -> object:
        """The part of a whole answer in which the provider states tokens."""
        return None

    def counted(self, body: Mapping[str, Any], answer: object) -> Mapping[Unit, Decimal]:
        """The units, beside one request, that an answer stands for; empty where it does not say."""
        return {}

    def estimated(self, body: Mapping[str, Any]) -> Mapping[Unit, Decimal]:
        """The units that a request stands for where nobody says."""
        return self.demand(body).units

    def text(self, answer: object) -> list[str]:
        """What a model wrote in a whole answer."""
        return []

    def has_output(self, answer: object) -> bool:
        """Whether a whole answer gives the client anything, tokens apart."""
        return bool(self.text(answer))

    def reader(self) -> Reader:
        """A reader for one stream."""
        return Reader()

    def usage_of(self, body: Mapping[str, Any], answer: object) -> Usage | None:
        """What a whole answer says that it used; None when it says nothing that can be true."""
        tokens, units = Usage.parse(self.stated(answer)), self.counted(body, answer)
        if tokens is None and not units:
            return None
        return (tokens or Usage()).with_units({**units, Unit.REQUEST: ONE})
