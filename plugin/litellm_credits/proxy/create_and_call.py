"""POST /api/jobs/create-and-call and /create-and-call-stream: a job, its one call and its completion in one request.

A layer around the ring: it opens the job, passes the request on as a call of that job (job_calls.py), and closes the job before
the last byte of the answer leaves. An answer that is refused, fails, or is not read to its end fails the job.
"""

import asyncio
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from litellm_credits.api.asgi import Headers, refuse, route_path
from litellm_credits.api.bodies import check_text, param_of, read, received, replayed
from litellm_credits.api.jobs import NewJob
from litellm_credits.db.database import Database
from litellm_credits.errors import BadInput, CreditsError, Forbidden, TeamOnly
from litellm_credits.jobs.jobs import Jobs
from litellm_credits.models import Job, JobStatus
from litellm_credits.money import dumps, loads, plain
from litellm_credits.proxy.bodies import redirected
from litellm_credits.proxy.job_calls import check_call, parse_call
from litellm_credits.tenancy.keys import sent_key
from litellm_credits.tenancy.principals import Admin, Authenticator, Principal

log = logging.getLogger("litellm_credits.proxy")

_PATH = re.compile(r"/api/jobs/create-and-call(?P<stream>-stream)?")
_JOB_FIELDS = {
    "team_id": "team_id",
    "job_type": "job_type",
    "user_id": "user_id",
    "external_task_id": "external_task_id",
    "parent_job_id": "parent_job_id",
    "job_metadata": "metadata",
    "credit_cap": "credit_cap",
    "expires_at": "expires_at",
    "on_expiry": "on_expiry",
}
"""The fields of such a request that are the job's, and what the job calls them. The others are the call's."""

_LONGEST_LIFE = timedelta(days=1)
"""When a job is cancelled that nobody closed, since the process died: what it holds must not be lost."""

_LONGEST_ERROR = 1000
_DONE = b"data: [DONE]"
_ERROR = b'data: {"error"'


class CreateAndCall:
    """Wraps the ring. Other requests pass as they are."""

    def __init__(self, app: ASGIApp, db: Database, authenticator: Authenticator, *, max_body_bytes: int) -> None:
        self.app = app
        self._jobs = Jobs(db)
        self._authenticator = authenticator
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = _PATH.fullmatch(route_path(scope)) if scope["type"] == "http" and scope["method"] == "POST" else None
        if match is None:
            await self.app(scope, receive, send)
            return
        stream = match["stream"] is not None
        try:
            caller = await self._caller(scope)
            request = parse_call(await read(received(receive), self._max_body_bytes))
            job = await self._open(caller, request, stream=stream)
        except ClientDisconnect:
            return
        except CreditsError as error:
            await refuse(send, error)
            return
        body = dumps(request)
        out = _Outgoing(job, self._jobs, send, stream=stream)
        path = f"/api/jobs/{job.job_id}/llm-call{match['stream'] or ''}"
        try:
            await self.app(redirected(scope, body, path=path), replayed(body, receive), out.send)
        finally:
            if not out.closed:
                await asyncio.shield(out.close(JobStatus.failed, "The client hung up before the answer was complete."))

    async def _caller(self, scope: Scope) -> Principal:
        headers = dict(scope["headers"])
        key = sent_key(lambda name: headers.get(name.encode(), b"").decode("latin-1"))
        caller = await self._authenticator.caller(key)
        if isinstance(caller, Admin):
            raise TeamOnly(method=scope["method"], path=route_path(scope))
        await self._authenticator.may_call(caller)
        return caller

    async def _open(self, caller: Principal, request: dict[str, Any], *, stream: bool) -> Job:
        """Open the job, and leave the call in `request`. Both are checked first, so that a bad request opens none."""
        wanted = _job_of({_JOB_FIELDS[name]: request.pop(name) for name in _JOB_FIELDS if name in request})
        check_call(request)
        if stream:
            options = request.get("stream_options")
            request["stream_options"] = (options if isinstance(options, dict) else {}) | {"include_usage": True}
        if wanted.team_id not in (None, caller.team_id):
            raise Forbidden(reason=f"This key belongs to another team than '{wanted.team_id}'.", param="team_id")
        return await self._jobs.create(
            caller.team_id,
            job_type=wanted.job_type,
            user_id=wanted.user_id,
            external_task_id=wanted.external_task_id,
            metadata=wanted.metadata,
            parent_job_id=wanted.parent_job_id,
            credit_cap=wanted.credit_cap,
            expires_at=wanted.expires_at or datetime.now(UTC) + _LONGEST_LIFE,
            on_expiry=wanted.on_expiry,
        )


def _job_of(facts: dict[str, Any]) -> NewJob:
    for name, value in facts.items():
        if isinstance(value, str):
            check_text(value, name)
    try:
        return NewJob.model_validate(facts)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        param = param_of(first["loc"])
        raise BadInput(problem=f"{param}: {first['msg']}", param=param) from None


class _Outgoing:
    """The answer on its way to the client, with the job's id in it."""

    def __init__(self, job: Job, jobs: Jobs, send: Send, *, stream: bool) -> None:
        self.closed = False
        self._job = job
        self._jobs = jobs
        self._send = send
        self._stream = stream
        self._status = 0
        self._begun = False
        self._error = b""
        self._tail = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message = {**message, "headers": self._headers(message["headers"])}
        elif message["type"] == "http.response.body":
            message = {**message, "body": self._body(message.get("body", b""))}
            if not message.get("more_body"):
                await self._end()
        await self._send(message)

    @property
    def _spliced(self) -> bool:
        """Whether the job's id goes into the body: an unstreamed answer, a JSON object."""
        return not self._stream and self._status < 400

    @property
    def _prefix(self) -> bytes:
        return b'{"job_id":"%s",' % str(self._job.job_id).encode()

    def _headers(self, headers: Headers) -> Headers:
        kept = [
            (name, value) for name, value in headers if name.lower() not in (b"content-length", b"x-credits-job-id")
        ]
        for name, value in headers:
            if name.lower() == b"content-length":
                kept.append((name, str(int(value) + (len(self._prefix) - 1 if self._spliced else 0)).encode()))
        if self._job.credits_price:
            kept.append((b"x-credits-job-price", plain(self._job.credits_price).encode()))
        return [*kept, (b"x-credits-job-id", str(self._job.job_id).encode())]

    def _body(self, part: bytes) -> bytes:
        if self._status >= 400:
            self._error += part
        elif self._stream:
            if part.startswith(_ERROR):
                self._error = part.removeprefix(b"data: ").strip()
            self._tail = (self._tail + part)[-64:]
        elif part and not self._begun:
            self._begun = True
            return self._prefix + part.removeprefix(b"{")
        return part

    async def _end(self) -> None:
        if self._error or self._status >= 400:
            await self.close(JobStatus.failed, _message(self._error))
        elif self._stream and not self._tail.rstrip().endswith(_DONE):
            await self.close(JobStatus.failed, "The answer broke off.")
        else:
            await self.close(JobStatus.completed, None)

    async def close(self, status: JobStatus, error_message: str | None) -> None:
        """Close the job, unless somebody else has. The answer does not wait for a ledger that is away."""
        self.closed = True
        job_id: UUID = self._job.job_id
        try:
            await self._jobs.complete(
                job_id, status=status, metadata={}, error_message=error_message, team_id=self._job.team_id
            )
        except CreditsError as problem:
            log.warning("job %s could not be closed as %s: %s", job_id, status, problem.message)


def _message(body: bytes) -> str:
    try:
        return str(loads(body)["error"]["message"])[:_LONGEST_ERROR].replace("\x00", "\ufffd")
    except (ValueError, KeyError, TypeError):
        return "The call failed."
