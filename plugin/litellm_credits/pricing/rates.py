"""The rates that a price may state beside those of input and output tokens, as an operator writes them."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[Decimal, Field(ge=0, lt=Decimal("1e9"), max_digits=19, decimal_places=10)]


class Tier(BaseModel):
    """What prompts of more than `above` tokens cost instead. USD per 1,000 tokens; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    above: int = Field(strict=True, gt=0, lt=2**31, description="Prompt tokens.")
    input: Rate | None = None
    output: Rate | None = None
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    reasoning: Rate | None = None
    audio_input: Rate | None = None
    audio_output: Rate | None = None


class Rates(BaseModel):
    """Tokens: USD per 1,000 of them. Units: USD for one."""

    model_config = ConfigDict(extra="forbid")

    cache_read: Rate | None = Field(None, description="Prompt tokens read from the provider's cache; else as input.")
    cache_write: Rate | None = Field(None, description="Prompt tokens written into that cache; else as input.")
    reasoning: Rate | None = Field(None, description="Output tokens spent on reasoning; else as output.")
    audio_input: Rate | None = Field(None, description="Prompt tokens that are audio; else as input.")
    audio_output: Rate | None = Field(None, description="Output tokens that are audio; else as output.")
    request: Rate | None = Field(None, description="Each request, on top of everything else.")
    image: Rate | None = Field(None, description="Each image made.")
    second: Rate | None = Field(None, description="Each second of audio transcribed.")
    character: Rate | None = Field(None, description="Each character spoken.")
    query: Rate | None = Field(None, description="Each rerank query (search unit).")
    page: Rate | None = Field(None, description="Each page read by OCR.")
    tiers: list[Tier] = Field(default_factory=list, max_length=8, description="Prices of long prompts.")

    def stored(self) -> dict[str, Any]:
        """What was stated, as `Price.stated` takes it."""
        return self.model_dump(exclude_none=True, exclude_defaults=True)
