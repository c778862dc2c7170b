"""The fields that requests are made of, with the limits of schema.prisma."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from litellm_credits import money
from litellm_credits.db.cursors import Cursor
from litellm_credits.errors import BadInput
from litellm_credits.jobs.jobs import MOST_METADATA_BYTES, CallFilter, JobFilter
from litellm_credits.models import CallStatus, JobStatus

UNSET: Any = None
"""Default of a field that an update may leave out: only the fields that were sent are changed."""


class RequestModel(BaseModel):
    """A request body. Unknown fields are refused, so that a typing error cannot pass as a wish granted."""

    model_config = ConfigDict(extra="forbid")

    def sent(self, *without: str) -> dict[str, Any]:
        """The fields that were sent, with their values."""
        return {name: getattr(self, name) for name in self.model_fields_set if name not in without}


def _is_name(text: str) -> str:
    if text != text.strip() or not text.isprintable() or "," in text:
        raise ValueError("must have no commas, no control characters and no spaces around it")
    return text


def _is_path_segment(text: str) -> str:
    if "/" in text or text in (".", ".."):
        raise ValueError("must have no slashes, since it is part of URLs")
    return text


def _fits(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(money.dumps(metadata)) > MOST_METADATA_BYTES:
        raise ValueError(f"must be at most {MOST_METADATA_BYTES} bytes of JSON")
    return metadata


def _in_utc(moment: datetime) -> datetime:
    if not 2000 <= moment.year < 9000:
        raise ValueError("must lie between the years 2000 and 9000")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_is_name)]
Provider = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_is_name)]
PathName = Annotated[Name, AfterValidator(_is_path_segment)]
Text255 = Annotated[str, Field(min_length=1, max_length=255)]
Text500 = Annotated[str, Field(min_length=1, max_length=500)]
Description = Annotated[str, Field(max_length=10_000)]
Names = Annotated[list[Name], Field(max_length=1000)]
Metadata = Annotated[dict[str, Any], AfterValidator(_fits)]
Moment = Annotated[datetime, AfterValidator(_in_utc), Field(description="RFC 3339; without an offset, UTC.")]
Credits = Annotated[Decimal, Field(gt=-money.MAX_CREDITS, lt=money.MAX_CREDITS, decimal_places=10)]
Price = Annotated[Decimal, Field(ge=0, lt=Decimal("1e9"), decimal_places=10, description="USD per 1,000 tokens.")]
PerMinute = Annotated[int, Field(strict=True, gt=0, lt=2**31)]
TokenLimit = Annotated[int, Field(strict=True, gt=0, lt=2**31)]

Limit = Annotated[int, Query(ge=1, le=200, description="Most items of the answer.")]
AfterName = Annotated[
    str, Query(max_length=255, description="The last id of the page before. A page shorter than `limit` is the last.")
]


def _cursor(text: str | None, param: str) -> Cursor | None:
    try:
        return Cursor.parse(text) if text is not None else None
    except (ValueError, OverflowError):
        raise BadInput(problem=f"{param} must be the next_cursor of the page before", param=param) from None


_CursorText = Annotated[str | None, Query(description="next_cursor of the page before.")]


def _before(before: _CursorText = None) -> Cursor | None:
    return _cursor(before, "before")


def _after(after: _CursorText = None) -> Cursor | None:
    return _cursor(after, "after")


Before = Annotated[Cursor | None, Depends(_before)]
After = Annotated[Cursor | None, Depends(_after)]


BeforeNumber = Annotated[int | None, Query(ge=1, lt=2**63, description="next_cursor of the page before.")]


class Period(BaseModel):
    """From `start` to before `end`."""

    start: datetime
    end: datetime


def _period(
    start: Annotated[Moment | None, Query(description="Default: 30 days before the end.")] = None,
    end: Annotated[Moment | None, Query(description="Default: now.")] = None,
) -> Period:
    last = end or datetime.now(UTC)
    first = start or last - timedelta(days=30)
    if first >= last:
        raise BadInput(problem="start must be before end", param="start")
    return Period(start=first, end=last)


InPeriod = Annotated[Period, Depends(_period)]


_Text = Annotated[str | None, Query(max_length=255)]


def _job_filter(
    status: JobStatus | None = None,
    job_type: _Text = None,
    user_id: _Text = None,
    external_task_id: _Text = None,
    parent_job_id: UUID | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
) -> JobFilter:
    return JobFilter(status, job_type, user_id, external_task_id, parent_job_id, start, end)


def _call_filter(
    status: CallStatus | None = None,
    model_alias: _Text = None,
    purpose: _Text = None,
    key_id: UUID | None = None,
    flag: Annotated[str | None, Query(max_length=255, description="Such as needs_reconciliation.")] = None,
    start: Moment | None = None,
    end: Moment | None = None,
) -> CallFilter:
    return CallFilter(status, model_alias, purpose, key_id, flag, start, end)


WantedJobs = Annotated[JobFilter, Depends(_job_filter)]
WantedCalls = Annotated[CallFilter, Depends(_call_filter)]
