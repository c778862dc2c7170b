"""Virtual keys: made here, shown once, kept as a hash."""

import hashlib
import secrets
from collections.abc import Mapping

KEY_PREFIX = "sk-"
"""LiteLLM hashes only keys that start so before it logs them."""

_SHOWN = 10
_KEY_HEADERS = ("api-key", "x-api-key", "x-goog-api-key")


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


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The key that a request to the proxy itself presents, wherever its client's SDK puts it: OpenAI's and LiteLLM's
    bearer, or the headers of Anthropic, Azure and Google. `headers` has names in lower case."""
    bearer = bearer_key(headers.get("authorization", ""))
    if bearer is not None:
        return bearer
    return next((headers[name].strip() for name in _KEY_HEADERS if headers.get(name, "").strip()), None)
