"""Bad input is refused with a 4xx in the one shape of errors, names its field, and leaves nothing behind; never a 500."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from api_client import ADMIN_KEY, Api, Books, Team
from fastapi import FastAPI

from litellm_credits.tenancy.organizations import Organizations

ORGANIZATION = {"organization_id": "zeta", "name": "Z"}
TEAM = {"organization_id": "acme", "team_id": "zeta", "access_groups": []}
ALIAS = {"model_alias": "zeta", "provider": "p", "actual_model": "m"}
GROUP = {"group_name": "zeta"}
JOB = {"team_id": "alpha", "job_type": "t"}
ADD = {"credits": 1}
ADJUST = {"credits": 1, "reason": "r"}

NOT_AMOUNTS = [True, "", "ten", "NaN", "Infinity", None, [], {}, 1e13, -1e13, 1e-11, "1e400"]
NOT_NAMES = ["", " a", "a ", "a,b", "a\nb", "a\u0000b", "\ud800", "a\u200bb", "x" * 256, 5, None, []]
NOT_PATH_NAMES = [*NOT_NAMES, "a/b", ".", ".."]
NOT_OBJECTS = [5, "x", [], None]
DEEP: Any = json.loads('{"a":' * 70 + "1" + "}" * 70)
NOT_METADATA = [
    *NOT_OBJECTS,
    {"a": "x" * 65_536},
    {"a": "\u0000"},
    {"\u0000": 1},
    {"a": ["\udfff"]},
    DEEP,
    {"a": 2**63},
]
NOT_PLANS = [5, {"unknown": 1}, {"budget_mode": "free"}, {"tokens_per_credit": 0}, {"credits_per_dollar": -1}]

FIELDS: list[tuple[str, str, dict[str, Any], str, list[Any]]] = [
    ("POST", "/organizations/create", ORGANIZATION, "organization_id", NOT_PATH_NAMES),
    ("POST", "/organizations/create", ORGANIZATION, "name", ["", "x" * 501, 5, None, "\u0000"]),
    ("POST", "/organizations/create", ORGANIZATION, "metadata", NOT_METADATA),
    ("POST", "/teams/create", TEAM, "organization_id", NOT_PATH_NAMES),
    ("POST", "/teams/create", TEAM, "team_id", NOT_PATH_NAMES),
    ("POST", "/teams/create", TEAM, "team_alias", ["", "x" * 501, 5]),
    ("POST", "/teams/create", TEAM, "access_groups", ["g", 5, None, [5], ["a,b"], ["a"] * 1001]),
    ("POST", "/teams/create", TEAM, "credits_allocated", [*NOT_AMOUNTS, -1]),
    ("POST", "/teams/create", TEAM, "metadata", NOT_METADATA),
    ("POST", "/teams/create", TEAM, "plan", NOT_PLANS),
    ("POST", "/teams/create", TEAM, "budget_mode", ["free", 5, None]),
    ("POST", "/teams/create", TEAM, "credits_per_dollar", [*NOT_AMOUNTS, 0, -1, 1e9]),
    ("POST", "/teams/create", TEAM, "tokens_per_credit", [0, -1, 1.5, "5", True, None, 1_000_000_001]),
    ("PUT", "/teams/alpha", {}, "team_alias", ["", "x" * 501, 5]),
    ("PUT", "/teams/alpha", {}, "metadata", NOT_METADATA),
    ("PUT", "/teams/alpha", {}, "plan", NOT_PLANS),
    ("PUT", "/teams/alpha", {}, "access_groups", ["g", None, [5]]),
    ("PUT", "/teams/alpha/access-groups", {"access_groups": []}, "access_groups", ["g", None, [5]]),
    ("POST", "/teams/alpha/keys", {}, "name", ["", "x" * 256, 5]),
    ("POST", "/teams/alpha/keys", {}, "expires_at", ["soon", "2001-01-01", "9999-12-31T23:59:59-12:00", 1, []]),
    ("POST", "/models/aliases/create", ALIAS, "model_alias", NOT_NAMES),
    ("POST", "/models/aliases/create", ALIAS, "provider", [*NOT_NAMES, "x" * 101]),
    ("POST", "/models/aliases/create", ALIAS, "actual_model", NOT_NAMES),
    ("POST", "/models/aliases/create", ALIAS, "display_name", ["", "x" * 256, 5]),
    ("POST", "/models/aliases/create", ALIAS, "description", ["x" * 10_001, 5]),
    ("POST", "/models/aliases/create", ALIAS | {"pricing_output": 1}, "pricing_input", [-1, 1e9, 1e-11, True, "x"]),
    ("POST", "/models/aliases/create", ALIAS | {"pricing_input": 1}, "pricing_output", [-1, 1e9, 1e-11, True, "x"]),
    ("POST", "/models/aliases/create", ALIAS, "max_output_tokens", [0, -1, 1.5, "5", True, 2**31]),
    ("POST", "/models/aliases/create", ALIAS, "access_groups", ["g", None, [5]]),
    ("PUT", "/models/aliases/gpt-3.5-turbo", {}, "provider", NOT_NAMES),
    ("PUT", "/models/aliases/gpt-3.5-turbo", {}, "status", ["gone", 5, None]),
    ("PUT", "/models/aliases/gpt-3.5-turbo", {}, "model_alias", ["renamed"]),
    ("POST", "/model-access-groups/create", GROUP, "group_name", NOT_PATH_NAMES),
    ("POST", "/model-access-groups/create", GROUP, "model_aliases", ["a", None, [5], [" "], ["a"] * 1001]),
    ("PUT", "/model-access-groups/test-chat-fast", {}, "status", ["gone", None]),
    ("PUT", "/model-access-groups/test-chat-fast/models", {"model_aliases": []}, "model_aliases", ["a", None]),
    ("POST", "/credits/teams/alpha/add", ADD, "credits", [*NOT_AMOUNTS, 0, -1]),
    ("POST", "/credits/teams/alpha/add", ADD, "reason", ["", "x" * 501, 5, None]),
    ("POST", "/credits/teams/alpha/add", ADD, "idempotency_key", ["", "x" * 256, 5]),
    ("POST", "/credits/teams/alpha/adjust", ADJUST, "credits", [*NOT_AMOUNTS, 0]),
    ("POST", "/credits/teams/alpha/adjust", ADJUST, "reason", ["", "x" * 501, 5, None]),
    ("POST", "/jobs/create", JOB, "job_type", ["", "x" * 101, 5, None, "\u0000"]),
    ("POST", "/jobs/create", JOB, "user_id", ["", "x" * 256, 5]),
    ("POST", "/jobs/create", JOB, "external_task_id", ["", "x" * 256, 5]),
    ("POST", "/jobs/create", JOB, "metadata", NOT_METADATA),
    ("POST", "/jobs/create", JOB, "team_id", [5, []]),
    ("PATCH", "/jobs/{job}/metadata", {"metadata": {}}, "metadata", NOT_METADATA),
    ("POST", "/jobs/{job}/complete", {"status": "failed"}, "status", ["COMPLETED", "pending", "", 5, None]),
    ("POST", "/jobs/{job}/complete", {"status": "failed"}, "metadata", NOT_METADATA),
    ("POST", "/jobs/{job}/complete", {"status": "failed"}, "error_message", ["x" * 1001, 5, "\u0000"]),
]

BODIES = sorted({(method, path): body for method, path, body, _, _ in FIELDS}.items(), key=lambda case: case[0])

NOT_JSON = {
    "nothing of JSON": b"hello",
    "half": b'{"organization_id": ',
    "NaN": b'{"organization_id": NaN}',
    "not UTF-8": b'{"organization_id": "\xff"}',
    "deep": b"[" * 100_000,
    "endless integer": b"1" * 5000,
    "endless exponent": b'{"name": 1e99999999999999999999}',
}


@pytest.fixture
async def job(team: Team) -> str:
    """A job of alpha."""
    return str((await team.api.ok("POST", "/jobs/create", {"job_type": "t", "metadata": {"kept": 1}}))["job_id"])


@pytest.mark.parametrize(("method", "path", "body", "field", "values"), FIELDS, ids=lambda value: str(value)[:40])
async def test_a_bad_field_is_named(
    admin: Api, job: str, books: Books, method: str, path: str, body: dict[str, Any], field: str, values: list[Any]
) -> None:
    before = _everything(books)
    for value in values:
        error = await admin.refused(422, "invalid_input", method, path.replace("{job}", job), body | {field: value})
        assert error["param"] is not None, (value, error)
        assert error["param"].split(".")[0] == field, (value, error)
        assert len(error["message"]) < 2000
    assert _everything(books) == before


async def test_what_is_required_and_what_is_unknown_is_named(admin: Api, job: str, books: Books) -> None:
    before = _everything(books)
    for (method, path), body in BODIES:
        url = path.replace("{job}", job)
        error = await admin.refused(422, "invalid_input", method, url, body | {"surprise": 1})
        assert error["param"] == "surprise"
        for field in body:
            if (field, path) in {("team_id", "/jobs/create"), ("access_groups", "/teams/create")}:
                continue
            if field.startswith("pricing"):
                continue
            without = {name: value for name, value in body.items() if name != field}
            error = await admin.refused(422, "invalid_input", method, url, without)
            assert error["param"] == field
    assert _everything(books) == before


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON.keys())
async def test_what_is_not_json_is_refused_with_400(admin: Api, job: str, books: Books, content: bytes) -> None:
    before = _everything(books)
    for (method, path), _ in BODIES:
        await _raw(admin, method, path.replace("{job}", job), content, 400, "invalid_json")
    assert _everything(books) == before


async def test_json_that_is_no_object_is_refused(admin: Api, job: str) -> None:
    for (method, path), _ in BODIES:
        for content in (b"5", b'"x"', b"true", b"[5]"):
            await _raw(admin, method, path.replace("{job}", job), content, 422, "invalid_input")


async def test_a_missing_body_is_refused(admin: Api, job: str) -> None:
    for (method, path), body in BODIES:
        if body:
            await admin.refused(422, "invalid_input", method, path.replace("{job}", job))


async def test_another_media_type_is_refused(admin: Api, books: Books) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    content = json.dumps(ORGANIZATION).encode()
    error = await admin.refused(422, "invalid_input", "POST", "/organizations/create", content=content, headers=headers)
    assert "application/json" in error["message"]
    assert books.contents()["organizations"] == 0
    await admin.ok("POST", "/organizations/create", content=content)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_refused_with_413(admin: Api, books: Books, announced: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"organization_id": "'
        for _ in range(300):
            yield b"x" * 1000

    content: Any = b"x" * 300_000 if announced else chunks()
    headers = {"content-type": "application/json"}
    await admin.refused(413, "body_too_large", "POST", "/organizations/create", content=content, headers=headers)
    assert books.contents()["organizations"] == 0


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/organizations?limit=0", "limit"),
        ("/organizations?limit=201", "limit"),
        ("/organizations?limit=x", "limit"),
        ("/organizations?after=%00", "after"),
        ("/teams/alpha/jobs?before=x", "before"),
        ("/teams/alpha/jobs?before=2026-01-01T00:00:00.000000Z_x", "before"),
        ("/teams/alpha/jobs?status=COMPLETED", "status"),
        ("/teams/alpha/calls?before=", "before"),
        ("/teams/alpha/keys?before=5", "before"),
        ("/jobs/{job}/calls?after=x", "after"),
        ("/credits/teams/alpha/transactions?before=0", "before"),
        ("/credits/teams/alpha/transactions?before=99999999999999999999", "before"),
        ("/teams/alpha/usage?start=yesterday", "start"),
        ("/teams/alpha/usage?start=2026-02-01&end=2026-01-01", "start"),
        ("/organizations/acme/usage?end=0001-01-01T00:00:00%2B14:00", "end"),
        ("/organizations/%00", "organization_id"),
        ("/models/aliases/%00", "model_alias"),
        ("/jobs/%00", "job_id"),
    ],
)
async def test_a_bad_url_is_refused(admin: Api, job: str, path: str, param: str) -> None:
    error = await admin.refused(422, "invalid_input", "GET", path.replace("{job}", job))
    assert error["param"] == param


async def test_an_unknown_route_is_404_and_a_wrong_method_405(admin: Api, anyone: Api) -> None:
    for api in (admin, anyone):
        for path in ("/", "/none", "/organizations/", "/organizations/a/b", "/jobs/x/y/z", "/health/x"):
            await api.refused(404, "route_not_found", "GET", path)
        response = await api.send("PATCH", "/organizations/create")
        assert (response.status_code, response.json()["error"]["code"]) == (405, "method_not_allowed")
        assert response.headers["allow"] == "POST"
        assert "takes POST" in response.json()["error"]["message"]


async def test_what_is_sent_is_not_repeated_in_messages(admin: Api, organization: str) -> None:
    response = await admin.send("POST", "/organizations/create", ORGANIZATION | {"name": {"password": "hunter2"}})
    assert response.status_code == 422
    assert "hunter2" not in response.text


async def test_a_fault_of_ours_is_logged_and_shows_nothing(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(Organizations, "page", broken)
    with caplog.at_level(logging.ERROR, "litellm_credits.api"):
        error = await Api(app, ADMIN_KEY).refused(500, "internal_error", "GET", "/organizations")
    assert "secret" not in json.dumps(error)
    [record] = caplog.records
    assert record.exc_info is not None
    assert "a secret of ours" in str(record.exc_info[1])


async def test_unicode_is_kept(admin: Api) -> None:
    name = "Ünïcødé 株式会社 🚀"
    made = await admin.ok(
        "POST", "/organizations/create", {"organization_id": "Ü🚀", "name": name, "metadata": {name: name}}
    )
    assert (made["name"], made["metadata"]) == (name, {name: name})
    assert await admin.ok("GET", "/organizations/%C3%9C%F0%9F%9A%80") == made


def _everything(books: Books) -> list[Any]:
    tables = ("organizations", "teams", "virtual_keys", "model_aliases", "model_access_groups", "team_credits", "jobs")
    return [books.contents(), *(books.rows(f"SELECT * FROM credits.{table} ORDER BY 1") for table in tables)]


async def _raw(api: Api, method: str, path: str, content: bytes, status: int, code: str) -> None:
    headers = {"content-type": "application/json"}
    await api.refused(status, code, method, path, content=content, headers=headers)
