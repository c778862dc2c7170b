"""Every answer under /api, good or bad: exact JSON, and one shape for errors."""

import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from litellm_credits import money
from litellm_credits.api.bodies import param_of
from litellm_credits.errors import BadInput, CreditsError

log = logging.getLogger("litellm_credits.api")

_MOST_PROBLEMS = 5


class Answer(Response):
    """JSON that keeps every digit; times are UTC."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of a pydantic model, a list of them, or plain data."""
        return money.dumps(_plain(content))


class ErrorFacts(BaseModel):
    """What went wrong, in OpenAI's shape. Some errors carry more fields, such as `required` and `available`."""

    message: str
    type: str
    param: str | None = Field(description="The field of the request that is to blame, if one is.")
    code: str = Field(description="Stable; for programs.")


class ErrorBody(BaseModel):
    """Every answer that is not 200."""

    error: ErrorFacts


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These statuses, for a route's OpenAPI `responses`."""
    return {status: {"model": ErrorBody} for status in statuses}


def failure(error: CreditsError) -> Answer:
    """The answer that says so."""
    after = error.retry_after_seconds
    return Answer(error.body(), status_code=error.status, headers={"retry-after": str(after)} if after else None)


def unexpected(request: Request, fault: Exception) -> Answer:
    """The answer to a fault of ours: logged with its traceback, told without details."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=fault)
    return _error(500, "Something went wrong here. The operator's log says what.", "api_error", "internal_error")


def install(app: FastAPI) -> None:
    """Answer every refusal of `app` in this shape."""
    app.add_exception_handler(CreditsError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _not_routed)


async def _refused(request: Request, error: Exception) -> Answer:
    assert isinstance(error, CreditsError)
    return failure(error)


async def _invalid(request: Request, error: Exception) -> Answer:
    assert isinstance(error, RequestValidationError)
    problems = [(param_of(tuple(problem["loc"][1:])), problem["msg"]) for problem in error.errors()]
    told = "; ".join(f"{param or 'body'}: {message}" for param, message in problems[:_MOST_PROBLEMS])
    return failure(BadInput(problem=told, param=problems[0][0]))


async def _not_routed(request: Request, error: Exception) -> Answer:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        answer = _error(
            405, f"There is no {where}; this path takes {allowed}.", "invalid_request_error", "method_not_allowed"
        )
        answer.headers.update(error.headers or {})
        return answer
    return _error(error.status_code, f"There is no {where}.", "invalid_request_error", "route_not_found")


def _error(status: int, message: str, type: str, code: str) -> Answer:
    return Answer({"error": {"message": message, "type": type, "param": None, "code": code}}, status_code=status)


def _plain(value: Any) -> Any:
    """What `money.dumps` takes: recorded bodies may hold integers beyond 64 bits; times carry the session's zone."""
    match value:
        case BaseModel():
            return _plain(value.model_dump())
        case dict():
            return {name: _plain(member) for name, member in value.items()}
        case list():
            return [_plain(member) for member in value]
        case datetime():
            return value.astimezone(UTC)
        case int() if value.bit_length() > 63:
            return Decimal(value)
    return value
