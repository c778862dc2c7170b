"""Requests with an Idempotency-Key: done once, answered alike, whoever dies on the way."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from api_client import ADMIN_KEY, Api, Books, Team, hold, make_team, settle
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from litellm_credits.api.idempotency import Idempotent
from litellm_credits.engine import Engine
from litellm_credits.errors import RequestInFlight
from litellm_credits.models import CallBasis
from litellm_credits.tenancy.idempotency import CLAIM, Claim, IdempotencyKeys, Repeatable

MANY = 8
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
ADD = {"credits": 5}


@pytest.fixture
def once(app: FastAPI, engine: Engine) -> Api:
    """The admin's client of the API behind the layer."""
    return Api(_layer(app, engine), ADMIN_KEY)


def _layer(app: Any, engine: Engine, *, answer_bytes: int = 100_000) -> Idempotent:
    return Idempotent(
        app, engine.idempotency_keys, engine.authenticator, max_body_bytes=100_000, answer_bytes=answer_bytes
    )


async def _add(api: Api, body: object = ADD, **headers: str) -> httpx.Response:
    return await api.send("POST", "/credits/teams/alpha/add", body, headers=KEY | headers)


def _request(**changes: str) -> Repeatable:
    facts = {"scope": "admin", "method": "POST", "path": "/x", "key": "k", "fingerprint": "0" * 64}
    return Repeatable(**(facts | changes))


async def test_the_same_request_is_done_once_and_answered_alike(once: Api, team: Team, books: Books) -> None:
    first = await _add(once)
    again = await _add(once)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert [amount for _, amount, _ in books.ledger("alpha")] == [100, 5]


async def test_without_the_header_every_request_is_done(once: Api, team: Team, books: Books) -> None:
    for _ in range(2):
        await once.ok("POST", "/credits/teams/alpha/add", ADD)
    assert len(books.ledger("alpha")) == 3
    assert books.contents()["idempotency_keys"] == 0


async def test_a_key_is_taken_bare_or_quoted(once: Api, team: Team) -> None:
    first = await _add(once)
    bare = {"Idempotency-Key": KEY["Idempotency-Key"].strip('"')}
    assert (await _add(once, **bare)).content == first.content


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "two words", "ü".encode("latin-1")])
async def test_what_cannot_be_a_key_is_refused(once: Api, team: Team, books: Books, key: Any) -> None:
    await once.refused(422, "invalid_input", "POST", "/credits/teams/alpha/add", ADD, headers={"Idempotency-Key": key})
    assert len(books.ledger("alpha")) == 1


async def test_another_body_or_query_under_the_same_key_is_refused(once: Api, team: Team, books: Books) -> None:
    await _add(once)
    path = "/credits/teams/alpha/add"
    await once.refused(422, "idempotency_key_reused", "POST", path, {"credits": 6}, headers=KEY)
    await once.refused(422, "idempotency_key_reused", "POST", f"{path}?x=1", ADD, headers=KEY)
    assert len(books.ledger("alpha")) == 2


async def test_keys_are_their_callers_and_their_routes_own(once: Api, team: Team, other_team: Team) -> None:
    body = {"job_type": "test"}
    jobs = [
        await once.holding(key).ok("POST", "/jobs/create", body, headers=KEY)
        for key in (team.key, other_team.key, team.key)
    ]
    assert jobs[0] == jobs[2]
    assert jobs[0]["team_id"] != jobs[1]["team_id"]
    await _add(once)
    adjusted = await once.ok("POST", "/credits/teams/alpha/adjust", ADD | {"reason": "r"}, headers=KEY)
    assert adjusted["credits_adjusted"] == 5


async def test_a_team_made_again_under_an_old_id_is_not_answered_like_the_old_one(
    once: Api, admin: Api, team: Team
) -> None:
    body = {"job_type": "test"}
    old = await once.holding(team.key).ok("POST", "/jobs/create", body, headers=KEY)
    await admin.ok("DELETE", "/teams/alpha")
    again = await make_team(admin, "alpha")
    new = await once.holding(again.key).ok("POST", "/jobs/create", body, headers=KEY)
    assert new["job_id"] != old["job_id"]


@pytest.mark.parametrize("path", ["/jobs/%00", "/jobs/" + "x" * 2000])
async def test_paths_that_cannot_be_kept_do_no_harm(once: Api, team: Team, path: str) -> None:
    response = await once.send("DELETE", path, headers=KEY)
    assert response.status_code in (404, 422), response.text


async def test_many_at_once_are_done_once(once: Api, team: Team, books: Books) -> None:
    answers = await asyncio.gather(*(_add(once) for _ in range(MANY)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[200] >= 1
    assert set(statuses) <= {200, 409}
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 409} <= {
        "idempotency_in_flight"
    }
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 409)
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    assert len(books.ledger("alpha")) == 2


async def test_a_refusal_changes_nothing_and_is_not_kept(once: Api, admin: Api, team: Team) -> None:
    change = {"credits": -200, "reason": "r"}
    path = "/credits/teams/alpha/adjust"
    for _ in range(2):
        await once.refused(409, "balance_too_low", "POST", path, change, headers=KEY)
    await admin.ok("POST", "/credits/teams/alpha/add", {"credits": 200})
    assert (await once.ok("POST", path, change, headers=KEY))["credits_remaining"] == 100


async def test_an_unknown_callers_key_claims_nothing(once: Api, team: Team, books: Books) -> None:
    response = await _add(once.holding("sk-unknown"))
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert books.contents()["idempotency_keys"] == 0


async def test_a_clear_key_is_answered_again_but_not_readable_in_the_database(
    once: Api, team: Team, books: Books
) -> None:
    made = await once.ok("POST", "/teams/alpha/keys", headers=KEY)
    assert await once.ok("POST", "/teams/alpha/keys", headers=KEY) == made
    [row] = books.rows("SELECT answer FROM credits.idempotency_keys")
    assert made["virtual_key"].encode() not in row["answer"]
    assert b"virtual_key" not in row["answer"]


async def test_under_another_master_key_the_answer_cannot_be_shown(
    app: FastAPI, once: Api, team: Team, engine: Engine, books: Books
) -> None:
    await _add(once)
    rotated = IdempotencyKeys(engine.db, engine.settings, master_key=lambda: "sk-another")
    layer = Idempotent(app, rotated, engine.authenticator, max_body_bytes=100_000, answer_bytes=100_000)
    error = (await _add(Api(layer, ADMIN_KEY))).json()["error"]
    assert error["code"] == "idempotency_already_done"
    assert len(books.ledger("alpha")) == 2


async def test_an_answer_that_is_too_large_is_not_kept_and_the_request_not_repeated(
    app: FastAPI, engine: Engine, team: Team, books: Books
) -> None:
    api = Api(_layer(app, engine, answer_bytes=10), ADMIN_KEY)
    assert (await _add(api)).status_code == 200
    error = (await _add(api)).json()["error"]
    assert error["code"] == "idempotency_already_done"
    assert "too large" in error["message"]
    assert len(books.ledger("alpha")) == 2


# Processes that die --------------------------------------------------------------------------------------------------------


async def test_a_request_whose_process_died_before_doing_it_is_done_by_the_next(engine: Engine, books: Books) -> None:
    keys = engine.idempotency_keys
    first = await keys.claim(_request())
    assert isinstance(first, Claim)
    with pytest.raises(RequestInFlight):
        await keys.claim(_request())
    _lease_runs_out(books)
    taken = await asyncio.gather(*(keys.claim(_request()) for _ in range(MANY)), return_exceptions=True)
    assert Counter(type(one) for one in taken) == {Claim: 1, RequestInFlight: MANY - 1}


async def test_a_request_whose_process_died_after_doing_it_is_not_done_again(
    app: FastAPI, engine: Engine, team: Team, books: Books
) -> None:
    done = asyncio.Event()

    async def dies_before_it_answers(scope: Scope, receive: Receive, send: Send) -> None:
        async def mute(_: Any) -> None: ...

        await app(scope, receive, mute)
        done.set()
        await asyncio.Event().wait()

    dying = asyncio.create_task(_add(Api(_layer(dies_before_it_answers, engine), ADMIN_KEY)))
    await done.wait()
    api = Api(_layer(app, engine), ADMIN_KEY)
    assert (await _add(api)).json()["error"]["code"] == "idempotency_in_flight"
    _lease_runs_out(books)
    error = (await _add(api)).json()["error"]
    assert error["code"] == "idempotency_already_done"
    assert "lost" in error["message"]
    assert len(books.ledger("alpha")) == 2
    dying.cancel()


async def test_an_attempt_that_lost_its_claim_can_commit_nothing(
    app: FastAPI, engine: Engine, team: Team, books: Books
) -> None:
    """A process may not be dead but slow: whoever took the request over must be the only one to do it."""
    sleeping, slept = asyncio.Event(), asyncio.Event()

    async def sleeps_first(scope: Scope, receive: Receive, send: Send) -> None:
        sleeping.set()
        await slept.wait()
        await app(scope, receive, send)

    slow = asyncio.create_task(_add(Api(_layer(sleeps_first, engine), ADMIN_KEY)))
    await sleeping.wait()
    _lease_runs_out(books)
    assert (await _add(Api(_layer(app, engine), ADMIN_KEY))).status_code == 200
    slept.set()
    assert (await slow).json()["error"]["code"] == "idempotency_in_flight"
    assert len(books.ledger("alpha")) == 2


@pytest.fixture
def broken(engine: Engine, team: Team, books: Books) -> tuple[Api, list[int]]:
    """A layer over an application that holds for a call, and then ends as the test says; how often it was asked."""
    asked: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(1)
        held = await hold(engine, team)
        claim = CLAIM.get()
        assert claim is not None
        await engine.idempotency_keys.note_call(claim, held.call_id)
        if scope["path"] == "/voided":
            await settle(engine, team, held, basis=None, credits=0)
        elif scope["path"] == "/settled":
            await settle(engine, team, held)
        elif scope["path"] == "/expired":
            books.rows("UPDATE credits.llm_calls SET lease_until = now() - interval '1 second'")
            assert await engine.ledger.expire() == 1
        raise ConnectionError("the process died")

    return Api(_layer(application, engine), team.key), asked


@pytest.mark.parametrize(
    ("path", "code", "call"),
    [
        ("/held", "idempotency_in_flight", None),
        ("/settled", "idempotency_already_done", {"status": "settled", "basis": CallBasis.provider_usage.value}),
        ("/expired", "idempotency_already_done", {"status": "expired", "basis": None}),
    ],
)
async def test_a_metered_request_without_an_answer_is_not_repeated_while_it_may_cost(
    broken: tuple[Api, list[int]], books: Books, path: str, code: str, call: dict[str, str] | None
) -> None:
    api, asked = broken
    with pytest.raises(ConnectionError):
        await api.send("POST", path, {}, headers=KEY)
    error = await api.refused(409, code, "POST", path, {}, headers=KEY)
    assert len(asked) == 1
    if call is not None:
        [row] = books.rows("SELECT call_id, credits_charged FROM credits.llm_calls")
        assert error["call"].items() >= call.items()
        assert error["call"]["call_id"] == str(row["call_id"])
        assert error["call"]["credits_charged"] == float(row["credits_charged"])


async def test_a_metered_request_that_was_voided_may_be_tried_again(broken: tuple[Api, list[int]]) -> None:
    api, asked = broken
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await api.send("POST", "/voided", {}, headers=KEY)
    assert len(asked) == 2


async def test_a_lease_is_renewed_while_the_request_is_in_flight(engine: Engine, books: Books) -> None:
    keys = engine.idempotency_keys
    await keys.claim(_request())
    _lease_runs_out(books)
    await keys._renew()
    with pytest.raises(RequestInFlight):
        await keys.claim(_request())


async def test_keys_are_forgotten_after_their_time(once: Api, team: Team, engine: Engine, books: Books) -> None:
    await _add(once)
    assert await engine.idempotency_keys.sweep() == 0
    books.rows("UPDATE credits.idempotency_keys SET expires_at = now() - interval '1 second'")
    swept = await asyncio.gather(*(engine.idempotency_keys.sweep() for _ in range(3)))
    assert sum(swept) == 1
    await _add(once)
    assert len(books.ledger("alpha")) == 3


async def test_a_key_past_its_time_is_free_though_nobody_swept_it(once: Api, team: Team, books: Books) -> None:
    await _add(once)
    books.rows("UPDATE credits.idempotency_keys SET expires_at = now() - interval '1 second'")
    assert (await _add(once, {"credits": 6})).status_code == 200


async def test_without_the_database_nothing_is_done(once: Api, team: Team, engine: Engine) -> None:
    await engine.authenticator.caller(team.key)
    await engine.db.close()
    response = await _add(once)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def _lease_runs_out(books: Books) -> None:
    books.rows("UPDATE credits.idempotency_keys SET lease_until = now() - interval '1 second'")
