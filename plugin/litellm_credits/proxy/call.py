"""The state of one HTTP request, from its first byte to its last.

The ring makes it and puts it into a ContextVar, which every task that LiteLLM starts for the request inherits; LiteLLM's own
request data is copied, renamed and dropped on the way, so nothing of ours is kept there.
"""

import asyncio
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from litellm_credits.catalog.catalog import Alias
from litellm_credits.endpoints.endpoint import Endpoint, Reader
from litellm_credits.endpoints.table import PRICED
from litellm_credits.errors import CreditsError
from litellm_credits.ledger.calls import Held, Receipt
from litellm_credits.pricing.charge import Price
from litellm_credits.pricing.plan import Plan
from litellm_credits.pricing.usage import Unit, Usage
from litellm_credits.proxy.deployments import Deployment
from litellm_credits.proxy.routes import Access, Match
from litellm_credits.proxy.success_log import SuccessLog
from litellm_credits.tenancy.keys import sent_key
from litellm_credits.tenancy.principals import Admin, Principal


@dataclass(frozen=True, slots=True)
class Candidate:
    """An alias that may serve a call, the deployments behind it, and what its tokens and units cost."""

    alias: Alias
    deployment: Deployment
    price: Price
    dearest: Price
    """At the highest rates that a token can have."""
    markup: Decimal | None
    """Factor on LiteLLM's own cost, for an alias that states no price; None: the alias's price is the cost."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What was decided before dispatch: who may serve, in order, on which plan, and the bounds that were held for."""

    team_id: str
    plan: Plan
    endpoint: Endpoint
    requested: str
    """The name that the client asked for, in its body or in the URL."""
    group: str
    candidates: tuple[Candidate, ...]
    prompt_tokens: int
    countable: bool
    """Whether the prompt is text, so that the exact tokenizer may lower its bound."""
    output_tokens: int
    """Per choice."""
    choices: int
    units: Mapping[Unit, Decimal]
    max_tokens: int | None
    """The output limit written into the request, where it had to be."""
    stream: bool
    request: dict[str, Any]
    """The body as the client sent it."""

    @property
    def most(self) -> Usage:
        """All that was held for."""
        return Usage(self.prompt_tokens, self.output_tokens * self.choices, units=self.units)


@dataclass(slots=True)
class Call:
    """One HTTP request. `ended` is set by whoever ends the hold first; the database has the last word."""

    method: str
    path: str
    headers: dict[str, str]
    match: Match | None = None
    """What the route table says of method and path; None: nothing, so the route is refused."""
    body: dict[str, Any] = field(default_factory=dict)
    """The JSON body as the client sent it, once it was read. Empty for forms and pass-through routes."""
    started: float = field(default_factory=time.monotonic)
    caller: Admin | Principal | None = None
    job_id: UUID | None = None
    purpose: str | None = None
    litellm_call_id: str | None = None
    admission: Admission | None = None
    held: Held | None = None
    served: Candidate | None = None
    first_token: float | None = None
    reader: Reader | None = None
    """What has been read of a streamed answer."""
    answered: Any = None
    """The provider's whole answer, noted before other plugins see it, should one of them fail the call after it."""
    ended: bool = False
    settling: asyncio.Task[None] | None = None
    """The settle, from when it is begun."""
    receipt: Receipt | None = None
    stream: Any = None
    """LiteLLM's own stream of the answer, which keeps the provider's chunks and knows where they come from."""
    refusal: CreditsError | None = None
    success_log: SuccessLog | None = None

    @property
    def key(self) -> str | None:
        """The clear key that the request presents."""
        return sent_key(lambda name: self.headers.get(name, ""))

    @property
    def endpoint(self) -> Endpoint | None:
        """The priced endpoint that this request is for, if it is for one."""
        if self.match is None or self.match.route.access is not Access.PRICED:
            return None
        return PRICED[self.match.route.endpoint]

    @property
    def open(self) -> bool:
        """Whether credits are held that nothing has ended yet."""
        return self.held is not None and not self.ended

    def milliseconds(self, moment: float | None = None) -> int:
        """Whole milliseconds from the request's arrival to `moment`, or to now."""
        return round(((time.monotonic() if moment is None else moment) - self.started) * 1000)


CURRENT: ContextVar[Call | None] = ContextVar("litellm_credits_call", default=None)
"""The call that the running task belongs to."""
