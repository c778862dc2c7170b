"""Another plugin in the same proxy, one that fails or kills its process where the first message of a call says so.

The proxy loads it twice, before our hooks (`before`) and after them (`after`): LiteLLM calls hooks in their order, and wraps
a stream in each plugin in turn, so `before` sees a stream first and `after` last.
"""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from typing import Any

import psycopg
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger


def act(point: str, data: dict[str, Any]) -> None:
    """Do what the call's first message asks for at this point: "kill:<point> ..." or "fail:<point> ..."."""
    text = str((data.get("messages") or [{}])[0].get("content"))
    if text.startswith(f"kill:{point} "):
        os.kill(os.getpid(), signal.SIGKILL)
    if text.startswith(f"fail:{point} "):
        raise HTTPException(400, "the other plugin says no")


async def settled(user_api_key_dict: Any) -> None:
    """Return once the ledger has the team's call: a settle is under way while the hooks behind ours run."""
    async with await psycopg.AsyncConnection.connect(os.environ["CREDITS_DATABASE_URL"], autocommit=True) as connection:
        while True:
            cursor = await connection.execute(
                "SELECT FROM credits.llm_calls WHERE team_id = %s AND status = 'held'", (user_api_key_dict.team_id,)
            )
            if await cursor.fetchone() is None:
                return
            await asyncio.sleep(0.01)


class Before(CustomLogger):
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        act("before-hold", data)

    async def async_post_call_success_hook(self, data: dict[str, Any], user_api_key_dict: Any, response: Any) -> None:
        act("before-settle", data)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        async for chunk in response:
            yield chunk
            act("mid-stream", request_data)
        act("before-settle", request_data)


class After(CustomLogger):
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        act("after-hold", data)

    async def async_post_call_success_hook(self, data: dict[str, Any], user_api_key_dict: Any, response: Any) -> None:
        if "after-settle" in str(data.get("messages")):
            await settled(user_api_key_dict)
        act("after-settle", data)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        async for chunk in response:
            yield chunk
        act("after-settle", request_data)


before, after = Before(), After()
