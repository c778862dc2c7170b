"""How tests speak to the management API and look into its database, and calls as the proxy would make them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import psycopg
from psycopg.rows import dict_row
from starlette.types import ASGIApp

from litellm_credits.engine import Engine
from litellm_credits.ledger.calls import Ending, Held, HoldRequest
from litellm_credits.models import CallBasis
from litellm_credits.tenancy.principals import Principal

ADMIN_KEY = "sk-admin-test-1234567890"

Document = dict[str, Any]


class Api:
    """A client of the API that holds one key, or none."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self.key = key

    def holding(self, key: str | None) -> "Api":
        """A client with another key."""
        return Api(self._app, key)

    async def send(self, method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        """The response to one request."""
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        headers |= options.pop("headers", {})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://api") as client:
            if body is not None:
                options["content"] = dumps(body)
                headers.setdefault("content-type", "application/json")
            return await client.request(method, path, headers=headers, **options)

    async def ok(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        """The document of a response that must be a success, with Decimals for fractions."""
        response = await self.send(method, path, body, **options)
        assert response.status_code == 200, response.text
        return json.loads(response.content, parse_float=Decimal)

    async def refused(
        self, status: int, code: str, method: str, path: str, body: object = None, **options: Any
    ) -> Document:
        """The `error` of a response that must be this refusal, in the one shape that errors have."""
        response = await self.send(method, path, body, **options)
        assert response.status_code == status, response.text
        document = response.json()
        assert set(document) == {"error"}
        error: Document = document["error"]
        assert {"message", "type", "param", "code"} <= set(error)
        assert error["code"] == code, error
        assert error["message"]
        return error


def dumps(body: object) -> str:
    """JSON with Decimals as numbers."""

    def number(value: object) -> object:
        assert isinstance(value, Decimal), value
        return float(value)

    return json.dumps(body, default=number)


@dataclass(frozen=True)
class Team:
    """A team that a test made, with a client that holds its key."""

    id: str
    key: str
    api: Api


async def make_team(admin: Api, team_id: str, *, credits: object = 100, **more: Any) -> Team:
    """A new team of the organization acme, in the group test-chat-fast."""
    body = {"organization_id": "acme", "team_id": team_id, "access_groups": ["test-chat-fast"]}
    made = await admin.ok("POST", "/teams/create", body | {"credits_allocated": credits} | more)
    return Team(team_id, made["virtual_key"], admin.holding(made["virtual_key"]))


class Books:
    """What the database itself says, read on a connection of its own."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url

    def rows(self, statement: str, params: Mapping[str, object] | None = None) -> list[Document]:
        """The rows of a statement."""
        with psycopg.connect(self._url, autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def ledger(self, team_id: str) -> list[tuple[str, Decimal, Decimal]]:
        """Type, amount and balance after of all entries that ever spoke of a team of this id."""
        rows = self.rows(
            "SELECT transaction_type, credits_amount, credits_after FROM credits.credit_transactions"
            " WHERE team_id = %(team_id)s ORDER BY transaction_id",
            {"team_id": team_id},
        )
        return [(row["transaction_type"], row["credits_amount"], row["credits_after"]) for row in rows]

    def contents(self) -> dict[str, int]:
        """How many rows each table has."""
        tables = [row["tablename"] for row in self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'credits'")]
        return {table: self.rows(f"SELECT count(*) AS n FROM credits.{table}")[0]["n"] for table in tables}


async def hold(engine: Engine, team: Team, *, credits: str = "1", job_id: str | None = None) -> Held:
    """A call in flight, as the proxy would begin it."""
    principal = await engine.authenticator.caller(team.key)
    assert isinstance(principal, Principal)
    held = await engine.ledger.hold(
        HoldRequest(
            team_id=team.id,
            key_id=principal.key_id,
            job_id=UUID(job_id) if job_id else None,
            credits=Decimal(credits),
            endpoint="/v1/chat/completions",
            stream=False,
            requested_model="gpt-3.5-turbo",
            model_group_used="test-chat-fast",
            model_alias="gpt-3.5-turbo",
            pricing_input=Decimal("0.0005"),
            pricing_output=Decimal("0.0015"),
            purpose="page_1",
        )
    )
    assert isinstance(held, Held)
    return held


async def settle(engine: Engine, team: Team, held: Held, **facts: Any) -> None:
    """The end of a call: the seed's 15 + 8 tokens for $0.0000195, unless `facts` say otherwise."""
    seed: Document = {
        "basis": CallBasis.provider_usage,
        "credits": Decimal("0.000195"),
        "cost_usd": Decimal("0.0000195"),
        "prompt_tokens": 15,
        "completion_tokens": 8,
        "total_tokens": 23,
        "latency_ms": 1230,
        "resolved_model": "gpt-3.5-turbo",
        "request_data": b'{"messages": [], "seed": 123456789012345678901234567890}',
        "response_data": b'{"choices": []}',
    }
    ending = Ending(
        call_id=held.call_id,
        team_id=team.id,
        model_alias="gpt-3.5-turbo",
        pricing_input=Decimal("0.0005"),
        pricing_output=Decimal("0.0015"),
        **(seed | facts),
    )
    assert await engine.ledger.end(ending) is not None


async def call(engine: Engine, team: Team, *, job_id: str | None = None, **facts: Any) -> None:
    """A whole call."""
    await settle(engine, team, await hold(engine, team, job_id=job_id), **facts)
