"""Virtual keys: made here, shown once, kept as a hash."""

import hashlib
import secrets
from collections.abc import Callable

KEY_PREFIX = "sk-"
"""LiteLLM hashes only keys that start so before it logs them."""

_SHOWN = 10


def new_key() -> str:
    """A new clear key with 256 bits of randomness. Show it once; keep only `key_hash` and `shown_prefix` of it."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def key_hash(key: str) -> str:
    """SHA-256 of a clear key, in hex. A key is random, not a password: no salt or slow hash is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def shown_prefix(key: str) -> str:
    """The start of a clear key, for people to tell keys apart."""
    return key[:_SHOWN]


def bearer_key(authorization: str) -> str | None:
    """The key in the value of an `Authorization: Bearer ...` header, if there is one."""
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


_BARE_KEY_HEADERS = ("api-key", "x-api-key", "x-goog-api-key", "ocp-apim-subscription-key")


def sent_key(header: Callable[[str], str]) -> str | None:
    """The clear key of a request, wherever LiteLLM would look for one, in its order. `header` gives a header's value, or ""."""
    own = header("x-litellm-api-key")
    if own:
        return bearer_key(own) or own
    if header("authorization"):
        return bearer_key(header("authorization"))
    return next((header(name) for name in _BARE_KEY_HEADERS if header(name)), None)
