"""LiteLLM's callback hooks: admit before dispatch, settle after it.

LiteLLM finds hooks in the class of the registered instance only, not in its bases, and calls them by keyword.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth
from litellm.types.utils import ModelResponse

from litellm_credits.engine import Engine
from litellm_credits.errors import CreditsError, RouteNotMetered, TeamSuspended
from litellm_credits.money import dumps
from litellm_credits.proxy.admission import Admissions
from litellm_credits.proxy.auth import why_stopped
from litellm_credits.proxy.call import CURRENT, Call
from litellm_credits.proxy.idempotency import note_call
from litellm_credits.proxy.refusal import refuse
from litellm_credits.proxy.settlement import Answer, Settlements, collect
from litellm_credits.tenancy.principals import Admin, Principal

log = logging.getLogger("litellm_credits.proxy")

_CLIENT_CLOSED_REQUEST = 499
"""LiteLLM's status for a call that it cancelled because the client hung up (cancel_on_disconnect)."""

_FROM_CACHE = "cached_response"
"""What LiteLLM calls the provider of a stream that it plays back from its cache."""

_METERED = frozenset({"acompletion", "completion"})


class CreditsHooks(CustomLogger):
    """Meters the calls of virtual keys. The admin's calls pass unmetered."""

    def __init__(self, engine: Engine, settlements: Settlements) -> None:
        super().__init__()
        self._engine = engine
        self._admissions = Admissions(engine)
        self._settlements = settlements

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Before dispatch: hold, or refuse. LiteLLM may run this twice for one request; the second time holds nothing."""
        call = CURRENT.get()
        if call is not None and isinstance(call.caller, Admin):
            return data
        try:
            if call is None or not isinstance(call.caller, Principal) or call_type not in _METERED:
                raise RouteNotMetered(method="", path=call_type)
            await self._admissions.admit(call, call.caller, data)
            await note_call(self._engine.idempotency_keys, call)
        except TeamSuspended as error:  # by the hold, which a pause stops as well
            raise refuse(await why_stopped(self._engine.authenticator, call, error)) from None
        except CreditsError as error:
            raise refuse(error) from None
        return data

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """Before each attempt, retries and fallbacks too: note who serves, and stop what was not held for."""
        call = CURRENT.get()
        if call is None or call.admission is None:
            return
        group = (kwargs.get("metadata") or kwargs.get("litellm_metadata") or {}).get("model_group")
        for candidate in call.admission.candidates:
            if candidate.deployment.name == group:
                call.served = candidate
                return
        log.error("LiteLLM chose model group %r, which was not held for; the attempt is stopped", group)
        raise HTTPException(403, "This model was not admitted for the call.")

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: Any
    ) -> None:
        """A provider's unstreamed answer, before any other plugin can fail the call that it answers."""
        call = CURRENT.get()
        if call is not None and call.open and isinstance(response, ModelResponse):
            call.answered = response

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: UserAPIKeyAuth, response: Any
    ) -> None:
        """An unstreamed answer, before it leaves."""
        call = CURRENT.get()
        if call is not None and call.open:
            await self._settlements.settle(call, _whole_answer(call, response))

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: UserAPIKeyAuth,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> None:
        """Before a stream begins: note LiteLLM's own, since the iterator hook may be given another plugin's around it."""
        call = CURRENT.get()
        if call is not None and call.open:
            call.stream = response

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: UserAPIKeyAuth, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """A stream: every chunk passes as it comes; the call is settled after the last and before [DONE]."""
        call = CURRENT.get()
        if call is None or not call.open:
            async for chunk in response:
                yield chunk
            return
        answer = Answer()
        last: Any = None
        try:
            async for chunk in response:
                if call.first_token is None:
                    call.first_token = time.monotonic()
                if last is not None:
                    yield last
                    last = None
                collect(call, chunk.choices)
                usage = getattr(chunk, "usage", None)
                if usage is None:
                    yield chunk
                    continue
                answer = _streamed_answer(call, chunk)
                if any(choice.finish_reason or choice.delta.content for choice in chunk.choices):
                    yield chunk
                else:  # LiteLLM's closing chunk carries nothing but usage: it waits for the settle, to carry that too
                    last = chunk
        except (asyncio.CancelledError, GeneratorExit):
            partial = _partial_answer(call, answer)
            self._settlements.abandon(call, replace(partial, disconnected=True, flags=("client_disconnected",)))
            raise
        except Exception as error:
            if call.output:
                partial = _partial_answer(call, answer)
                await self._settlements.settle(call, replace(partial, error=error, flags=("upstream_aborted",)))
            else:
                await self._settlements.void(call, error)
            raise
        cached = getattr(call.stream, "custom_llm_provider", None) == _FROM_CACHE
        await self._settlements.settle(call, replace(answer, cached=cached))
        if last is not None and _wants_usage(call):
            yield _with_charge(call, last)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: UserAPIKeyAuth,
        traceback_str: str | None = None,
    ) -> None:
        """The call failed. Without an answer nothing is charged; an answer that another plugin refused was still given."""
        call = CURRENT.get()
        if call is None or not call.open:
            return
        if getattr(original_exception, "status_code", None) == _CLIENT_CLOSED_REQUEST:
            flags = ("client_disconnected",)
            await self._settlements.settle(call, Answer(disconnected=True, flags=flags, error=original_exception))
        elif call.answered is not None:
            answer = _whole_answer(call, call.answered)
            await self._settlements.settle(
                call, replace(answer, flags=("failed_after_answer",), error=original_exception)
            )
        else:
            await self._settlements.void(call, original_exception)


def _hidden(response: Any) -> dict[str, Any]:
    hidden = getattr(response, "_hidden_params", None)
    return hidden if isinstance(hidden, dict) else {}


def _whole_answer(call: Call, response: Any) -> Answer:
    """What an unstreamed answer says."""
    collect(call, getattr(response, "choices", None))
    hidden = _hidden(response)
    return Answer(
        stated=getattr(response, "usage", None),
        cost_usd=hidden.get("response_cost"),
        model=hidden.get("provider_response_model"),
        body=response.model_dump(exclude_none=True) if hasattr(response, "model_dump") else None,
        cached=hidden.get("cache_hit") is True,
    )


def _streamed_answer(call: Call, chunk: Any) -> Answer:
    """What LiteLLM's closing chunk says of a stream's usage.

    LiteLLM fills in an estimate of its own when no chunk of the provider's had any. That shows in the chunks that it has
    kept, unless the stream fell back to another deployment on its way, whose chunks it does not show.
    """
    usage = chunk.usage
    cost = getattr(usage, "cost", None)
    if hasattr(usage, "cost"):
        del usage.cost  # the provider's price of the call is the operator's business
    raw = _kept_chunks(call)
    estimated = bool(raw) and raw[-1].id == chunk.id and all(getattr(one, "usage", None) is None for one in raw)
    return Answer(stated=usage, estimated=estimated, cost_usd=cost, model=chunk.model)


def _partial_answer(call: Call, answer: Answer) -> Answer:
    """What is known of a stream that did not end by itself: the provider's usage, if it had arrived."""
    if answer.stated is not None:
        return answer
    for chunk in reversed(_kept_chunks(call)):
        if getattr(chunk, "usage", None) is not None:
            return Answer(stated=chunk.usage, model=getattr(chunk, "model", None))
    return answer


def _kept_chunks(call: Call) -> list[Any]:
    chunks = getattr(call.stream, "chunks", None)
    return chunks if isinstance(chunks, list) else []


def _wants_usage(call: Call) -> bool:
    options = call.admission.request.get("stream_options") if call.admission else None
    return isinstance(options, dict) and options.get("include_usage") is True


def _with_charge(call: Call, chunk: Any) -> bytes:
    """The closing usage chunk as an event, with what the call was charged and what remains, as exact numbers."""
    assert call.held is not None
    assert call.admission is not None
    body = chunk.model_dump(exclude_none=True, mode="json")
    body["model"] = call.admission.request["model"]
    body["credits"] = {"call_id": str(call.held.call_id), "held": call.held.credits}
    if call.job_id is not None:
        body["credits"]["job_id"] = str(call.job_id)
    if call.receipt is not None:
        body["credits"] |= {"charged": call.receipt.charged, "remaining": call.receipt.remaining}
    return b"data: " + dumps(body) + b"\n\n"
