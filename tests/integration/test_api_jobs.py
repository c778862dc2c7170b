"""Jobs: opened, worked on by calls, completed once, read, deleted."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from api_client import Api, Books, Team, call, hold, settle

from litellm_credits.engine import Engine

NOT_FOUND: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PATCH", "/metadata", {"metadata": {}}),
    ("POST", "/complete", {"status": "completed"}),
    ("GET", "/costs", None),
    ("GET", "/calls", None),
    ("DELETE", "", None),
]


async def _job(team: Team, **more: Any) -> str:
    made = await team.api.ok("POST", "/jobs/create", {"job_type": "test"} | more)
    return str(made["job_id"])


async def test_a_job_is_opened_and_shown(team: Team) -> None:
    body = {
        "team_id": "alpha",
        "job_type": "document_analysis",
        "user_id": "u1",
        "external_task_id": "t9",
        "metadata": {"doc": 7, "nested": {"deep": [1, 0.5, None]}},
    }
    made = await team.api.ok("POST", "/jobs/create", body)
    assert {name: made[name] for name in body} == body
    assert (made["status"], made["started_at"], made["completed_at"]) == ("pending", None, None)
    assert made["organization_id"] == "acme"
    assert made["created_at"].endswith("Z")
    assert await team.api.ok("GET", f"/jobs/{made['job_id']}") == made


async def test_the_admin_opens_a_job_for_a_team(admin: Api, team: Team) -> None:
    made = await admin.ok("POST", "/jobs/create", {"team_id": "alpha", "job_type": "test"})
    assert (await team.api.ok("GET", f"/jobs/{made['job_id']}"))["team_id"] == "alpha"
    assert await admin.ok("GET", f"/jobs/{made['job_id']}") == made
    error = await admin.refused(422, "invalid_input", "POST", "/jobs/create", {"job_type": "test"})
    assert error["param"] == "team_id"
    error = await admin.refused(404, "not_found", "POST", "/jobs/create", {"team_id": "none", "job_type": "test"})
    assert error["param"] == "team_id"


@pytest.mark.parametrize("job_id", ["91cfa4d6-454a-4ecc-964c-bd186e5d62b5", "xyz", "%20", "1605ea72"])
@pytest.mark.parametrize(("method", "path", "body"), NOT_FOUND)
async def test_an_unknown_job_is_not_found(team: Team, job_id: str, method: str, path: str, body: Any) -> None:
    await team.api.refused(404, "not_found", method, f"/jobs/{job_id}{path}", body)


async def test_metadata_is_merged_shallowly(team: Team) -> None:
    job_id = await _job(team, metadata={"a": 1, "b": {"x": 1}})
    changed = await team.api.ok("PATCH", f"/jobs/{job_id}/metadata", {"metadata": {"b": {"y": 2}, "c": None}})
    assert changed["metadata"] == {"a": 1, "b": {"y": 2}, "c": None}
    assert await team.api.ok("GET", f"/jobs/{job_id}") == changed


async def test_metadata_cannot_grow_without_end(team: Team) -> None:
    job_id = await _job(team, metadata={"a": "x" * 40_000})
    path = f"/jobs/{job_id}/metadata"
    error = await team.api.refused(422, "invalid_input", "PATCH", path, {"metadata": {"b": "x" * 40_000}})
    assert error["param"] == "metadata"
    body = {"status": "completed", "metadata": {"b": "x" * 40_000}}
    await team.api.refused(422, "invalid_input", "POST", f"/jobs/{job_id}/complete", body)
    job = await team.api.ok("GET", f"/jobs/{job_id}")
    assert (list(job["metadata"]), job["status"]) == (["a"], "pending")


async def test_completing_answers_the_costs_exactly(team: Team, engine: Engine, books: Books) -> None:
    job_id = await _job(team, metadata={"a": 1})
    await call(engine, team, job_id=job_id)
    error = {"message": "boom", "code": "500"}
    nothing = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None, "cost_usd": None}
    await call(engine, team, job_id=job_id, basis=None, credits=Decimal(0), error=error, latency_ms=70, **nothing)
    assert (await team.api.ok("GET", f"/jobs/{job_id}"))["status"] == "in_progress"

    body = {"status": "completed", "metadata": {"final": True}}
    done = await team.api.ok("POST", f"/jobs/{job_id}/complete", body)
    assert (done["job_id"], done["status"]) == (job_id, "completed")
    assert done["costs"] == {
        "total_calls": 2,
        "successful_calls": 1,
        "failed_calls": 1,
        "total_tokens": 23,
        "total_cost_usd": Decimal("0.0000195"),
        "avg_latency_ms": 650,
        "credits_charged": Decimal("0.000195"),
        "credits_remaining": Decimal("99.999805"),
    }
    first, second = done["calls"]
    del first["call_id"], second["call_id"]
    assert first == {
        "purpose": "page_1",
        "model_alias": "gpt-3.5-turbo",
        "model_group": "test-chat-fast",
        "tokens": 23,
        "cost_usd": Decimal("0.0000195"),
        "credits_charged": Decimal("0.000195"),
        "latency_ms": 1230,
        "status": "settled",
        "basis": "provider_usage",
        "error": None,
    }
    assert (second["status"], second["tokens"], second["credits_charged"]) == ("voided", 0, 0)
    assert second["error"] == error
    job = await team.api.ok("GET", f"/jobs/{job_id}")
    assert (job["metadata"], job["completed_at"]) == ({"a": 1, "final": True}, done["completed_at"])
    assert [type for type, _, _ in books.ledger("alpha")] == ["allocation", "charge"], "completing charged"


async def test_the_wire_carries_every_digit_and_no_exponent(team: Team, engine: Engine) -> None:
    job_id = await _job(team)
    await call(engine, team, job_id=job_id)
    text = (await team.api.send("POST", f"/jobs/{job_id}/complete", {"status": "completed"})).text
    assert '"total_cost_usd":0.0000195,' in text
    assert '"credits_remaining":99.999805}' in text


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_completing_again_changes_nothing(team: Team, engine: Engine, books: Books, status: str) -> None:
    job_id = await _job(team)
    await call(engine, team, job_id=job_id)
    body = {"status": status, "metadata": {"n": 1}, "error_message": "because"}
    first = await team.api.ok("POST", f"/jobs/{job_id}/complete", body)
    stored = await team.api.ok("GET", f"/jobs/{job_id}")
    assert (stored["status"], stored["error_message"]) == (status, "because")
    again = body | {"metadata": {"n": 2}, "error_message": "again"}
    assert await team.api.ok("POST", f"/jobs/{job_id}/complete", again) == first
    other = "failed" if status != "failed" else "completed"
    error = await team.api.refused(409, "job_closed", "POST", f"/jobs/{job_id}/complete", {"status": other})
    assert (error["state"], error["job_id"]) == (status, job_id)
    assert await team.api.ok("GET", f"/jobs/{job_id}") == stored
    assert len(books.ledger("alpha")) == 2


async def test_a_job_without_calls_costs_nothing(team: Team) -> None:
    done = await team.api.ok("POST", f"/jobs/{await _job(team)}/complete", {"status": "cancelled"})
    assert done["calls"] == []
    assert done["costs"] == {
        "total_calls": 0,
        "successful_calls": 0,
        "failed_calls": 0,
        "total_tokens": 0,
        "total_cost_usd": 0,
        "avg_latency_ms": 0,
        "credits_charged": 0,
        "credits_remaining": 100,
    }


async def test_costs_by_call(team: Team, engine: Engine) -> None:
    job_id = await _job(team)
    await call(engine, team, job_id=job_id)
    await call(engine, team, job_id=job_id)
    report = await team.api.ok("GET", f"/jobs/{job_id}/costs")
    assert (report["team_id"], report["job_type"], report["status"]) == ("alpha", "test", "in_progress")
    costs = report["costs"]
    assert (costs["total_cost_usd"], costs["credits_charged"]) == (Decimal("0.000039"), Decimal("0.00039"))
    assert len(costs["breakdown"]) == 2
    assert sum(one["cost_usd"] for one in costs["breakdown"]) == costs["total_cost_usd"]
    one = costs["breakdown"][0]
    assert (one["model"], one["prompt_tokens"], one["completion_tokens"]) == ("gpt-3.5-turbo", 15, 8)


async def test_call_records_with_what_was_asked_and_answered(team: Team, engine: Engine) -> None:
    job_id = await _job(team)
    for number in range(3):
        await call(engine, team, job_id=job_id, latency_ms=number)
    page = await team.api.ok("GET", f"/jobs/{job_id}/calls?limit=2")
    rest = await team.api.ok("GET", f"/jobs/{job_id}/calls?limit=2&after={page['next_cursor']}")
    calls = page["calls"] + rest["calls"]
    assert [one["latency_ms"] for one in calls] == [0, 1, 2]
    assert rest["next_cursor"] is None
    assert calls[0]["request_data"] == {"messages": [], "seed": 123456789012345678901234567890}
    assert calls[0]["response_data"] == {"choices": []}
    assert (calls[0]["pricing_input"], calls[0]["pricing_output"]) == (Decimal("0.0005"), Decimal("0.0015"))
    assert "worker_id" not in calls[0]
    listed = (await team.api.ok("GET", "/teams/alpha/calls?limit=2"))["calls"]
    assert [one["latency_ms"] for one in listed] == [2, 1]
    assert "request_data" not in listed[0]


async def test_what_the_provider_charges_only_the_admin_sees(admin: Api, team: Team, engine: Engine) -> None:
    job_id = await _job(team)
    await call(engine, team, job_id=job_id, provider_cost_usd=Decimal("0.0000123"))
    for path in (f"/jobs/{job_id}/calls", "/teams/alpha/calls"):
        (own,), (all_of_it,) = [(await api.ok("GET", path))["calls"] for api in (team.api, admin)]
        assert all_of_it.pop("provider_cost_usd") == Decimal("0.0000123")
        assert own == all_of_it, "nothing else differs"
    (listed,) = (await admin.ok("GET", "/organizations/acme/calls"))["calls"]
    assert listed["provider_cost_usd"] == Decimal("0.0000123")
    for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/costs", "/teams/alpha/usage", "/credits/teams/alpha/transactions"):
        assert "0.0000123" not in (await team.api.send("GET", path)).text
    done = await team.api.send("POST", f"/jobs/{job_id}/complete", {"status": "completed"})
    assert "0.0000123" not in done.text


async def test_jobs_are_listed_in_pages_newest_first(admin: Api, team: Team) -> None:
    made = [await _job(team) for _ in range(5)]
    await team.api.ok("POST", f"/jobs/{made[2]}/complete", {"status": "failed"})
    for api, path in ((team.api, "/jobs"), (team.api, "/teams/alpha/jobs"), (admin, "/teams/alpha/jobs")):
        seen: list[str] = []
        cursor = ""
        while True:
            page = await api.ok("GET", f"{path}?limit=2{cursor}")
            seen += [job["job_id"] for job in page["jobs"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&before={page['next_cursor']}"
        assert seen == made[::-1]
        [failed] = (await api.ok("GET", f"{path}?status=failed"))["jobs"]
        assert failed["job_id"] == made[2]


async def test_a_page_does_not_shift_when_rows_come_or_go(team: Team) -> None:
    made = [await _job(team) for _ in range(4)]
    page = await team.api.ok("GET", "/jobs?limit=2")
    await _job(team)
    await team.api.ok("DELETE", f"/jobs/{made[2]}")
    rest = await team.api.ok("GET", f"/jobs?before={page['next_cursor']}")
    assert [job["job_id"] for job in rest["jobs"]] == [made[1], made[0]]


async def test_deleting_a_job_takes_its_calls_and_leaves_the_ledger(team: Team, engine: Engine, books: Books) -> None:
    job_id = await _job(team)
    await call(engine, team, job_id=job_id)
    await call(engine, team)
    ledger = books.ledger("alpha")
    await team.api.ok("DELETE", f"/jobs/{job_id}")
    await team.api.refused(404, "not_found", "GET", f"/jobs/{job_id}")
    assert books.contents()["llm_calls"] == 1, "the call of no job went too"
    assert books.ledger("alpha") == ledger
    balance = await team.api.ok("GET", "/credits/teams/alpha/balance")
    assert (balance["credits_used"], balance["credits_held"]) == (Decimal("0.00039"), 0)


async def test_a_team_cannot_delete_its_job_to_escape_a_charge(team: Team, engine: Engine) -> None:
    job_id = await _job(team)
    held = await hold(engine, team, job_id=job_id, credits="40")
    await team.api.refused(409, "still_in_use", "DELETE", f"/jobs/{job_id}")
    await settle(engine, team, held)
    await team.api.ok("DELETE", f"/jobs/{job_id}")
    assert (await team.api.ok("GET", "/credits/teams/alpha/balance"))["credits_used"] == Decimal("0.000195")


async def test_the_admin_deletes_a_job_in_flight_and_its_holds_are_released(
    admin: Api, team: Team, engine: Engine, books: Books
) -> None:
    job_id = await _job(team)
    await hold(engine, team, job_id=job_id, credits="40")
    await hold(engine, team, job_id=job_id, credits="5")
    await hold(engine, team, credits="7")
    await admin.ok("DELETE", f"/jobs/{job_id}")
    balance = await team.api.ok("GET", "/credits/teams/alpha/balance")
    assert (balance["credits_held"], balance["credits_remaining"], balance["credits_used"]) == (7, 100, 0)
    assert len(books.ledger("alpha")) == 1


async def test_the_admin_completes_any_teams_job(admin: Api, team: Team) -> None:
    job_id = await _job(team)
    done = await admin.ok("POST", f"/jobs/{job_id}/complete", {"status": "cancelled"})
    assert done["status"] == "cancelled"
    assert datetime.fromisoformat(done["completed_at"]).tzinfo is not None
