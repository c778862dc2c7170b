"""A small client of the management API, for the demo and `run`."""

from types import TracebackType
from typing import Any, Self

import httpx

from litellm_credits import money
from litellm_credits.errors import StartupRefused


class Api:
    """One key's view of /api. Fractions are Decimals.

    Raises:
        StartupRefused: from every method, with the proxy's answer, for a refusal that the method does not expect.
    """

    def __init__(self, base_url: str, key: str) -> None:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._http = httpx.Client(base_url=f"{base_url}/api", headers=headers, timeout=60, trust_env=False)

    def get(self, path: str) -> Any:
        """What is there."""
        return money.loads(_accepted(self._http.get(path)).content)

    def exists(self, path: str) -> bool:
        """Whether something is there."""
        return _accepted(self._http.get(path), or_else=httpx.codes.NOT_FOUND).is_success

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to an action."""
        return money.loads(_accepted(self._http.post(path, content=money.dumps(body))).content)

    def create(self, path: str, body: dict[str, Any]) -> None:
        """Make something, unless it is there already."""
        _accepted(self._http.post(f"{path}/create", content=money.dumps(body)), or_else=httpx.codes.CONFLICT)

    def delete(self, path: str) -> None:
        """Make sure that something is not there."""
        _accepted(self._http.delete(path), or_else=httpx.codes.NOT_FOUND)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()


def _accepted(answer: httpx.Response, *, or_else: int = httpx.codes.OK) -> httpx.Response:
    if answer.is_success or answer.status_code == or_else:
        return answer
    request = answer.request
    raise StartupRefused(problem=f"{request.method} {request.url} answered {answer.status_code}: {answer.text}")
