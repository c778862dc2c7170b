"""What LiteLLM's answers, streams and errors say of a call."""

import logging
import re
from dataclasses import replace
from typing import Any

from fastapi import HTTPException

from litellm_credits.attributes import field
from litellm_credits.errors import ProviderRefused
from litellm_credits.money import dumps
from litellm_credits.pricing.usage import Usage
from litellm_credits.proxy.call import Call
from litellm_credits.proxy.settlement import Answer

log = logging.getLogger("litellm_credits.proxy")

_ACCESS = (401, 403)
"""HTTP statuses of a key that is not known, or may not do what was asked."""

_FROM_CACHE = "cached_response"
"""What LiteLLM calls the provider of a stream that it plays back from its cache."""

_TO_THE_OPERATOR = re.compile(
    r"\s*(?:LiteLLM: model group '|Received Model Group=|Passed model=|To disable this security|To let keys address).*",
    re.DOTALL,
)
"""What LiteLLM adds to an error: its model groups, fallbacks and cooldowns, and how to configure them and its checks."""


def whole_answer(call: Call, response: Any) -> Answer:
    """What an unstreamed answer says."""
    assert call.admission is not None
    endpoint, body = call.admission.endpoint, call.admission.request
    hidden = field(response, "_hidden_params")
    hidden = hidden if isinstance(hidden, dict) else {}
    answer = Answer(
        cost_usd=hidden.get("response_cost"),
        model=hidden.get("provider_response_model") or field(response, "model"),
        body=_recordable(response),
        cached=hidden.get("cache_hit") is True,
    )
    try:
        usage = endpoint.usage_of(body, response)
        return replace(
            answer,
            usage=usage,
            malformed=usage is None and bool(endpoint.stated(response)),
            text=endpoint.text(response),
            has_output=endpoint.has_output(response),
        )
    except Exception:  # a provider may send anything
        log.exception("an answer could not be read; it is charged as one without usage")
        return replace(answer, malformed=True, has_output=True)


def streamed_answer(call: Call) -> Answer:
    """What a stream has said until now.

    LiteLLM fills in an estimate of its own when no chunk of the provider's had any usage. That shows in the chunks that it has
    kept, unless the stream fell back to another deployment on its way, whose chunks it does not show. Of completions and
    responses it keeps none, so there its estimate cannot be told from a provider's word.
    """
    reader = call.reader
    assert reader is not None
    stated = reader.stated
    cost = getattr(stated, "cost", None)
    if hasattr(stated, "cost"):
        del stated.cost  # the provider's price of the call is the operator's business
    kept = _kept_chunks(call)
    estimated = bool(kept) and kept[-1].id == reader.id and all(field(one, "usage") is None for one in kept)
    usage = Usage.parse(stated)
    return Answer(
        usage=usage,
        malformed=usage is None and bool(stated),
        estimated=estimated,
        text=reader.text,
        has_output=bool(reader.text),
        cost_usd=cost,
        model=reader.model,
        cached=_is_from_cache(call.stream),
    )


def partial_answer(call: Call) -> Answer:
    """What is known of a stream that did not end by itself: the provider's usage, if it had arrived."""
    answer = streamed_answer(call)
    if answer.usage is not None or answer.malformed:
        return answer
    for chunk in reversed(_kept_chunks(call)):
        usage = Usage.parse(getattr(chunk, "usage", None))
        if usage is not None:
            return replace(answer, usage=usage, model=getattr(chunk, "model", None))
    return answer


def provider_refusal(call: Call, error: Exception) -> ProviderRefused | None:
    """What to say in the place of a provider's 401 or 403, which a client would take for one of its own key; None: it is none.

    Of pass-through routes LiteLLM tells what the target said in an exception that elsewhere is its own or another plugin's.
    """
    status, admission = getattr(error, "status_code", None), call.admission
    if status not in _ACCESS or admission is None or (isinstance(error, HTTPException) and admission.endpoint.routed):
        return None
    return ProviderRefused(model=admission.requested, status=status)


def hide_operator(error: BaseException) -> None:
    """Leave of an error what concerns its client: LiteLLM renders it once all hooks have seen it."""
    for name in ("detail", "message"):
        text = getattr(error, name, str(error) if name == "message" else None)
        if isinstance(text, str) and _TO_THE_OPERATOR.search(text):
            setattr(error, name, _TO_THE_OPERATOR.sub("", text))


def with_charge(call: Call, chunk: Any) -> bytes:
    """The closing usage chunk as an event, with what the call was charged and what remains, as exact numbers."""
    assert call.held is not None
    assert call.admission is not None
    body = chunk.model_dump(exclude_none=True, mode="json")
    body["model"] = call.admission.requested
    body["credits"] = {"call_id": str(call.held.call_id), "held": call.held.credits}
    if call.job_id is not None:
        body["credits"]["job_id"] = str(call.job_id)
    if call.receipt is not None:
        body["credits"] |= {"charged": call.receipt.charged, "remaining": call.receipt.remaining}
    return b"data: " + dumps(body) + b"\n\n"


def _kept_chunks(call: Call) -> list[Any]:
    chunks = getattr(call.stream, "chunks", None)
    return chunks if isinstance(chunks, list) else []


def _is_from_cache(stream: object) -> bool:
    return (
        getattr(stream, "custom_llm_provider", None) == _FROM_CACHE
        or getattr(stream, "_completed_response_cache_hit", None) is True
    )


def _recordable(response: Any) -> object:
    if isinstance(response, dict):
        return {name: value for name, value in response.items() if name != "_hidden_params"}
    return response.model_dump(exclude_none=True) if hasattr(response, "model_dump") else None
