"""The live LiteLLM configuration, checked at start: with these settings wrong, calls could pass unmetered."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from litellm_credits.errors import StartupRefused
from litellm_credits.proxy.routes import TABLE

AUTH = "litellm_credits.proxy.plugin.user_api_key_auth"
CALLBACK = "litellm_credits.proxy.plugin.credits"

_REQUIRED_GENERAL: dict[str, tuple[object, str]] = {
    "custom_auth": (AUTH, "without it virtual keys are unknown, and calls pass unmetered"),
    "enforce_fallback_model_access": (True, "without it fallbacks are not checked"),
}
_REQUIRED_LITELLM: dict[str, tuple[object, str]] = {
    "global_disable_no_log_param": (True, 'without it a request with "no-log" hides from billing'),
}
_FORBIDDEN_GENERAL: dict[str, str] = {
    "always_include_stream_usage": "with it a client can switch off the usage that streams are billed by",
    "custom_auth_settings": "mode auto lets unknown keys fall through to LiteLLM's own keys, which are not metered",
    "disable_responses_id_security": "with it a team can go on from another team's response",
    "allow_unmanaged_response_ids": "with it a team can go on from another team's response",
    "completion_model": "it serves every call in place of the model that the call was held for",
}


def check(config: Mapping[str, Any]) -> dict[str, Decimal]:
    """Check a parsed LiteLLM configuration.

    Returns:
        The pass-through routes that it opens to virtual keys, with the price of one request in USD.

    Raises:
        StartupRefused: naming the line to change.
    """
    general, inner = config.get("general_settings") or {}, config.get("litellm_settings") or {}
    for section, required, found in (
        ("general_settings", _REQUIRED_GENERAL, general),
        ("litellm_settings", _REQUIRED_LITELLM, inner),
    ):
        for name, (value, reason) in required.items():
            if found.get(name) != value:
                shown = "true" if value is True else value
                raise _refused(
                    f"set '{name}: {shown}' under {section} (it is {found.get(name, 'missing')!r}): {reason}"
                )
    for name, reason in _FORBIDDEN_GENERAL.items():
        if general.get(name):
            raise _refused(f"remove '{name}' from general_settings: {reason}")
    callbacks = inner.get("callbacks") or []
    if CALLBACK not in ([callbacks] if isinstance(callbacks, str) else callbacks):
        raise _refused(f"add '{CALLBACK}' to callbacks under litellm_settings: without it no call is metered")
    return dict(_opened(entry) for entry in general.get("pass_through_endpoints") or [])


def _opened(entry: Mapping[str, Any]) -> tuple[str, Decimal]:
    path, cost = entry.get("path"), entry.get("cost_per_request")
    what = f"the pass-through endpoint {path!r} under general_settings"
    if not isinstance(path, str) or not path.startswith("/") or "{" in path:
        raise _refused(f"{what} must have a path that begins with a slash")
    if any(TABLE.find(method, path) for method in ("GET", "POST")):
        raise _refused(f"give {what} another path: this one is LiteLLM's own")
    if entry.get("auth") is not True:
        raise _refused(f"set 'auth: true' on {what}: without it anybody can call it, and nobody is charged")
    if entry.get("include_subpath"):
        raise _refused(f"remove 'include_subpath' from {what}: open each path with its own price")
    if isinstance(cost, bool) or not isinstance(cost, int | float) or cost < 0:
        raise _refused(f"set 'cost_per_request' (USD) on {what}: it is what virtual keys are charged for each request")
    return path, Decimal(str(cost))


def _refused(problem: str) -> StartupRefused:
    return StartupRefused(problem=f"in the LiteLLM configuration, {problem}.")
