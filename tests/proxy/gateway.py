"""The proxy under test as its users see it: an operator's admin API, teams with keys, and the rows that tell what happened."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
import openai
import psycopg
from psycopg.rows import dict_row

from litellm_credits.money import loads
from litellm_credits.stack.stack import Stack

PRICE = {"pricing_input": "0.0005", "pricing_output": "0.0015"}
INPUT, OUTPUT = Decimal("0.0005"), Decimal("0.0015")
PROMPT = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
"""Fifteen prompt tokens."""

OBSERVED: dict[str, dict[str, Any]] = {}
"""The ended call of each test that looked at one, for `--endings`."""

T = TypeVar("T")


def credits_for(prompt: int, completion: int) -> Decimal:
    """What so many tokens cost on the default plan: 10 credits a dollar."""
    return (prompt * INPUT + completion * OUTPUT) / 1000 * 10


def wait_until(condition: Callable[[], T | None], *, seconds: float = 60, what: str = "the condition") -> T:
    """Poll until `condition` gives something true, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not come about in {seconds} s"
        time.sleep(0.02)


@dataclass
class Gateway:
    """A running proxy, its database and its stand-in provider."""

    base_url: str
    admin_key: str
    database_url: str
    provider_url: str
    aliases: list[str]
    stack: Stack
    group: str = "everything"
    admin: httpx.Client = field(init=False)
    clients: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.admin = httpx.Client(
            base_url=self.base_url, headers={"authorization": f"Bearer {self.admin_key}"}, timeout=30
        )

    def call(self, method: str, path: str, body: object = None) -> Any:
        """An admin request that must succeed."""
        response = self.admin.request(method, path, json=body)
        assert response.status_code == 200, f"{method} {path}: {response.status_code} {response.text}"
        return loads(response.content)

    def prepare(self) -> None:
        """One organization, and one alias and one access group over every behaviour of the provider, unless they are there."""
        self.create("/api/organizations/create", {"organization_id": "acme", "name": "Acme"})
        prices = {name: float(price) for name, price in PRICE.items()}
        for alias in self.aliases:
            self.create(
                "/api/models/aliases/create",
                {"model_alias": alias, "provider": "openai", "actual_model": alias} | prices,
            )
        self.create("/api/model-access-groups/create", {"group_name": self.group, "model_aliases": self.aliases})

    def create(self, path: str, body: object) -> None:
        response = self.admin.post(path, json=body)
        assert response.status_code in (200, 409), response.text

    def team(self, *, credits: str = "100", groups: list[str] | None = None, **more: Any) -> "Team":
        """A new team with a key."""
        team_id = f"team-{uuid4().hex[:12]}"
        made = self.call(
            "POST",
            "/api/teams/create",
            {
                "organization_id": "acme",
                "team_id": team_id,
                "access_groups": [self.group] if groups is None else groups,
                "credits_allocated": float(credits),
            }
            | more,
        )
        return Team(self, team_id, made["virtual_key"])

    def rows(self, query: str, *params: object) -> list[dict[str, Any]]:
        """Read the database."""
        with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query, params).fetchall()  # type: ignore[arg-type]

    def sent(self, text: str) -> list[dict[str, Any]]:
        """The requests that reached the provider with this text as their first message."""
        log = httpx.get(f"{self.provider_url}/log").json()
        return [entry for entry in log if entry["body"]["messages"][0]["content"] == text]

    def open(self, gate: str) -> None:
        """Let the provider answer those who wait at this gate."""
        httpx.post(f"{self.provider_url}/open/{gate}")


@dataclass
class Team:
    """A team of the gateway."""

    gateway: Gateway
    team_id: str
    key: str

    def client(self, **more: Any) -> openai.OpenAI:
        """The official client, without retries of its own."""
        options: dict[str, Any] = {"max_retries": 0, "timeout": 60} | more
        client = openai.OpenAI(base_url=f"{self.gateway.base_url}/v1", api_key=self.key, **options)
        return self.gateway.clients.enter_context(client)

    def http(self, **more: Any) -> httpx.Client:
        """A plain HTTP client with the team's key."""
        return httpx.Client(
            base_url=self.gateway.base_url, headers={"authorization": f"Bearer {self.key}"}, **({"timeout": 30} | more)
        )

    def chat(self, model: str, *, text: str = PROMPT, **more: Any) -> Any:
        """One unstreamed completion."""
        return self.client().chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)

    def stream(self, model: str, *, text: str = PROMPT, **more: Any) -> list[Any]:
        """One streamed completion, read to its end."""
        messages = [{"role": "user", "content": text}]
        return list(self.client().chat.completions.create(model=model, messages=messages, stream=True, **more))  # type: ignore[call-overload]

    def job(self, job_type: str = "test") -> UUID:
        """A new job."""
        with self.http() as http:
            response = http.post("/api/jobs/create", json={"team_id": self.team_id, "job_type": job_type})
        assert response.status_code == 200, response.text
        return UUID(response.json()["job_id"])

    def calls(self) -> list[dict[str, Any]]:
        """The team's call rows, oldest first."""
        return self.gateway.rows(
            "SELECT * FROM credits.llm_calls WHERE team_id = %s ORDER BY created_at, call_id", self.team_id
        )

    def ended_call(self) -> dict[str, Any]:
        """The team's only call, once it is no longer held."""

        def ended() -> dict[str, Any] | None:
            calls = self.calls()
            return calls[0] if calls and all(call["status"] != "held" for call in calls) else None

        # Where every worker was killed, a new one must first import LiteLLM before it can sweep.
        call = wait_until(ended, seconds=120, what="the call's end")
        assert len(self.calls()) == 1
        OBSERVED[os.environ["PYTEST_CURRENT_TEST"].removesuffix(" (call)")] = call
        return call

    def ledger(self) -> list[dict[str, Any]]:
        """The team's ledger, oldest first."""
        return self.gateway.rows(
            "SELECT * FROM credits.credit_transactions WHERE team_id = %s ORDER BY transaction_id", self.team_id
        )

    def balance(self) -> dict[str, Any]:
        """The team's balance row."""
        return self.gateway.rows("SELECT * FROM credits.team_credits WHERE team_id = %s", self.team_id)[0]

    def check_books(self) -> None:
        """Nothing held, and balance = ledger = calls, to the last digit."""
        balance, ledger, calls = self.balance(), self.ledger(), self.calls()
        assert balance["credits_held"] == 0
        assert balance["credits_remaining"] == balance["credits_allocated"] - balance["credits_used"]
        assert balance["credits_remaining"] == sum(entry["credits_amount"] for entry in ledger)
        assert balance["credits_used"] == sum(call["credits_charged"] for call in calls)
        charged = {call["call_id"]: call["credits_charged"] for call in calls if call["credits_charged"]}
        assert charged == {
            entry["call_id"]: -entry["credits_amount"] for entry in ledger if entry["transaction_type"] == "charge"
        }
