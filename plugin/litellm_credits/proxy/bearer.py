"""The key that a request carries."""


def bearer(headers: dict[str, str]) -> str | None:
    """The key of an `Authorization: Bearer ...` header (names in lower case), if there is one."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None
