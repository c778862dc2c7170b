"""Images: generations, edits and variations. Priced each, or by tokens where the model counts them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from openai.types.image_edit_params import ImageEditParamsBase
from openai.types.image_generate_params import ImageGenerateParamsBase

from litellm_credits.attributes import field
from litellm_credits.endpoints.endpoint import Demand, Endpoint
from litellm_credits.endpoints.reading import TOKENS_PER_REPLY, in_form, refuse_fields, refuse_stored, text_bytes, whole
from litellm_credits.pricing.usage import Unit

_MOST_IMAGES = 32
_MOST_TOKENS_AN_IMAGE = 16_384
"""Above what any image model writes for one: OpenAI's guide to image generation states at most 6,240 for gpt-image-1."""


class ImageGeneration(Endpoint):
    """`/v1/images/generations`."""

    name = "image_generation"
    call_types = frozenset({"image_generation", "aimage_generation"})
    fields = frozenset(ImageGenerateParamsBase.__annotations__) | {"stream"}
    units = (Unit.IMAGE, Unit.REQUEST)
    limits_output = False

    def refuse(self, body: Mapping[str, Any]) -> None:
        refuse_fields(
            body, ("stream",) if str(body.get("stream", "")).lower() not in ("", "none", "false", "0") else ()
        )
        refuse_fields(body, ("partial_images",))
        refuse_stored(body, "image")

    def demand(self, body: Mapping[str, Any]) -> Demand:
        images = self._number(body)
        return Demand(self._prompt(body), _MOST_TOKENS_AN_IMAGE, images, {Unit.IMAGE: Decimal(images)})

    def _number(self, body: Mapping[str, Any]) -> int:
        return whole(body, "n", least=1, most=_MOST_IMAGES) or 1

    def _prompt(self, body: Mapping[str, Any]) -> int | None:
        return TOKENS_PER_REPLY + text_bytes(str(body.get("prompt") or ""))

    def stated(self, answer: object) -> object:
        usage = field(answer, "usage")
        # Models that are not priced by tokens state none; LiteLLM makes zeros of that.
        return usage if field(usage, "total_tokens") else None

    def counted(self, body: Mapping[str, Any], answer: object) -> Mapping[Unit, Decimal]:
        images = field(answer, "data")
        return {Unit.IMAGE: Decimal(len(images))} if isinstance(images, list) else {}

    def has_output(self, answer: object) -> bool:
        return bool(field(answer, "data"))


class ImageEdit(ImageGeneration):
    """`/v1/images/edits`: the images sent are part of the prompt."""

    name = "image_edit"
    call_types = frozenset({"aimage_edit", "image_edit"})
    fields = frozenset(ImageEditParamsBase.__annotations__) | {"stream"}
    form = True

    def _number(self, body: Mapping[str, Any]) -> int:
        return in_form(body, "n", least=1, most=_MOST_IMAGES) or 1

    def _prompt(self, body: Mapping[str, Any]) -> int | None:
        return None
