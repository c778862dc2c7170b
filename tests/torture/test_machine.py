"""A generator of operations, legal and not, and an auditor that predicts each answer exactly from a model of its own.

CREDITS_TORTURE_EXAMPLES sets how many runs Hypothesis makes; a failing run prints the steps that reproduce it.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from litellm_credits.db.database import Database
from litellm_credits.errors import BalanceTooLow, IdempotencyConflict, JobClosed, JobNotYours, NotFound, TeamSuspended
from litellm_credits.ledger.calls import Held, Receipt, Short
from litellm_credits.ledger.grants import Grants
from litellm_credits.ledger.ledger import Ledger
from litellm_credits.ledger.verify import verify
from litellm_credits.settings import Settings
from tests.ledger_rig import Rig, hold_request, settle_of, void_of

pytestmark = pytest.mark.integration

EXAMPLES = int(os.environ.get("CREDITS_TORTURE_EXAMPLES", "25"))
STEPS = 40
TEAMS = 3

credits_ = st.integers(0, 12 * 10**10).map(lambda steps: Decimal(steps).scaleb(-10)) | st.integers(0, 12).map(Decimal)
a_team = st.integers(0, TEAMS - 1)
any_place = st.integers(0, 10**6)


@dataclass
class ModelCall:
    """What the auditor knows of a call."""

    call_id: UUID
    team: "ModelTeam"
    held: Decimal
    status: str = "held"
    charged: Decimal = Decimal(0)
    uncollected: Decimal = Decimal(0)


@dataclass
class ModelTeam:
    """What the auditor knows of a team: independent of SQL, plain arithmetic."""

    team_id: str
    charge_hold: bool
    overdraft: Decimal
    allocated: Decimal
    used: Decimal = Decimal(0)
    held: Decimal = Decimal(0)
    active: bool = True
    organization_active: bool = True
    keys: dict[str, Decimal] = field(default_factory=dict)
    entries: int = 1

    @property
    def available(self) -> Decimal:
        return self.allocated - self.used - self.held + self.overdraft

    def book(self, charge: Decimal) -> None:
        self.used += charge
        self.entries += charge != 0


class Books(RuleBasedStateMachine):
    """The ledger and its auditor, step by step."""

    world: tuple[asyncio.Runner, Ledger, Rig]
    numbers: Iterator[int]

    @initialize(
        starts=st.lists(
            st.tuples(credits_, st.sampled_from([Decimal(0), Decimal(3)]), st.booleans()),
            min_size=TEAMS,
            max_size=TEAMS,
        )
    )
    def open_accounts(self, starts: list[tuple[Decimal, Decimal, bool]]) -> None:
        self.runner, self.ledger, self.rig = self.world
        self.grants = Grants(self.ledger._db)
        self.teams: list[ModelTeam] = []
        self.calls: list[ModelCall] = []
        self.jobs: list[tuple[UUID, ModelTeam, str]] = []
        for credits, overdraft, charge_hold in starts:
            name = f"team{next(self.numbers)}"
            plan: dict[str, object] = {"on_process_death": "charge_hold"} if charge_hold else {}
            self.rig.team(name, credits, overdraft=overdraft, organization=f"org-{name}", plan=plan)
            team = ModelTeam(name, charge_hold, overdraft, credits)
            team.entries = int(credits > 0)
            self.teams.append(team)

    def run(self, work: Any) -> Any:
        """The answer of the ledger, or the error that it raised."""

        async def attempt() -> Any:
            try:
                return await work
            except Exception as error:
                return error

        return self.runner.run(attempt())

    # Holds ------------------------------------------------------------------------------------------------------------

    @rule(number=a_team, credits=credits_, place=any_place, with_job=st.booleans())
    def hold(self, number: int, credits: Decimal, place: int, with_job: bool) -> None:
        team = self.teams[number]
        job = self.jobs[place % len(self.jobs)] if with_job and self.jobs else None
        answer = self.run(self.ledger.hold(hold_request(team.team_id, credits, job_id=job and job[0])))
        if not (team.active and team.organization_active):
            assert isinstance(answer, TeamSuspended), answer
        elif job and job[1] is not team:
            assert isinstance(answer, JobNotYours), answer
        elif job and job[2] not in ("pending", "in_progress"):
            assert isinstance(answer, JobClosed), answer
        elif credits > team.available:
            assert answer == Short(available=team.available, held=team.held)
        else:
            assert isinstance(answer, Held), answer
            team.held += credits
            assert (answer.credits, answer.available) == (credits, team.available)
            self.calls.append(ModelCall(answer.call_id, team, credits))
            if job:
                self.jobs[self.jobs.index(job)] = (job[0], team, "in_progress")

    @rule(number=a_team)
    def hold_for_a_job_that_does_not_exist(self, number: int) -> None:
        team = self.teams[number]
        answer = self.run(self.ledger.hold(hold_request(team.team_id, 0, job_id=uuid4())))
        assert isinstance(answer, NotFound if team.active and team.organization_active else TeamSuspended), answer

    # Endings: of any call, whatever became of it before ---------------------------------------------------------------

    @precondition(lambda self: self.calls)
    @rule(place=any_place, credits=credits_)
    def settle(self, place: int, credits: Decimal) -> None:
        call = self.calls[place % len(self.calls)]
        answer = self.run(self.ledger.end(settle_of(call.call_id, call.team.team_id, credits)))
        if call.status not in ("held", "expired"):
            assert answer is None
            return
        self._release(call)
        charge = min(credits - call.charged, call.team.available)
        call.team.book(charge)
        call.charged += charge
        call.uncollected = credits - call.charged
        call.status = "settled"
        assert answer == self._receipt(call)

    @precondition(lambda self: self.calls)
    @rule(place=any_place)
    def void(self, place: int) -> None:
        call = self.calls[place % len(self.calls)]
        answer = self.run(self.ledger.end(void_of(call.call_id, call.team.team_id)))
        if call.status != "held" and not (call.status == "expired" and call.charged):
            assert answer is None
            return
        self._release(call)
        call.team.book(-call.charged)
        call.charged = Decimal(0)
        call.status = "voided"
        assert answer == self._receipt(call)

    @precondition(lambda self: self.calls)
    @rule(places=st.lists(any_place, min_size=1, max_size=5))
    def processes_die(self, places: list[int]) -> None:
        dead = {place % len(self.calls) for place in places}
        self.rig.let_lease_run_out(*(self.calls[place].call_id for place in dead))
        expiring = [self.calls[place] for place in dead if self.calls[place].status == "held"]
        assert self.run(self.ledger.expire()) == len(expiring)
        for call in expiring:
            self._release(call)
            call.status = "expired"
            if call.team.charge_hold:
                call.charged = call.held
                call.team.book(call.held)

    @rule(number=a_team)
    def end_a_call_that_never_was(self, number: int) -> None:
        team_id = self.teams[number].team_id
        assert self.run(self.ledger.end(settle_of(uuid4(), team_id, 1))) is None
        assert self.run(self.ledger.end(void_of(uuid4(), team_id))) is None

    def _release(self, call: ModelCall) -> None:
        if call.status == "held":
            call.team.held -= call.held

    def _receipt(self, call: ModelCall) -> Receipt:
        team = call.team
        return Receipt(call.charged, call.uncollected, remaining=team.allocated - team.used, available=team.available)

    # Grants -----------------------------------------------------------------------------------------------------------

    @rule(
        number=a_team,
        credits=credits_.filter(bool),
        sign=st.sampled_from([1, 1, -1]),
        key=st.none() | st.sampled_from(["one", "two", "three"]),
    )
    def grant(self, number: int, credits: Decimal, sign: int, key: str | None) -> None:
        team, amount = self.teams[number], credits * sign
        give = self.grants.grant if sign > 0 else self.grants.adjust
        answer = self.run(give(team.team_id, amount, reason="torture", idempotency_key=key))
        if key in team.keys:
            if team.keys[key] == amount:
                assert answer.credits_amount == amount, answer
            else:
                assert isinstance(answer, IdempotencyConflict), answer
        elif sign < 0 and credits > (free := max(Decimal(0), team.available - team.overdraft)):
            assert isinstance(answer, BalanceTooLow), answer
            assert answer.facts["available"] == free
        else:
            team.allocated += amount
            team.entries += 1
            if key is not None:
                team.keys[key] = amount
            assert answer.credits_after == team.allocated - team.used, answer

    # What the operator does -------------------------------------------------------------------------------------------

    @rule(number=a_team, whole_organization=st.booleans())
    def suspend_or_resume(self, number: int, whole_organization: bool) -> None:
        team = self.teams[number]
        if whole_organization:
            team.organization_active = not team.organization_active
            table, column, key, active = (
                "organizations",
                "organization_id",
                f"org-{team.team_id}",
                team.organization_active,
            )
        else:
            team.active = not team.active
            table, column, key, active = "teams", "team_id", team.team_id, team.active
        status = "active" if active else "suspended"
        self.rig.rows(f"UPDATE credits.{table} SET status = %s WHERE {column} = %s", status, key)

    @rule(number=a_team)
    def open_job(self, number: int) -> None:
        team = self.teams[number]
        self.jobs.append((self.rig.job(team.team_id), team, "pending"))

    @precondition(lambda self: self.jobs)
    @rule(place=any_place, status=st.sampled_from(["completed", "failed", "cancelled"]))
    def close_job(self, place: int, status: str) -> None:
        place %= len(self.jobs)
        job_id, team, _ = self.jobs[place]
        self.rig.rows("UPDATE credits.jobs SET status = %s WHERE job_id = %s", status, job_id)
        self.jobs[place] = (job_id, team, status)

    # The auditor's own view, after each step --------------------------------------------------------------------------

    @invariant()
    def balances_are_as_predicted(self) -> None:
        for team in getattr(self, "teams", []):
            row = self.rig.account(team.team_id)
            assert (row["credits_allocated"], row["credits_used"], row["credits_held"]) == (
                team.allocated,
                team.used,
                team.held,
            )
            assert row["credits_remaining"] == team.allocated - team.used
            assert team.available >= 0, "P1"

    def teardown(self) -> None:
        for team in getattr(self, "teams", []):
            assert len(self.rig.entries(team.team_id)) == team.entries
            assert verify(self.rig.url, team_id=team.team_id, grace_seconds=10**6).clean
        for call in getattr(self, "calls", []):
            row = self.rig.call(call.call_id)
            assert (row["status"], row["credits_charged"], row["credits_uncollected"]) == (
                call.status,
                call.charged,
                call.uncollected,
            )
        for job_id, _, status in getattr(self, "jobs", []):
            assert self.rig.row("SELECT status FROM credits.jobs WHERE job_id = %s", job_id)["status"] == status


def test_every_answer_is_the_one_that_the_auditor_predicts(database_url: str) -> None:
    rig = Rig(database_url)
    db = Database(database_url, pool_size=2, timeout_seconds=10, prepare=True)
    with asyncio.Runner() as runner:
        runner.run(db.open())

        class Machine(Books):
            world = (runner, Ledger(db, Settings()), rig)
            numbers = count()

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
        runner.run(db.close())
    rig.close()
