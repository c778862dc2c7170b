"""Another plugin in the same proxy, which notes what LiteLLM tells loggers: a line for each success and each failure."""

import os
from typing import Any

from litellm.integrations.custom_logger import CustomLogger


class Journal(CustomLogger):
    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        note("success", kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        note("failure", kwargs)


def note(event: str, kwargs: dict[str, Any]) -> None:
    with open(os.environ["JOURNAL"], "a") as file:
        file.write(f"{event} {kwargs.get('litellm_call_id')}\n")


journal = Journal()
