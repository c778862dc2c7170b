"""What was measured, as a table with its budgets, as JSON, and as drawings."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
PARTS = ("proxy", "workers", "ledger", "growth", "soak")

_WIDTH, _HEIGHT, _MARGIN = 720, 300, 60
_COLOURS = ("#4878a8", "#c8553d", "#588157")


@dataclass(frozen=True, slots=True)
class Measure:
    """One row: the value of each round, and the budget that their median is held to."""

    name: str
    unit: str
    rounds: list[float]
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.rounds)

    @property
    def kept(self) -> bool | None:
        """Whether the budget is kept; None without one."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        budget = (
            f"≥ {self.at_least:,g}"
            if self.at_least is not None
            else f"≤ {self.at_most:,g}"
            if self.at_most is not None
            else ""
        )
        spread = f"{_shown(min(self.rounds))} … {_shown(max(self.rounds))}" if len(self.rounds) > 1 else ""
        mark = {True: "✓", False: "✗", None: ""}[self.kept]
        return self.name, f"{_shown(self.median)} {self.unit}".strip(), spread, budget, mark, self.detail


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _machine() -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    models = {
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    }
    return {
        "description": f"{os.cpu_count()} cores ({', '.join(sorted(models))}), {memory:.0f} GB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, LiteLLM {version('litellm')}",
        "commit": _said("git", "describe", "--always", "--dirty") or "unknown",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": f"{os.getloadavg()[2]:.2f}",
    }


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=False).stdout.strip()


@dataclass(slots=True)
class Part:
    """The measures of one part, and of what, when and where they were taken."""

    machine: dict[str, str] = field(default_factory=_machine)
    """As it was before."""
    measures: list[Measure] = field(default_factory=list)
    failure: str | None = None
    """Why there are no more measures."""

    def table(self) -> str:
        """Its rows, in Markdown."""
        head = ("measure", "median", "rounds", "budget", "", "")
        rows = [head, ("---",) * len(head), *(measure.cells() for measure in self.measures)]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([*lines, *([f"\n**Stopped: {self.failure}**"] if self.failure else [])])


@dataclass(slots=True)
class Report:
    """What this run measured, and of the parts that it does not measure what earlier ones did."""

    quick: bool
    parts: dict[str, Part] = field(default_factory=dict)
    latency: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    """side → [(connections, p50 in ms)]"""
    growth: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    """statement → [(calls in the database, p50 in ms)]"""

    def begin(self, name: str) -> None:
        """What is added from now on is of this part."""
        self.parts[name] = Part()
        print(name, flush=True)

    def add(self, measure: Measure) -> None:
        """Keep a row, and say it at once."""
        list(self.parts.values())[-1].measures.append(measure)
        print("  " + "  ".join(filter(None, measure.cells())), flush=True)

    def stop(self, failure: str) -> None:
        """The part ends here."""
        list(self.parts.values())[-1].failure = failure
        print(f"  {failure}", flush=True)

    @property
    def failed(self) -> bool:
        """Whether a part of this run was stopped."""
        return any(part.failure for part in self.parts.values())

    def write(self) -> list[Path]:
        """The tables, the figures behind them, and the drawings, into bench/results/; a quick run under names of its own."""
        RESULTS.mkdir(exist_ok=True)
        stem = "quick" if self.quick else "full"
        command = f"make bench{' QUICK=1' if self.quick else ''}"
        parts = _earlier(RESULTS / f"{stem}.json") | {name: asdict(part) for name, part in self.parts.items()}
        tables = [
            f"## {name}\n\n`{command}` of {part.machine['commit']}, {part.machine['at']}, on "
            f"{part.machine['description']}\n\n{part.table()}\n"
            for name, part in ((name, _part(parts[name])) for name in PARTS if name in parts)
        ]
        files = {f"{stem}.md": "\n".join(tables), f"{stem}.json": json.dumps(parts, indent=1) + "\n"}
        if self.latency:
            files[f"{stem}-latency.svg"] = _drawing("p50 of an unstreamed call, ms, by connections", self.latency)
        if self.growth:
            files[f"{stem}-growth.svg"] = _drawing("p50 of hold and settle, ms, by calls in the database", self.growth)
        for name, text in files.items():
            (RESULTS / name).write_text(text)
        return [RESULTS / name for name in files]


def _earlier(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _part(stored: dict[str, Any]) -> Part:
    return Part(**stored | {"measures": [Measure(**measure) for measure in stored["measures"]]})


def _drawing(title: str, lines: dict[str, list[tuple[str, float]]]) -> str:
    """Lines over equally spaced, named points, from 0 up, as SVG."""
    top = max(value for points in lines.values() for _, value in points) * 1.15
    names = max((([name for name, _ in points]) for points in lines.values()), key=len)
    step = (_WIDTH - 2 * _MARGIN) / max(1, len(names) - 1)

    def place(name: str, value: float) -> tuple[float, float]:
        return _MARGIN + names.index(name) * step, _HEIGHT - _MARGIN - value / top * (_HEIGHT - 2 * _MARGIN)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_MARGIN}" y="24" font-size="14">{title}</text>',
        f'<path d="M{_MARGIN} {_MARGIN}V{_HEIGHT - _MARGIN}H{_WIDTH - _MARGIN}" fill="none" stroke="#888"/>',
    ]
    for name in names:
        x, _ = place(name, 0)
        parts.append(f'<text x="{x:.0f}" y="{_HEIGHT - _MARGIN + 18}" text-anchor="middle">{name}</text>')
    for number, (label, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        parts += _line(colour, [(*place(name, value), value) for name, value in points])
        x = _MARGIN + 150 * number
        parts.append(f'<text x="{x}" y="{_HEIGHT - 14}" fill="{colour}">{label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(colour: str, points: Sequence[tuple[float, float, float]]) -> list[str]:
    path = " ".join(f"{x:.0f},{y:.0f}" for x, y, _ in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for x, y, value in points:
        parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>')
        parts.append(f'<text x="{x:.0f}" y="{y - 8:.0f}" text-anchor="middle" fill="{colour}">{_shown(value)}</text>')
    return parts
