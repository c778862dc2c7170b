"""Grants, jobs with money, guards, refunds and refills on a real database: what each does, and what no race can make of them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tests.ledger_rig import Rig, eventually, hold_request, locked, settle_of, void_of, worker, workers

from litellm_credits.errors import (
    BadInput,
    BalanceTooLow,
    CreditsError,
    IdempotencyConflict,
    JobCannotBeHeld,
    JobClosed,
    KeyLimitReached,
    NotOpen,
    NotRefundable,
    TooManyCallsInFlight,
    TooMuchHeld,
)
from litellm_credits.jobs.jobs import Jobs
from litellm_credits.ledger.calls import Held, Short
from litellm_credits.ledger.grants import Grant, Grants, Terms
from litellm_credits.ledger.ledger import Ledger
from litellm_credits.ledger.refills import Refills, RefillTerms
from litellm_credits.ledger.refunds import Refunds
from litellm_credits.ledger.verify import verify
from litellm_credits.models import GrantKind, Job, JobExpiry, JobStatus, RefillPeriod

pytestmark = pytest.mark.integration

TOMORROW = datetime.now(UTC) + timedelta(days=1)
LATER = datetime.now(UTC) + timedelta(days=9)


@pytest.fixture
def rig(database_url: str) -> Iterator[Rig]:
    """Whatever a test did, every credit is explained after it."""
    rig = Rig(database_url)
    yield rig
    report = verify(database_url, grace_seconds=10**6)
    rig.close()
    assert report.clean, report.text()


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    async with worker(database_url, pool_size=16) as ledger:
        yield ledger


@pytest.fixture
async def grants(ledger: Ledger) -> Grants:
    return Grants(ledger._db)


@pytest.fixture
async def jobs(ledger: Ledger) -> Jobs:
    return Jobs(ledger._db)


async def give(grants: Grants, team: str, credits: object, **terms: Any) -> UUID:
    entry = await grants.grant(team, Decimal(str(credits)), reason="test", terms=Terms(**terms))
    assert entry.grant_id is not None
    return entry.grant_id


async def held(ledger: Ledger, team: str, credits: object, **more: Any) -> UUID:
    outcome = await ledger.hold(hold_request(team, credits, **more))
    assert isinstance(outcome, Held), outcome
    return outcome.call_id


async def job(jobs: Jobs, team: str, job_type: str = "test", **money: Any) -> Job:
    return await jobs.create(team, job_type=job_type, user_id=None, external_task_id=None, metadata={}, **money)


async def close(jobs: Jobs, job: Job, status: JobStatus = JobStatus.completed) -> Job:
    return await jobs.complete(job.job_id, status=status, metadata={}, error_message=None, team_id=None)


async def by_id(grants: Grants, team: str) -> dict[UUID, Grant]:
    return {grant.grant_id: grant for grant in await grants.page(team)}


def balance(rig: Rig, team: str) -> tuple[Decimal, Decimal, Decimal]:
    """Allocated, used and held."""
    row = rig.account(team)
    return row["credits_allocated"], row["credits_used"], row["credits_held"]


# Which grant pays -----------------------------------------------------------------------------------------------------


async def test_grants_burn_by_priority_then_expiry_then_creation(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team = rig.team(credits=10)
    last = await give(grants, team, 1, priority=200)
    later = await give(grants, team, 1, expires_at=LATER)
    sooner = await give(grants, team, 1, expires_at=TOMORROW)
    first = await give(grants, team, 1, priority=1, kind=GrantKind.promotional)
    await ledger.end(settle_of(await held(ledger, team, 4), team, "2.5"))
    now = await by_id(grants, team)
    assert [now[one].credits_used for one in (first, sooner, later, last)] == [1, 1, Decimal("0.5"), 0]
    await ledger.end(settle_of(await held(ledger, team, 11), team, 11))
    now = await by_id(grants, team)
    assert [now[one].credits_used for one in (later, last)] == [1, Decimal("0.5")]
    assert balance(rig, team) == (14, Decimal("13.5"), 0)


async def test_plain_grants_burn_in_the_order_of_their_creation(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team = rig.team(credits=2)
    second = await give(grants, team, 3)
    call_id = await held(ledger, team, 4)
    await ledger.end(settle_of(await held(ledger, team, 1), team, 1))
    (first,) = (one for one in (await by_id(grants, team)).values() if one.grant_id != second)
    told = (await by_id(grants, team))[second]
    assert (first.credits_used, first.credits_held, told.credits_used, told.credits_held) == (1, 1, 0, 3)
    assert rig.account(team)["credits_earmarked"] == 0
    await ledger.end(void_of(call_id, team))


@pytest.mark.parametrize(
    ("terms", "fits", "does_not"),
    [
        ({"model_aliases": ["a", "b"]}, {"aliases": ("a",)}, {"aliases": ("a", "c")}),
        ({"job_types": ["summary"]}, {"job": "summary"}, {"job": "other"}),
        ({"job_types": ["summary"]}, {"job": "summary"}, {}),
    ],
)
async def test_restricted_credits_pay_only_for_what_they_are_for(
    rig: Rig, ledger: Ledger, grants: Grants, jobs: Jobs, terms: Any, fits: Any, does_not: Any
) -> None:
    team = rig.team(credits=1)
    grant_id = await give(grants, team, 5, **terms)

    async def request(job: str | None = None, **more: Any) -> Any:
        job_id = (await make_job(job)).job_id if job else None
        return await ledger.hold(hold_request(team, 3, job_id=job_id, **more))

    async def make_job(job_type: str) -> Job:
        return await job(jobs, team, job_type)

    assert await request(**does_not) == Short(available=Decimal(1), held=Decimal(0)), "available for this call"
    outcome = await request(**fits)
    assert isinstance(outcome, Held)
    await ledger.end(settle_of(outcome.call_id, team, 3))
    assert (await by_id(grants, team))[grant_id].credits_used == 3


async def test_grant_pays_from_its_time_on_by_itself(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team = rig.team(credits=0)
    grant_id = await give(grants, team, 5, effective_at=TOMORROW)
    assert (await by_id(grants, team))[grant_id].status == "pending"
    assert await ledger.hold(hold_request(team, 1)) == Short(available=Decimal(0), held=Decimal(0))
    rig.rows("UPDATE credits.credit_grants SET effective_at = now()")
    await held(ledger, team, 5)


async def test_concurrent_holds_share_grants_and_balance_exactly(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team = rig.team(credits="1.1")
    for credits in ("0.5", "0.7"):
        await give(grants, team, credits, expires_at=TOMORROW)
    async with workers(rig.url, 12) as many:
        async with locked(rig.url, team):
            holds = [asyncio.create_task(one.hold(hold_request(team, "0.3"))) for one in many]
            await eventually(lambda: rig.waiting_for_locks() >= 12)
        outcomes = await asyncio.gather(*holds)
    calls = [outcome.call_id for outcome in outcomes if isinstance(outcome, Held)]
    assert len(calls) == 7  # of 2.3
    await asyncio.gather(*(ledger.end(settle_of(call_id, team, "0.25")) for call_id in calls))
    assert balance(rig, team) == (Decimal("2.3"), Decimal("1.75"), 0)


async def test_calls_that_grants_pay_go_together_as_all_others(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    teams = [rig.team(f"team-{n}", credits=1) for n in range(2)]
    for team in teams:
        await give(grants, team, "0.5", expires_at=TOMORROW)
        await held(ledger, team, 0)  # from now on it is known that grants pay for its calls
    outcomes = await asyncio.gather(*(ledger.hold(hold_request(team, "0.4")) for team in teams * 4))
    calls = [outcome.call_id for outcome in outcomes if isinstance(outcome, Held)]
    assert len(calls) == 6, "three of each fit"
    in_flight = "SELECT count(DISTINCT xmin::text) AS n FROM credits.llm_calls WHERE call_id = ANY(%s)"
    assert rig.row(in_flight, calls)["n"] == 1
    teams_of_calls = [team for outcome, team in zip(outcomes, teams * 4, strict=True) if isinstance(outcome, Held)]
    ends = (ledger.end(settle_of(call, team, "0.3")) for call, team in zip(calls, teams_of_calls, strict=True))
    assert None not in await asyncio.gather(*ends)
    assert rig.row(in_flight, calls)["n"] == 1
    assert [balance(rig, team) for team in teams] == [(Decimal("1.5"), Decimal("0.9"), 0)] * 2


async def test_grant_that_comes_while_a_hold_waits_is_not_taken_for_the_plain_balance(
    rig: Rig, ledger: Ledger, grants: Grants
) -> None:
    team = rig.team(credits=1)
    async with locked(rig.url, team):
        granting = asyncio.create_task(give(grants, team, 9, model_aliases=["another"]))
        await eventually(lambda: rig.waiting_for_locks() >= 1)
        holding = asyncio.create_task(ledger.hold(hold_request(team, 2)))
        await eventually(lambda: rig.waiting_for_locks() >= 2)
    await granting
    assert isinstance(await holding, Short)


async def test_charge_beyond_the_hold_takes_what_is_free_of_the_grants_that_paid(
    rig: Rig, ledger: Ledger, grants: Grants
) -> None:
    team = rig.team(credits=0)
    await give(grants, team, 5, expires_at=TOMORROW)
    call_id = await held(ledger, team, 2)
    receipt = await ledger.end(settle_of(call_id, team, 6))
    assert receipt is not None
    assert (receipt.charged, receipt.uncollected) == (5, 1)


async def test_hold_of_a_dead_worker_is_released_to_its_grants_and_settled_late(
    rig: Rig, ledger: Ledger, grants: Grants
) -> None:
    team = rig.team(credits=1)
    grant_id = await give(grants, team, 5, expires_at=TOMORROW)
    call_id = await held(ledger, team, 6)
    rig.let_lease_run_out(call_id)
    assert await ledger.expire() == 1
    assert (await by_id(grants, team))[grant_id].credits_available == 5
    assert await ledger.end(settle_of(call_id, team, 4)) is not None
    assert (await by_id(grants, team))[grant_id].credits_used == 4


# Expiry, void, adjustment ---------------------------------------------------------------------------------------------


async def test_expiry_takes_back_what_is_neither_spent_nor_held_once(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team = rig.team(credits=0)
    grant_id = await give(grants, team, 10, expires_at=TOMORROW)
    await ledger.end(settle_of(await held(ledger, team, 2), team, 2))
    call_id = await held(ledger, team, 3)
    rig.rows("UPDATE credits.credit_grants SET expires_at = now()")
    assert isinstance(await ledger.hold(hold_request(team, 1)), Short), "from its time on, swept or not"
    assert sum(await asyncio.gather(*(Grants(ledger._db).end_expired() for _ in range(6)))) == 1
    assert balance(rig, team) == (5, 2, 3)
    await ledger.end(settle_of(call_id, team, 1))
    assert sum(await asyncio.gather(*(Grants(ledger._db).end_expired() for _ in range(6)))) == 1
    assert balance(rig, team) == (3, 3, 0)
    told = (await by_id(grants, team))[grant_id]
    assert (told.status, told.credits_taken, told.credits_left) == ("expired", 7, 0)
    assert [entry["transaction_type"] for entry in rig.entries(team)] == [
        "allocation",
        "charge",
        "expiry",
        "charge",
        "expiry",
    ]
    assert rig.row("SELECT count(*) AS n FROM credits.credit_grants WHERE ended_at IS NULL")["n"] == 0


async def test_what_a_late_void_gives_back_to_an_expired_grant_is_taken_back_too(
    rig: Rig, ledger: Ledger, grants: Grants
) -> None:
    team = rig.team(credits=0, plan={"on_process_death": "charge_hold"})
    await give(grants, team, 3, expires_at=TOMORROW)
    call_id = await held(ledger, team, 3)
    rig.let_lease_run_out(call_id)
    await ledger.expire()
    rig.rows("UPDATE credits.credit_grants SET expires_at = now()")
    await grants.end_expired()
    assert balance(rig, team) == (3, 3, 0)
    await ledger.end(void_of(call_id, team))
    await grants.end_expired()
    assert balance(rig, team) == (0, 0, 0)


async def test_rollover_keeps_so_much_once(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team = rig.team(credits=0)
    await give(grants, team, 10, expires_at=TOMORROW, rollover_credits=Decimal(4), rollover_days=30)
    rig.rows("UPDATE credits.credit_grants SET expires_at = now()")
    assert await grants.end_expired() == 2
    assert balance(rig, team) == (4, 0, 0)
    rig.rows("UPDATE credits.credit_grants SET expires_at = now() WHERE ended_at IS NULL")
    assert await grants.end_expired() == 1
    assert balance(rig, team) == (0, 0, 0)


async def test_rollover_keeps_no_more_where_calls_end_one_after_the_other(
    rig: Rig, ledger: Ledger, grants: Grants
) -> None:
    team = rig.team(credits=0)
    await give(grants, team, 10, expires_at=TOMORROW, rollover_credits=Decimal(4))
    calls = [await held(ledger, team, 3) for _ in range(3)]
    rig.rows("UPDATE credits.credit_grants SET expires_at = now()")
    await grants.end_expired()
    assert balance(rig, team) == (10, 0, 9), "the one that was left"
    for call_id in calls:
        await ledger.end(void_of(call_id, team))
        await grants.end_expired()
    assert balance(rig, team) == (4, 0, 0)


@pytest.mark.parametrize("terms", [{}, {"expires_at": TOMORROW}])
async def test_void_takes_back_what_is_neither_spent_nor_held(
    rig: Rig, ledger: Ledger, grants: Grants, terms: Any
) -> None:
    team = rig.team(credits=0)
    grant_id = await give(grants, team, 10, **terms)
    await ledger.end(settle_of(await held(ledger, team, 2), team, 2))
    call_id = await held(ledger, team, 3)
    first, second = await asyncio.gather(*(grants.void(grant_id, team_id=team, reason="wrong") for _ in range(2)))
    assert first == second
    assert (first.status, first.credits_taken, first.credits_held) == ("voided", 5, 3)
    assert balance(rig, team) == (5, 2, 3)
    await ledger.end(void_of(call_id, team))
    await grants.end_expired()
    assert balance(rig, team)[0] == (2 if terms else 5)


async def test_expired_grant_cannot_be_voided(rig: Rig, grants: Grants) -> None:
    team = rig.team()
    grant_id = await give(grants, team, 10, expires_at=TOMORROW)
    rig.rows("UPDATE credits.credit_grants SET expires_at = now() WHERE earmarked")
    with pytest.raises(NotOpen):
        await grants.void(grant_id, team_id=team, reason="late")


async def test_adjustment_takes_of_the_plain_balance_the_newest_first(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team = rig.team(credits=2, overdraft=5)
    newest = await give(grants, team, 3)
    await give(grants, team, 9, expires_at=TOMORROW)
    with pytest.raises(BalanceTooLow) as refusal:
        await grants.adjust(team, Decimal(-6), reason="test")
    assert refusal.value.facts["available"] == 5
    await grants.adjust(team, Decimal(-4), reason="test")
    assert (await by_id(grants, team))[newest].credits_taken == 3
    assert balance(rig, team)[0] == 10


async def test_grant_is_given_once_per_key_and_only_for_the_same_terms(rig: Rig, grants: Grants) -> None:
    team = rig.team()

    async def once(**terms: Any) -> int:
        entry = await grants.grant(team, Decimal(5), reason="r", terms=Terms(**terms), idempotency_key="k")
        return entry.transaction_id

    async with locked(rig.url, team):
        tasks = [asyncio.create_task(once(expires_at=TOMORROW)) for _ in range(5)]
        await eventually(lambda: rig.waiting_for_locks() >= 5)
    assert len(set(await asyncio.gather(*tasks))) == 1
    with pytest.raises(IdempotencyConflict):
        await once(expires_at=LATER)
    assert balance(rig, team)[0] == 15


async def test_a_grant_that_has_expired_meanwhile_is_repeated_like_any_other(rig: Rig, grants: Grants) -> None:
    team, soon = rig.team(), datetime.now(UTC) + timedelta(seconds=0.5)

    async def send(terms: Terms) -> object:
        return await grants.grant(team, Decimal(1), reason="test", terms=terms, idempotency_key="k")

    first = await send(Terms(expires_at=soon))
    await eventually(lambda: datetime.now(UTC) > soon)
    await grants.end_expired()
    assert await send(Terms(expires_at=soon)) == first
    with pytest.raises(IdempotencyConflict):
        await send(Terms(expires_at=soon - timedelta(hours=1)))


async def test_grant_that_never_could_pay_is_refused(rig: Rig, grants: Grants) -> None:
    with pytest.raises(BadInput):
        await give(grants, rig.team(), 1, effective_at=LATER, expires_at=TOMORROW)


# Refunds --------------------------------------------------------------------------------------------------------------


async def test_refunds_of_a_call_never_exceed_its_charge(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team, refunds = rig.team(credits=2), Refunds(ledger._db)
    grant_id = await give(grants, team, 3, expires_at=TOMORROW)
    call_id = await held(ledger, team, 5)
    await ledger.end(settle_of(call_id, team, "4.5"))

    async def refund(credits: object) -> bool:
        try:
            await refunds.refund(call_id=call_id, credits=Decimal(str(credits)), reason="test")
        except NotRefundable:
            return False
        return True

    assert sum(await asyncio.gather(*(refund(1) for _ in range(8)))) == 4
    assert (await by_id(grants, team))[grant_id].credits_used == Decimal("0.5"), "the plain balance burnt last"
    await refunds.refund(call_id=call_id, reason="the rest")
    assert balance(rig, team) == (5, 0, 0)
    with pytest.raises(NotRefundable):
        await refunds.refund(call_id=call_id, reason="again")


async def test_refund_works_once_per_key(rig: Rig, ledger: Ledger) -> None:
    team, refunds = rig.team(), Refunds(ledger._db)
    call_id = await held(ledger, team, 5)
    await ledger.end(settle_of(call_id, team, 5))
    entries = await asyncio.gather(
        *(refunds.refund(call_id=call_id, credits=Decimal(1), reason="r", idempotency_key="k") for _ in range(5))
    )
    assert len({entry.transaction_id for entry in entries}) == 1
    with pytest.raises(IdempotencyConflict):
        await refunds.refund(call_id=call_id, credits=Decimal(2), reason="r", idempotency_key="k")
    assert balance(rig, team) == (10, 4, 0)


async def test_refund_of_expired_credits_is_a_compensation(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team = rig.team(credits=0)
    grant_id = await give(grants, team, 3, expires_at=TOMORROW)
    call_id = await held(ledger, team, 3)
    await ledger.end(settle_of(call_id, team, 3))
    rig.rows("UPDATE credits.credit_grants SET expires_at = now()")
    await grants.end_expired()
    await Refunds(ledger._db).refund(call_id=call_id, credits=Decimal(2), reason="test")
    assert balance(rig, team) == (3, 1, 0)
    (compensation,) = (one for one in await grants.page(team) if one.grant_id != grant_id)
    assert (compensation.kind, compensation.credits_available, compensation.expires_at) == ("compensation", 2, None)


async def test_late_settle_after_a_refund_changes_nothing(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(plan={"on_process_death": "charge_hold"})
    call_id = await held(ledger, team, 4)
    rig.let_lease_run_out(call_id)
    await ledger.expire()
    await Refunds(ledger._db).refund(call_id=call_id, reason="test")
    assert await ledger.end(settle_of(call_id, team, 1)) is None
    assert balance(rig, team) == (10, 0, 0)


# Jobs with money ------------------------------------------------------------------------------------------------------


async def test_calls_of_a_capped_job_draw_on_its_hold_and_never_above_it(
    rig: Rig, ledger: Ledger, grants: Grants, jobs: Jobs
) -> None:
    team = rig.team(credits=10)
    await give(grants, team, "0.5", expires_at=TOMORROW)
    capped = await job(jobs, team, credit_cap=Decimal(1))
    assert balance(rig, team)[2] == 1
    async with workers(rig.url, 10) as many:
        async with locked(rig.url, team):
            holds = [asyncio.create_task(one.hold(hold_request(team, "0.3", job_id=capped.job_id))) for one in many]
            await eventually(lambda: rig.waiting_for_locks() >= 10)
        outcomes = await asyncio.gather(*holds)
    calls = [outcome.call_id for outcome in outcomes if isinstance(outcome, Held)]
    assert len(calls) == 3
    refused = await ledger.hold(hold_request(team, "0.3", job_id=capped.job_id))
    assert refused == Short(available=Decimal("0.1"), held=Decimal("0.9"))
    assert balance(rig, team)[2] == 1
    await ledger.end(settle_of(calls[0], team, "0.1"))
    await ledger.end(void_of(calls[1], team))
    await held(ledger, team, "0.6", job_id=capped.job_id)
    await ledger.end(settle_of(calls[2], team, 5))
    assert rig.call(calls[2])["credits_charged"] == Decimal("0.3"), "never above the cap"
    done = await close(jobs, capped)
    assert (done.credits_held, balance(rig, team)) == (0, (Decimal("10.5"), Decimal("0.4"), Decimal("0.6")))
    last = next(call for call in rig.calls(team) if call["status"] == "held")
    await ledger.end(settle_of(last["call_id"], team, "0.5"))
    assert balance(rig, team) == (Decimal("10.5"), Decimal("0.9"), 0)


@pytest.mark.parametrize(
    ("status", "used"), [(JobStatus.completed, 2), (JobStatus.failed, 0), (JobStatus.cancelled, 0)]
)
async def test_price_of_a_job_is_held_then_charged_or_released_once(
    rig: Rig, ledger: Ledger, jobs: Jobs, status: JobStatus, used: int
) -> None:
    team = rig.team(plan={"budget_mode": "job_based", "credits_by_job_type": {"big": "2"}})
    big = await job(jobs, team, "big")
    rig.rows("UPDATE credits.teams SET plan = '{}'")  # changes nothing for this job
    assert balance(rig, team) == (10, 0, 2)
    call_id = await held(ledger, team, 9, job_id=big.job_id)
    assert rig.call(call_id)["credits_held"] == 0
    await ledger.end(settle_of(call_id, team, 5, cost_usd=Decimal("0.5")))
    assert (rig.call(call_id)["credits_charged"], rig.call(call_id)["cost_usd"]) == (0, Decimal("0.5"))
    assert rig.call(call_id)["flags"] == []
    await asyncio.gather(*(close(jobs, big, status) for _ in range(5)))
    assert balance(rig, team) == (10, used, 0)
    assert len(rig.entries(team)) == (2 if used else 1)


async def test_hybrid_charges_job_and_usage_and_both_can_be_refunded(rig: Rig, ledger: Ledger, jobs: Jobs) -> None:
    team = rig.team(plan={"budget_mode": "hybrid", "credits_per_job": "3"})
    one = await job(jobs, team, credit_cap=Decimal(2))
    assert balance(rig, team)[2] == 5
    assert isinstance(await ledger.hold(hold_request(team, 3, job_id=one.job_id)), Short), "the price is not for calls"
    await ledger.end(settle_of(await held(ledger, team, 2, job_id=one.job_id), team, 1))
    await close(jobs, one)
    assert balance(rig, team) == (10, 4, 0)
    refunds = Refunds(ledger._db)
    await refunds.refund(job_id=one.job_id, credits=Decimal("3.5"), reason="test")
    with pytest.raises(NotRefundable):
        await refunds.refund(job_id=one.job_id, credits=Decimal(1), reason="test")
    await refunds.refund(job_id=one.job_id, reason="the rest")
    assert balance(rig, team) == (10, 0, 0)


async def test_job_that_cannot_be_held_is_not_made(rig: Rig, jobs: Jobs) -> None:
    team = rig.team(credits=1)
    with pytest.raises(JobCannotBeHeld) as refusal:
        await job(jobs, team, credit_cap=Decimal(2))
    assert (refusal.value.facts["required"], refusal.value.facts["available"]) == (2, 1)
    assert refusal.value.facts["retry_may_help"] is False
    outcomes = await asyncio.gather(
        *(job(jobs, team, credit_cap=Decimal("0.4")) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Job) for outcome in outcomes) == 2
    refusals = [outcome for outcome in outcomes if isinstance(outcome, JobCannotBeHeld)]
    assert [error.facts["retry_may_help"] for error in refusals] == [True] * 3
    assert rig.row("SELECT count(*) AS n FROM credits.jobs")["n"] == 2


@pytest.mark.parametrize(("on_expiry", "status", "used"), [("cancel", "cancelled", 0), ("complete", "completed", 1)])
async def test_job_expires_once_as_it_says(
    rig: Rig, ledger: Ledger, jobs: Jobs, on_expiry: str, status: str, used: int
) -> None:
    team = rig.team(plan={"budget_mode": "job_based"})
    one = await job(jobs, team, expires_at=TOMORROW, on_expiry=JobExpiry(on_expiry))
    assert await jobs.end_expired() == 0
    rig.rows("UPDATE credits.jobs SET expires_at = now()")
    assert sum(await asyncio.gather(*(Jobs(ledger._db).end_expired() for _ in range(5)))) == 1
    assert (await jobs.get(one.job_id, team_id=None)).status == status
    assert balance(rig, team) == (10, used, 0)


@pytest.mark.parametrize(
    ("plan", "cap"),
    [({}, None), ({}, Decimal(2)), ({"budget_mode": "job_based"}, None), ({"budget_mode": "hybrid"}, None)],
    ids=["plain", "capped", "job_based", "hybrid"],
)
async def test_a_job_takes_no_call_from_its_expiry_on_swept_or_not(
    rig: Rig, ledger: Ledger, jobs: Jobs, plan: dict[str, object], cap: Decimal | None
) -> None:
    team = rig.team(plan=plan)
    one = await job(jobs, team, expires_at=TOMORROW, credit_cap=cap)
    call_id = await held(ledger, team, 1, job_id=one.job_id)
    rig.rows("UPDATE credits.jobs SET expires_at = now()")
    with pytest.raises(JobClosed):
        await ledger.hold(hold_request(team, 1, job_id=one.job_id))
    await ledger.end(settle_of(call_id, team, 1))


async def test_deleting_a_job_releases_what_it_and_its_calls_hold(
    rig: Rig, ledger: Ledger, grants: Grants, jobs: Jobs
) -> None:
    team = rig.team()
    await give(grants, team, 1, expires_at=TOMORROW)
    one = await job(jobs, team, credit_cap=Decimal(4))
    await held(ledger, team, 2, job_id=one.job_id)
    await jobs.delete(one.job_id, team_id=None)
    assert balance(rig, team) == (11, 0, 0)


async def test_holds_and_settles_racing_the_end_of_their_job(rig: Rig, ledger: Ledger, jobs: Jobs) -> None:
    team = rig.team(credits=100)
    for _ in range(6):
        one = await job(jobs, team, credit_cap=Decimal(5))
        first = await held(ledger, team, 1, job_id=one.job_id)

        async def work(one: Job = one) -> None:
            try:
                outcome = await ledger.hold(hold_request(team, 1, job_id=one.job_id))
            except CreditsError:
                return
            if isinstance(outcome, Held):
                await ledger.end(settle_of(outcome.call_id, team, "0.5"))

        await asyncio.gather(*(work() for _ in range(4)), close(jobs, one), ledger.end(settle_of(first, team, 1)))
    assert balance(rig, team)[2] == 0


# Guards ---------------------------------------------------------------------------------------------------------------


async def test_no_more_calls_in_flight_than_the_plan_allows(rig: Rig, ledger: Ledger) -> None:
    team = rig.team(plan={"max_calls_in_flight": 3})
    async with workers(rig.url, 4) as many:
        async with locked(rig.url, team):
            holds = [asyncio.create_task(one.hold(hold_request(team, "0.1"))) for one in many * 2]
            await eventually(lambda: rig.waiting_for_locks() >= 4)
        outcomes = await asyncio.gather(*holds, return_exceptions=True)
    assert sum(isinstance(outcome, Held) for outcome in outcomes) == 3
    assert sum(isinstance(outcome, TooManyCallsInFlight) for outcome in outcomes) == 5
    call_id = next(outcome.call_id for outcome in outcomes if isinstance(outcome, Held))
    await ledger.end(void_of(call_id, team))
    await held(ledger, team, 1)


async def test_no_more_is_held_than_the_plan_s_share(rig: Rig, ledger: Ledger, jobs: Jobs) -> None:
    team = rig.team(plan={"max_held_share": "0.5"})
    await held(ledger, team, 3)
    with pytest.raises(TooMuchHeld):
        await ledger.hold(hold_request(team, "2.1"))
    with pytest.raises(TooMuchHeld):
        await job(jobs, team, credit_cap=Decimal(3))
    await held(ledger, team, 2)


async def test_key_spends_no_more_than_its_limit(rig: Rig, ledger: Ledger) -> None:
    team = rig.team()
    key_id = rig.key(team, credit_limit=1)
    async with workers(rig.url, 6) as many:
        async with locked(rig.url, team):
            holds = [asyncio.create_task(one.hold(hold_request(team, "0.4", key_id=key_id))) for one in many]
            await eventually(lambda: rig.waiting_for_locks() >= 6)
        outcomes = await asyncio.gather(*holds, return_exceptions=True)
    calls = [outcome.call_id for outcome in outcomes if isinstance(outcome, Held)]
    assert len(calls) == 2
    refusals = [outcome for outcome in outcomes if isinstance(outcome, KeyLimitReached)]
    facts = {(error.facts["available"], error.facts["held"], error.facts["retry_may_help"]) for error in refusals}
    assert (len(refusals), facts) == (4, {(Decimal("0.2"), Decimal("0.8"), True)})
    await ledger.end(settle_of(calls[0], team, "0.3"))
    rig.let_lease_run_out(calls[1])
    await ledger.expire()
    key = rig.row("SELECT * FROM credits.virtual_keys")
    assert (key["credits_used"], key["credits_held"]) == (Decimal("0.3"), 0)
    await Refunds(ledger._db).refund(call_id=calls[0], reason="test")
    await held(ledger, team, 1, key_id=key_id)


# Refills --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "starts", "dates"),
    [
        (RefillPeriod.monthly, datetime(2026, 1, 31, 12, tzinfo=UTC), ["01-31", "02-28", "03-31", "04-30"]),
        (RefillPeriod.weekly, datetime(2026, 3, 25, tzinfo=UTC), ["03-25", "04-01", "04-08", "04-15"]),
        (RefillPeriod.daily, datetime(2026, 2, 27, 23, 30, tzinfo=UTC), ["02-27", "02-28", "03-01", "03-02"]),
    ],
)
async def test_periods_follow_the_calendar_and_are_caught_up_once(
    rig: Rig, ledger: Ledger, grants: Grants, period: RefillPeriod, starts: datetime, dates: list[str]
) -> None:
    team = rig.team(credits=0)
    refills = [Refills(ledger._db) for _ in range(4)]
    await refills[0].set(team, RefillTerms(period=period, credits=Decimal(2), starts_at=starts))
    begun = sum(await asyncio.gather(*(one.grant_due() for one in refills)))
    assert begun == rig.row("SELECT periods FROM credits.refills")["periods"]
    assert balance(rig, team)[0] == 2 * begun
    reasons = [grant.reason for grant in reversed(await grants.page(team, limit=1000))]
    assert reasons[:4] == [f"Refill ({period}) of 2026-{date}" for date in dates]
    next_at = rig.row("SELECT next_at FROM credits.refills")["next_at"]
    assert next_at > datetime.now(UTC)
    assert (next_at.astimezone(UTC).hour, next_at.astimezone(UTC).minute) == (starts.hour, starts.minute), "no drift"
    assert await refills[0].grant_due() == 0


async def test_lapsing_refills_leave_only_this_period_s(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team, refills = rig.team(credits=0), Refills(ledger._db)
    starts = datetime.now(UTC) - timedelta(days=2, hours=1)
    await refills.set(team, RefillTerms(RefillPeriod.daily, Decimal(2), starts, lapses=True))
    assert await refills.grant_due() == 3
    await grants.end_expired()
    assert balance(rig, team) == (2, 0, 0)


async def test_between_lapsing_refills_is_no_gap(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team, refills = rig.team(credits=0), Refills(ledger._db)
    turn = datetime.now(UTC) + timedelta(seconds=1.5)
    await refills.set(team, RefillTerms(RefillPeriod.daily, Decimal(2), turn - timedelta(days=1), lapses=True))
    assert sum(await asyncio.gather(*(Refills(ledger._db).grant_due() for _ in range(3)))) == 2
    assert sorted(grant.status for grant in await grants.page(team)) == ["active", "pending"]
    while datetime.now(UTC) < turn + timedelta(seconds=0.2):
        call_id = await held(ledger, team, 2)
        await ledger.end(void_of(call_id, team))
    assert isinstance(await ledger.hold(hold_request(team, 3)), Short)
    assert await refills.grant_due() == 0


async def test_a_refill_that_cannot_be_given_holds_up_no_other_team_s(rig: Rig, ledger: Ledger) -> None:
    refills, now = Refills(ledger._db), datetime.now(UTC)
    full, other = rig.team("full", credits=99 * 10**12), rig.team("other", credits=0)
    await refills.set(full, RefillTerms(RefillPeriod.daily, Decimal(9 * 10**12), now - timedelta(hours=2)))
    await refills.set(other, RefillTerms(RefillPeriod.daily, Decimal(2), now - timedelta(hours=1)))
    assert await refills.grant_due() == 1
    assert balance(rig, other)[0] == 2


async def test_what_calls_hold_of_restricted_grants_hides_no_low_balance(
    rig: Rig, ledger: Ledger, grants: Grants
) -> None:
    team, refills = rig.team(credits=1), Refills(ledger._db)
    await give(grants, team, 90, model_aliases=["gpt"])
    await held(ledger, team, 90, aliases=("gpt",))
    await refills.set(team, RefillTerms(threshold=Decimal(5), target=Decimal(20)))
    assert await refills.ask() == 1


async def test_low_balance_asks_once_and_an_answer_closes_it(rig: Rig, ledger: Ledger, grants: Grants) -> None:
    team, refills = rig.team(credits=3), Refills(ledger._db)
    await refills.set(team, RefillTerms(threshold=Decimal(5), target=Decimal(20), monthly_cap=Decimal(25)))
    assert sum(await asyncio.gather(*(Refills(ledger._db).ask() for _ in range(5)))) == 1
    (request,) = await refills.requests(team, status=None, before=None, limit=10)
    assert (request.credits, request.balance) == (17, 3)
    answers = await asyncio.gather(*(refills.fulfil(team, request.request_id, reason="paid") for _ in range(4)))
    assert len({answer.transaction_id for answer in answers}) == 1
    assert balance(rig, team)[0] == 20
    await grants.adjust(team, Decimal(-18), reason="spent")
    assert await refills.ask() == 1
    newest = (await refills.requests(team, status=None, before=None, limit=1))[0]
    assert newest.credits == 8, "what the monthly cap leaves"
    await give(grants, team, 10)
    await refills.ask()
    with pytest.raises(NotOpen):
        await refills.fulfil(team, newest.request_id, reason="late")
