"""Rerank, priced by query or by tokens, and OCR, priced by page."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from litellm_credits.attributes import field
from litellm_credits.endpoints.endpoint import Demand, Endpoint
from litellm_credits.endpoints.reading import TOKENS_PER_PART, as_json, json_bytes, refuse_stored
from litellm_credits.errors import BadInput
from litellm_credits.pricing.usage import Unit

_DOCUMENTS_A_QUERY = 100
_TOKENS_A_CHUNK = 500
_FEWEST_DOCUMENT_TOKENS_A_CHUNK = 250
"""Cohere bills one query for up to 100 documents, and splits those that are longer than 500 tokens with the query into
chunks that count as documents (Cohere's pricing page). The query takes at most half of a chunk."""

_MOST_PAGES = 1000
"""Mistral takes documents of at most 1,000 pages (Mistral's OCR guide)."""


class Rerank(Endpoint):
    """`/v1/rerank`, `/v2/rerank`."""

    name = "rerank"
    call_types = frozenset({"rerank", "arerank"})
    fields = frozenset(
        {
            "documents",
            "max_chunks_per_doc",
            "max_tokens_per_doc",
            "model",
            "query",
            "rank_fields",
            "return_documents",
            "top_n",
        }
    )
    units = (Unit.QUERY, Unit.REQUEST)
    limits_output = False

    def demand(self, body: Mapping[str, Any]) -> Demand:
        documents = body.get("documents")
        if not isinstance(documents, list) or not documents:
            raise BadInput(problem="'documents' must be a non-empty list.", param="documents")
        query = json_bytes(body.get("query"))
        room = max(_TOKENS_A_CHUNK - query, _FEWEST_DOCUMENT_TOKENS_A_CHUNK)
        sizes = [json_bytes(document) for document in documents]
        chunks = sum(-(-size // room) for size in sizes)
        queries = -(-chunks // _DOCUMENTS_A_QUERY)
        tokens = sum(size + query + TOKENS_PER_PART for size in sizes)
        return Demand(tokens, units={Unit.QUERY: Decimal(queries)})

    def stated(self, answer: object) -> object:
        tokens = field(answer, "meta", "tokens")
        prompt, output = field(tokens, "input_tokens"), field(tokens, "output_tokens")
        return None if prompt is None else {"prompt_tokens": prompt, "completion_tokens": output or 0}

    def counted(self, body: Mapping[str, Any], answer: object) -> Mapping[Unit, Decimal]:
        queries = field(answer, "meta", "billed_units", "search_units")
        # Some providers' tokens come from LiteLLM under this name too: more than there can be queries.
        most = self.demand(body).units[Unit.QUERY]
        stated = isinstance(queries, int) and not isinstance(queries, bool) and 0 <= queries <= most
        return {Unit.QUERY: Decimal(queries)} if stated else {}

    def countable(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "text": "\n".join(f"{as_json(body.get('query'))} {as_json(document)}" for document in body["documents"])
        }

    def has_output(self, answer: object) -> bool:
        return bool(field(answer, "results"))


class Ocr(Endpoint):
    """`/v1/ocr`."""

    name = "ocr"
    call_types = frozenset({"ocr", "aocr"})
    tokens = False
    fields = frozenset({"document", "id", "image_limit", "image_min_size", "include_image_base64", "model", "pages"})
    units = (Unit.PAGE, Unit.REQUEST)
    limits_output = False

    def refuse(self, body: Mapping[str, Any]) -> None:
        refuse_stored(body.get("document"), "document")

    def demand(self, body: Mapping[str, Any]) -> Demand:
        pages = body.get("pages")
        if pages is not None and (
            not isinstance(pages, list) or not all(isinstance(page, int) and page >= 0 for page in pages)
        ):
            raise BadInput(problem="'pages' must be a list of page numbers from 0.", param="pages")
        return Demand(units={Unit.PAGE: Decimal(len(set(pages)) if pages else _MOST_PAGES)})

    def counted(self, body: Mapping[str, Any], answer: object) -> Mapping[Unit, Decimal]:
        pages = field(answer, "usage_info", "pages_processed")
        if isinstance(pages, int) and not isinstance(pages, bool) and 0 <= pages <= _MOST_PAGES:
            return {Unit.PAGE: Decimal(pages)}
        read = field(answer, "pages")
        return {Unit.PAGE: Decimal(len(read))} if isinstance(read, list) else {}

    def has_output(self, answer: object) -> bool:
        return bool(field(answer, "pages"))


class PassThrough(Endpoint):
    """A pass-through route that the operator has opened at a price per request. What is inside is not looked at."""

    name = "pass_through"
    call_types = frozenset({"pass_through_endpoint"})
    fields = frozenset()
    tokens = False
    limits_output = False
    counts_itself = True
    routed = False

    def demand(self, body: Mapping[str, Any]) -> Demand:
        return Demand()

    def has_output(self, answer: object) -> bool:
        return True
