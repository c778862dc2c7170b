"""One request to a running proxy, and what may come of it."""

import os
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from litellm_credits import money

_TIMEOUT_SECONDS = 60
_ADMIN_KEY = "LITELLM_MASTER_KEY"


class Refused(Exception):
    """The API said no, and why."""


class Unreachable(Exception):
    """No answer, or one that says that nothing can be answered now."""


def local_key() -> str:
    """The admin key: of the environment, or the one that `litellm-credits run` keeps in its data folder.

    Raises:
        Refused: there is neither.
    """
    if given := os.environ.get(_ADMIN_KEY):
        return given
    from litellm_credits.settings import settings  # noqa: PLC0415  (half of the time of a command that needs neither)
    from litellm_credits.stack.admin_key import admin_key_file  # noqa: PLC0415

    path = admin_key_file(settings().data_dir.expanduser())
    try:
        return path.read_text().strip()
    except OSError:
        raise Refused(f"no key: give --key, set CREDITS_KEY or {_ADMIN_KEY}, or run where {path} can be read") from None


def send(method: str, url: str, key: str, fields: dict[str, Any], more: dict[str, str]) -> bytes:
    """The body of the answer. `more` headers are sent beside the usual ones.

    Raises:
        Refused: by the API, for a reason that a person can do something about.
        Unreachable: nobody answers there, or the ledger is away.
    """
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"} | more
    body = None
    if fields and method == "GET":
        url = f"{url}?{urlencode(fields)}"
    elif fields or method not in ("GET", "DELETE"):  # an empty document, so that a refusal names what is missing in it
        body = money.dumps(fields)
    if not url.startswith(("http://", "https://")):
        raise Refused(f"'{url}' is no http:// or https:// address")
    try:
        opener = build_opener(ProxyHandler({})) if "://localhost" in url or "://127." in url else build_opener()
        with opener.open(Request(url, body, headers, method=method), timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            answer: bytes = response.read()
            return answer
    except HTTPError as error:
        with error:
            problem = f"{_message(error.read())} ({error.code})"
        raise (Unreachable if error.code >= 500 else Refused)(problem) from None
    except (URLError, TimeoutError, ConnectionError) as problem:
        reason = getattr(problem, "reason", problem)
        raise Unreachable(
            f"{url} does not answer: {reason}. Is the proxy up? `litellm-credits run` starts one."
        ) from None


def _message(body: bytes) -> str:
    try:
        return str(money.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"no answer of this API: {body[:200].decode(errors='replace')}"
