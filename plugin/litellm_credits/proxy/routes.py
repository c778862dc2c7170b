"""Which of LiteLLM's routes a virtual key may use. What is not named here is refused: its calls could not be metered."""

CHAT = frozenset({"/v1/chat/completions", "/chat/completions"})
"""Priced: hold, dispatch, settle."""

LISTINGS = frozenset({"/v1/models", "/models"})
"""Free: what the key may call."""

OPEN_TO_KEYS = CHAT | LISTINGS


def is_open_to_keys(method: str, path: str) -> bool:
    """Whether a virtual key may send this request at all."""
    return (method == "POST" and path in CHAT) or (method == "GET" and path in LISTINGS)


def is_bounded(path: str) -> bool:
    """Whether request bodies on this path are held to CREDITS_MAX_BODY_BYTES. The admin's own routes are not."""
    return path in OPEN_TO_KEYS or path.startswith("/api/")
