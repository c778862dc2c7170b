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

from litellm_credits.attributes import field
from litellm_credits.endpoints.endpoint import Reader
from litellm_credits.engine import Engine
from litellm_credits.errors import CreditsError, RouteNotMetered, TeamSuspended
from litellm_credits.proxy.admission import Admissions
from litellm_credits.proxy.answers import (
    hide_operator,
    partial_answer,
    provider_refusal,
    streamed_answer,
    whole_answer,
    with_charge,
)
from litellm_credits.proxy.auth import why_stopped
from litellm_credits.proxy.call import CURRENT, Call
from litellm_credits.proxy.idempotency import note_call
from litellm_credits.proxy.refusal import refuse
from litellm_credits.proxy.settlement import Answer, Settlements
from litellm_credits.proxy.success_log import SuccessLog
from litellm_credits.tenancy.principals import Admin, Principal

log = logging.getLogger("litellm_credits.proxy")

_CLIENT_CLOSED_REQUEST = 499
"""LiteLLM's status for a call that it cancelled because the client hung up (cancel_on_disconnect)."""

_TURNS_TO_LEDGER = 2
"""Turns of the event loop in which a settle is worked out and sent. LiteLLM takes none before it hands the response on."""

_METADATA = ("litellm_metadata", "metadata")
"""Where LiteLLM keeps its own facts of a call: in the first, and then the second is the client's own; or else in the second."""


class CreditsHooks(CustomLogger):
    """Meters the calls of virtual keys. The admin's calls pass unmetered."""

    def __init__(self, engine: Engine, admissions: Admissions, settlements: Settlements) -> None:
        super().__init__()
        self._engine = engine
        self._admissions = admissions
        self._settlements = settlements

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Before dispatch: hold, or refuse. LiteLLM may run this twice for one request; the second time holds nothing."""
        call = CURRENT.get()
        if call is not None and isinstance(call.caller, Admin):
            return data
        try:
            endpoint = call.endpoint if call is not None else None
            if call is None or endpoint is None or call_type not in endpoint.call_types:
                raise RouteNotMetered(method="", path=call_type, reason="calls on it could not be metered")
            if not isinstance(call.caller, Principal):
                raise RouteNotMetered(method="", path=call_type, reason="nobody was authenticated for it")
            await self._admissions.admit(call, call.caller, endpoint, data)
            await note_call(self._engine.idempotency_keys, call)
            _hold_log_back(call, data)
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
        group = next((group for name in _METADATA if (group := field(kwargs.get(name), "model_group"))), None)
        if group is None and call.served is not None:
            return  # LiteLLM answers one endpoint through another of its own, on the deployment that was chosen before
        for candidate in call.admission.candidates:
            if candidate.deployment.name == group:
                call.served = candidate
                return
        log.error("LiteLLM chose model group %r, which was not held for; the attempt is stopped", group)
        raise HTTPException(403, "This model was not admitted for the call.")

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: Any
    ) -> None:
        """A provider's unstreamed answer, before any other plugin can fail the call; of some endpoints nothing else tells."""
        call = CURRENT.get()
        if call is None or not call.open or call.admission is None or call.admission.stream:
            return
        if getattr(call_type, "value", call_type) in call.admission.endpoint.call_types:
            call.answered = response

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: UserAPIKeyAuth, response: Any
    ) -> None:
        """An unstreamed answer, before it leaves. The ring waits for its settle, while LiteLLM makes a response of it."""
        call = CURRENT.get()
        if call is not None and call.success_log is not None:
            call.success_log.hold_back()
        if call is not None and call.open:
            self._settlements.begin(call, whole_answer(call, response))
            for _ in range(_TURNS_TO_LEDGER):
                await asyncio.sleep(0)

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
        """A stream: every chunk passes as it comes; the call is settled after the last, and before one that says it is."""
        call = CURRENT.get()
        if call is None or not call.open or call.admission is None:
            async for chunk in response:
                yield chunk
            return
        reader = call.reader = call.admission.endpoint.reader()
        held_back: Any = None
        try:
            async for chunk in response:
                if call.first_token is None:
                    call.first_token = time.monotonic()
                if held_back is not None:
                    yield held_back
                    held_back = None
                _read(reader, chunk)
                if reader.only_usage:  # nothing but usage: it waits for the settle, to carry that too
                    held_back = chunk
                    continue
                if reader.closing:
                    await self._settlements.settle(call, streamed_answer(call))
                yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            if call.open:
                gone = replace(partial_answer(call), disconnected=True, flags=("client_disconnected",))
                self._settlements.begin(call, gone)
            raise
        except Exception as error:
            if reader.text:
                aborted = replace(partial_answer(call), error=error, flags=("upstream_aborted",))
                await self._settlements.settle(call, aborted)
            else:
                await self._settlements.void(call, _told(call, error))
            raise
        await self._settlements.settle(call, streamed_answer(call))
        if held_back is not None and _wants_usage(call):
            yield with_charge(call, held_back)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: UserAPIKeyAuth,
        traceback_str: str | None = None,
    ) -> None:
        """The call failed. Without an answer nothing is charged; an answer that another plugin refused was still given."""
        call = CURRENT.get()
        if call is None or call.held is None:
            return
        if call.success_log is not None:
            call.success_log.drop()
        error = _told(call, original_exception)
        if call.open:
            await self._end_failed(call, error)
        hide_operator(original_exception)

    async def _end_failed(self, call: Call, error: Exception) -> None:
        if getattr(error, "status_code", None) == _CLIENT_CLOSED_REQUEST:
            flags = ("client_disconnected",)
            await self._settlements.settle(call, Answer(disconnected=True, flags=flags, error=error))
        elif call.answered is not None:
            answer = whole_answer(call, call.answered)
            await self._settlements.settle(call, replace(answer, flags=("failed_after_answer",), error=error))
        else:
            await self._settlements.void(call, error)


def _hold_log_back(call: Call, request: dict[str, Any]) -> None:
    logging = request.get("litellm_logging_obj")
    if logging is not None and call.admission is not None and not call.admission.stream and call.success_log is None:
        call.success_log = SuccessLog(logging)


def _told(call: Call, error: Exception) -> Exception:
    """What the client is told, and reads on its call: the error, or our own in its place. What it replaces is logged."""
    refusal = provider_refusal(call, error)
    if refusal is None:
        return error
    log.error("a provider refused the key that it is called with: %s", error)
    if call.refusal is None:
        call.refusal = refusal
    return refusal


def _read(reader: Reader, chunk: Any) -> None:
    try:
        reader.feed(chunk)
    except Exception:  # a provider may send anything: the client gets it, and the call ends as one without usage
        log.exception("a chunk could not be read; it is passed on, and not counted")


def _wants_usage(call: Call) -> bool:
    options = call.admission.request.get("stream_options") if call.admission else None
    return isinstance(options, dict) and options.get("include_usage") is True
