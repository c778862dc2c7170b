"""Counting tokens with LiteLLM's tokenizers. Slow for long texts: keep these off the event loop."""

from typing import Any

import litellm

from litellm_credits.endpoints.endpoint import Endpoint
from litellm_credits.proxy.deployments import Deployment


def prompt_tokens(deployment: Deployment, endpoint: Endpoint, body: dict[str, Any]) -> int:
    """Tokens of everything that becomes the prompt of this request, tools included."""
    return int(litellm.token_counter(model=deployment.model, **endpoint.countable(body)))


def output_tokens(deployment: Deployment, text: str) -> int:
    """Tokens of what a model wrote."""
    return int(litellm.token_counter(model=deployment.model, text=text)) if text else 0
