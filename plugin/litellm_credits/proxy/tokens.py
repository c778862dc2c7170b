"""Counting tokens with LiteLLM's tokenizers. Slow for long texts: keep these off the event loop."""

from typing import Any

import litellm

from litellm_credits.proxy.deployments import Deployment


def prompt_tokens(deployment: Deployment, request: dict[str, Any]) -> int:
    """Prompt tokens of a chat request, tools included."""
    counted = litellm.token_counter(
        model=deployment.model,
        messages=request.get("messages"),
        tools=request.get("tools"),
        tool_choice=request.get("tool_choice"),
    )
    return int(counted)


def output_tokens(deployment: Deployment, text: str) -> int:
    """Tokens of what a model wrote."""
    return int(litellm.token_counter(model=deployment.model, text=text))
