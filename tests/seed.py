"""The integration scenarios, shared by test_llm_integration.py and scripts/test_streaming_integration.py.

They run against a real proxy over HTTP and read the records back from PostgreSQL by SQL.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import psycopg
from psycopg.rows import dict_row

from litellm_credits.db.migrate import libpq_conninfo
from litellm_credits.demo.provider import CHUNK_SECONDS
from litellm_credits.money import loads
from litellm_credits.stack import Stack

MODEL = os.environ.get("TEST_MODEL", "gpt-3.5-turbo")
PRICES = {"gpt-3.5-turbo": ("0.0005", "0.0015"), "gpt-4": ("0.03", "0.06")}
GROUP = "test-chat-fast"
CREDITS_PER_DOLLAR = 10
ALLOCATED = Decimal(100)
PROMPT = "Please answer this test of one call that is neither streamed nor cached, in brief."
"""Fifteen words, which are fifteen tokens to the stand-in."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Service:
    """A proxy that is up.

    Attributes:
        exact: the provider is our stand-in, so that tokens are known beforehand.
    """

    base_url: str
    admin_key: str
    database_url: str
    exact: bool

    @classmethod
    def of(cls, stack: Stack) -> "Service":
        """The one that a stack of ours runs."""
        return cls(stack.base_url, stack.admin_key, stack.database_url, exact=True)

    @classmethod
    def named_by_environment(cls) -> "Service | None":
        """The one at CREDITS_BASE_URL, if that is set: its database is CREDITS_DATABASE_URL, its admin key LITELLM_MASTER_KEY."""
        if not (base_url := os.environ.get("CREDITS_BASE_URL")):
            return None
        database_url = libpq_conninfo(os.environ["CREDITS_DATABASE_URL"])
        return cls(base_url.rstrip("/"), os.environ["LITELLM_MASTER_KEY"], database_url, exact=False)

    def client(self, key: str | None = None) -> httpx.Client:
        """An HTTP client that holds a key."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.base_url, headers=headers, timeout=120, trust_env=False)

    def rows(self, query: str, *params: object) -> list[Document]:
        """What the database says."""
        with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query.encode(), params).fetchall()


@dataclass(frozen=True)
class Team:
    """A team that the scenarios act for."""

    team_id: str
    client: httpx.Client


@dataclass
class World:
    """An organization with two teams that may call MODEL, on a running service."""

    service: Service
    admin: httpx.Client
    team: Team
    other: Team
    pricing_input: Decimal
    pricing_output: Decimal
    job_ids: list[str] = field(default_factory=list)

    def create_job(self, team: Team, job_type: str = "integration_test") -> str:
        """A new job of a team."""
        job = ok(team.client.post("/api/jobs/create", json={"team_id": team.team_id, "job_type": job_type}))
        self.job_ids.append(job["job_id"])
        return str(UUID(job["job_id"]))

    def complete_job(self, team: Team, job_id: str) -> Document:
        """The answer to completing a job."""
        done = ok(team.client.post(f"/api/jobs/{job_id}/complete", json={"status": "completed"}))
        assert done["status"] == "completed"
        return done

    def job(self, job_id: str) -> Document:
        """A job's row."""
        (row,) = self.service.rows("SELECT * FROM credits.jobs WHERE job_id = %s", job_id)
        return row

    def calls(self, job_id: str) -> list[Document]:
        """A job's call rows, oldest first."""
        return self.service.rows("SELECT * FROM credits.llm_calls WHERE job_id = %s ORDER BY created_at", job_id)

    def credits(self, team: Team) -> Document:
        """A team's balance row."""
        (row,) = self.service.rows("SELECT * FROM credits.team_credits WHERE team_id = %s", team.team_id)
        return row

    def cost(self, call: Document) -> Decimal:
        """What a call's tokens cost in USD."""
        tokens = call["prompt_tokens"] * self.pricing_input + call["completion_tokens"] * self.pricing_output
        return Decimal(tokens / 1000)


def ok(response: httpx.Response) -> Document:
    """The document of a response that must be 200."""
    assert response.status_code == 200, f"{response.request.method} {response.request.url}: {response.text}"
    document: Document = loads(response.content)
    return document


@contextmanager
def world(service: Service, *, organization_id: str, team_id: str) -> Iterator[World]:
    """Make what the scenarios need, and delete it again. What an earlier run left behind is deleted first."""
    with service.client(service.admin_key) as admin:
        _delete(admin, f"/api/organizations/{organization_id}", f"/api/model-access-groups/{GROUP}")
        made_alias = _ensure_alias(admin)
        alias = ok(admin.get(f"/api/models/aliases/{MODEL}"))
        group = {"group_name": GROUP, "display_name": "Test Chat Fast", "model_aliases": [MODEL]}
        ok(admin.post("/api/model-access-groups/create", json=group))
        ok(
            admin.post(
                "/api/organizations/create", json={"organization_id": organization_id, "name": "Integration tests"}
            )
        )
        teams = [_create_team(service, admin, organization_id, name) for name in (team_id, f"{team_id}_other")]
        made = World(service, admin, *teams, Decimal(alias["pricing_input"]), Decimal(alias["pricing_output"]))
        try:
            yield made
        finally:
            for team in teams:
                team.client.close()
            _delete(admin, *(f"/api/jobs/{job_id}" for job_id in made.job_ids))
            left = service.rows("SELECT call_id FROM credits.llm_calls WHERE job_id = ANY(%s::uuid[])", made.job_ids)
            _delete(admin, *(f"/api/teams/{team.team_id}" for team in teams))
            _delete(admin, f"/api/model-access-groups/{GROUP}", f"/api/organizations/{organization_id}")
            if made_alias:
                _delete(admin, f"/api/models/aliases/{MODEL}")
        assert left == [], "deleting a job deletes its calls"


def _ensure_alias(admin: httpx.Client) -> bool:
    """True if the alias had to be made."""
    if admin.get(f"/api/models/aliases/{MODEL}").status_code == 200:
        return False
    pricing_input, pricing_output = PRICES.get(MODEL, PRICES["gpt-3.5-turbo"])
    alias = {
        "model_alias": MODEL,
        "display_name": MODEL,
        "provider": "openai",
        "actual_model": MODEL if MODEL == "gpt-3.5-turbo" else f"openai/{MODEL}",
        "pricing_input": float(pricing_input),
        "pricing_output": float(pricing_output),
    }
    ok(admin.post("/api/models/aliases/create", json=alias))
    return True


def _create_team(service: Service, admin: httpx.Client, organization_id: str, team_id: str) -> Team:
    team = {"organization_id": organization_id, "team_id": team_id, "access_groups": [GROUP]}
    made = ok(admin.post("/api/teams/create", json=team | {"credits_allocated": int(ALLOCATED)}))
    return Team(team_id, service.client(made["virtual_key"]))


def _delete(admin: httpx.Client, *paths: str) -> None:
    for path in paths:
        response = admin.delete(path)
        assert response.status_code in (200, 404), f"DELETE {path}: {response.text}"


# The scenarios --------------------------------------------------------------------------------------------------------


def prerequisites(service: Service) -> None:
    """The service is up, its ledger too, and the admin key is the right one."""
    with service.client() as anyone:
        health = ok(anyone.get("/api/health"))
        assert health == {"status": "healthy", "database": "up"}
        assert anyone.get("/api/organizations").status_code == 401
    with service.client(service.admin_key) as admin:
        assert admin.get("/api/organizations").status_code == 200
    print(f"✓ The service at {service.base_url} is running and accessible")


def non_streaming_call(world: World) -> None:
    """One call: its job, its record, its cost and its charge."""
    _title("Non-Streaming LLM Call")
    before = world.credits(world.team)
    print("\n1. Creating job...")
    job_id = world.create_job(world.team)
    assert world.job(job_id)["status"] == "pending"
    print(f"   Job created: {job_id}")

    print("\n2. Making non-streaming LLM call...")
    started = time.monotonic()
    answer = _call(world.team, job_id, purpose="non_streaming_test")
    content = answer["choices"][0]["message"]["content"]
    assert content
    print(f"   Response received in {time.monotonic() - started:.2f}s")
    print(f"   Content: {content}")

    print("\n3. Completing job...")
    done = world.complete_job(world.team, job_id)
    print("   Job completed")

    print("\n4. Verifying database records...")
    _verify_job(world, world.team, job_id)
    (call,) = world.calls(job_id)
    _verify_call(world, call, purpose="non_streaming_test", stream=False, content=content)
    usage = answer["usage"]
    assert (call["prompt_tokens"], call["completion_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    if world.service.exact and MODEL == "gpt-3.5-turbo":
        assert (call["prompt_tokens"], call["completion_tokens"], call["total_tokens"]) == (15, 8, 23)
        assert call["cost_usd"] == Decimal("0.0000195")
        assert call["credits_charged"] == Decimal("0.000195")
    _verify_deduction(world, before, [call])
    assert done["costs"]["total_cost_usd"] == call["cost_usd"]
    print("\n✅ Non-streaming test PASSED")


def streaming_call(world: World) -> None:
    """One streamed call: the same, and server-sent events that arrive as they are made."""
    _title("Streaming LLM Call")
    before = world.credits(world.team)
    print("\n1. Creating job...")
    job_id = world.create_job(world.team)
    print(f"   Job created: {job_id}")

    print("\n2. Making streaming LLM call...")
    stream = _Stream()
    stream.read(world.team, job_id, purpose="streaming_test")
    print(f"   Streaming complete: {len(stream.pieces)} chunks in {stream.seconds:.2f}s")
    print(f"   Content: {stream.content}")
    assert len(stream.pieces) > 1
    assert stream.arrivals[0] < stream.arrivals[-1]
    if world.service.exact:
        # The stand-in takes CHUNK_SECONDS for each word. Buffered, all would arrive together.
        assert stream.arrivals[-1] - stream.arrivals[0] > CHUNK_SECONDS * (len(stream.pieces) - 1) / 4
    print("   ✓ Server-sent events, delivered as they were made, ended by [DONE]")
    (call,) = world.calls(job_id)
    assert call["status"] == "settled", "what the client has read to its end is charged"

    print("\n3. Completing job...")
    world.complete_job(world.team, job_id)
    print("   Job completed")

    print("\n4. Verifying database records...")
    _verify_job(world, world.team, job_id)
    _verify_call(world, call, purpose="streaming_test", stream=True, content=stream.content)
    assert call["time_to_first_token_ms"] is not None
    _verify_deduction(world, before, [call])
    print("\n✅ Streaming test PASSED")


def multiple_calls_same_job(world: World) -> None:
    """Several calls in one job: each has its record, and the job costs their sum."""
    _title("Multiple Calls In One Job")
    before = world.credits(world.team)
    job_id = world.create_job(world.team)
    purposes = ["call_1", "call_2", "call_3"]
    for number, purpose in enumerate(purposes, start=1):
        _call(world.team, job_id, purpose=purpose, max_tokens=4 * number)
        print(f"   ✓ Call {number} of {len(purposes)}")
    done = world.complete_job(world.team, job_id)
    calls = world.calls(job_id)
    assert [call["purpose"] for call in calls] == purposes
    assert len({call["call_id"] for call in calls}) == len(purposes)
    for call in calls:
        _verify_call(world, call, purpose=call["purpose"], stream=False, content=None)
    total = sum((call["cost_usd"] for call in calls), Decimal(0))
    assert done["costs"]["total_calls"] == done["costs"]["successful_calls"] == len(calls)
    assert done["costs"]["total_cost_usd"] == total
    assert done["costs"]["total_tokens"] == sum(call["total_tokens"] for call in calls)
    assert len(done["calls"]) == len(calls)
    report = ok(world.team.client.get(f"/api/jobs/{job_id}/costs"))
    assert report["costs"]["total_cost_usd"] == total
    print(f"   ✓ Total cost: ${total.normalize():f}")
    _verify_deduction(world, before, calls)
    print("\n✅ Multiple calls test PASSED")


def team_isolation(world: World) -> None:
    """A team cannot touch another's job, and pays only for its own calls."""
    _title("Team Isolation")
    job_id = world.create_job(world.team)
    stranger, before, stranger_before = world.other.client, world.credits(world.team), world.credits(world.other)
    body = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8}
    attempts = {
        "read the job": stranger.get(f"/api/jobs/{job_id}"),
        "read its costs": stranger.get(f"/api/jobs/{job_id}/costs"),
        "read its calls": stranger.get(f"/api/jobs/{job_id}/calls"),
        "change its metadata": stranger.patch(f"/api/jobs/{job_id}/metadata", json={"metadata": {"mine": True}}),
        "call in it": stranger.post(f"/api/jobs/{job_id}/llm-call", json=body),
        "stream in it": stranger.post(f"/api/jobs/{job_id}/llm-call-stream", json=body),
        "call with its x-job-id": stranger.post("/v1/chat/completions", json=body, headers={"x-job-id": job_id}),
        "complete it": stranger.post(f"/api/jobs/{job_id}/complete", json={"status": "completed"}),
        "delete it": stranger.delete(f"/api/jobs/{job_id}"),
        "read the balance": stranger.get(f"/api/credits/teams/{world.team.team_id}/balance"),
        "create a job for it": stranger.post("/api/jobs/create", json={"team_id": world.team.team_id, "job_type": "x"}),
    }
    for attempt, response in attempts.items():
        assert response.status_code == 403, f"{attempt}: {response.status_code} {response.text}"
        assert set(response.json()) == {"error"}
        print(f"   ✓ Another team cannot {attempt}: 403")
    assert world.job(job_id)["status"] == "pending"
    assert world.calls(job_id) == []
    assert world.credits(world.team)["credits_used"] == before["credits_used"]
    own_job = world.create_job(world.other)
    _call(world.other, own_job, purpose="isolation_test")
    assert world.credits(world.team)["credits_used"] == before["credits_used"]
    _verify_deduction(world, stranger_before, world.calls(own_job))
    print("\n✅ Team isolation test PASSED")


def summary(world: World) -> None:
    """What was done until now, and that it adds up."""
    _title("Summary")
    team_ids = [world.team.team_id, world.other.team_id]
    (totals,) = world.service.rows(
        "SELECT count(*) AS calls, coalesce(sum(credits_charged), 0) AS charged FROM credits.llm_calls WHERE team_id = ANY(%s)",
        team_ids,
    )
    (jobs,) = world.service.rows("SELECT count(*) AS jobs FROM credits.jobs WHERE team_id = ANY(%s)", team_ids)
    balances = [world.credits(world.team), world.credits(world.other)]
    used: Decimal = sum((balance["credits_used"] for balance in balances), Decimal(0))
    print(f"   Total jobs created: {jobs['jobs']}")
    print(f"   Total LLM calls made: {totals['calls']}")
    print(f"   Credits used: {used.normalize():f}")
    assert jobs["jobs"] == len(world.job_ids)
    assert used == totals["charged"]
    for balance in balances:
        assert balance["credits_held"] == 0
        assert balance["credits_remaining"] == balance["credits_allocated"] - balance["credits_used"]
    print("\n✅ All figures add up")


# Their parts ----------------------------------------------------------------------------------------------------------


def _title(name: str) -> None:
    print(f"\n{'=' * 70}\nTEST: {name}\n{'=' * 70}")


def _body(purpose: str, max_tokens: int) -> Document:
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": MODEL, "messages": messages, "max_tokens": max_tokens, "purpose": purpose}


def _call(team: Team, job_id: str, *, purpose: str, max_tokens: int = 8) -> Document:
    return ok(team.client.post(f"/api/jobs/{job_id}/llm-call", json=_body(purpose, max_tokens)))


class _Stream:
    """The server-sent events of one streamed call, with when each piece of content arrived."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.arrivals: list[float] = []
        self.seconds = 0.0

    @property
    def content(self) -> str:
        return "".join(self.pieces)

    def read(self, team: Team, job_id: str, *, purpose: str) -> None:
        """Make the call, and check the form of what comes."""
        started, raw, complete = time.monotonic(), "", ""
        body = _body(purpose, max_tokens=12)
        with team.client.stream("POST", f"/api/jobs/{job_id}/llm-call-stream", json=body) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"].startswith("text/event-stream")
            for text in response.iter_text():
                complete += text
                *events, raw = (raw + text).split("\n\n")
                for event in events:
                    self._take(event)
        self.seconds = time.monotonic() - started
        assert raw == "", "every event ends with an empty line"
        assert complete.endswith("data: [DONE]\n\n")
        assert complete.count("[DONE]") == 1

    def _take(self, event: str) -> None:
        name, _, data = event.partition(": ")
        assert name == "data", event
        if data == "[DONE]":
            return
        chunk = loads(data)
        assert chunk["object"] == "chat.completion.chunk"
        for choice in chunk["choices"]:
            if piece := choice["delta"].get("content"):
                self.pieces.append(piece)
                self.arrivals.append(time.monotonic())


def _verify_job(world: World, team: Team, job_id: str) -> None:
    job = world.job(job_id)
    assert job["team_id"] == team.team_id
    assert job["status"] == "completed"
    assert job["started_at"] <= job["completed_at"]
    print(f"   ✓ Job record verified (status: {job['status']})")


def _verify_call(world: World, call: Document, *, purpose: str, stream: bool, content: str | None) -> None:
    """Every field of a call record; `content` is what the client read, None: not looked at."""
    assert call["team_id"] == world.team.team_id
    assert call["status"] == "settled"
    assert call["basis"] == "provider_usage"
    assert call["flags"] == []
    assert call["stream"] is stream
    assert call["purpose"] == purpose
    assert call["model_group_used"] == GROUP
    assert call["model_alias"] == MODEL
    assert call["resolved_model"]
    assert call["prompt_tokens"] > 0
    assert call["completion_tokens"] > 0
    assert call["total_tokens"] == call["prompt_tokens"] + call["completion_tokens"]
    assert call["cost_usd"] == world.cost(call)
    assert call["credits_charged"] == call["cost_usd"] * CREDITS_PER_DOLLAR
    assert call["latency_ms"] >= 0
    assert call["request_data"]["messages"][0]["content"] == PROMPT
    assert call["response_data"] is not None
    if content is not None:
        assert content in _texts(call["response_data"])
    print("   ✓ LLMCall record verified")
    print(f"     - Tokens: {call['prompt_tokens']} + {call['completion_tokens']} = {call['total_tokens']}")
    print(f"     - Cost: ${call['cost_usd'].normalize():f}")
    print(f"     - Latency: {call['latency_ms']}ms")
    print(f"     - Model Group: {call['model_group_used']}")
    print(f"     - Resolved Model: {call['resolved_model']}")


def _verify_deduction(world: World, before: Document, calls: list[Document]) -> None:
    (after,) = world.service.rows("SELECT * FROM credits.team_credits WHERE team_id = %s", before["team_id"])
    deducted = after["credits_used"] - before["credits_used"]
    assert deducted == before["credits_remaining"] - after["credits_remaining"]
    assert deducted == sum(world.cost(call) for call in calls) * CREDITS_PER_DOLLAR
    ledger = world.service.rows(
        "SELECT credits_amount FROM credits.credit_transactions WHERE transaction_type = 'charge' AND call_id = ANY(%s)",
        [call["call_id"] for call in calls],
    )
    assert sum(entry["credits_amount"] for entry in ledger) == -deducted
    print(f"   ✓ Credits deducted: {deducted.normalize():f}")


def _texts(document: object) -> list[str]:
    """All strings in a JSON document."""
    match document:
        case str():
            return [document]
        case dict():
            return [text for value in document.values() for text in _texts(value)]
        case list():
            return [text for value in document for text in _texts(value)]
    return []
