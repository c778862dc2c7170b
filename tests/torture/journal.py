"""The auditor of the torture: what the journals of all processes, the dead ones too, allow the database to say at the end."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass
class Wanted:
    """What clients wanted to become of a call."""

    settles: set[Decimal] = field(default_factory=set)
    voided: bool = False


@dataclass
class Journals:
    """All that clients wanted and were told. Keys are ids as text."""

    operations: int = 0
    holds: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    """Team and credits by operation."""
    held: dict[str, str] = field(default_factory=dict)
    """The operation of each call that a client knows of."""
    endings: defaultdict[str, Wanted] = field(default_factory=lambda: defaultdict(Wanted))
    receipts: dict[str, tuple[str, Decimal, Decimal]] = field(default_factory=dict)
    """Status, charged and uncollected, by call."""
    grants: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    granted: set[str] = field(default_factory=set)
    answers: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    @classmethod
    def read(cls, paths: Iterable[Path]) -> "Journals":
        """Read the journals. The last line of a process that was killed may be missing, never broken."""
        journals = cls()
        for path in paths:
            for line in path.read_text().splitlines():
                journals._read(line[0], *line[1:].split(" "))
        return journals

    def _read(self, mark: str, word: str, operation: str, *facts: str) -> None:
        if mark == ">":
            self.operations += 1
        else:
            self.answers[word] += 1
        match mark + word:
            case ">hold":
                self.holds[operation] = (facts[0], Decimal(facts[1]))
            case "<held":
                assert facts[0] not in self.held
                self.held[facts[0]] = operation
            case ">settle":
                self.endings[facts[0]].settles.add(Decimal(facts[1]))
            case ">void":
                self.endings[facts[0]].voided = True
            case "<settled" | "<voided":
                assert facts[0] not in self.receipts, f"call {facts[0]} was ended twice (P3)"
                self.receipts[facts[0]] = (word, Decimal(facts[1]), Decimal(facts[2]))
            case ">grant":
                self.grants[operation] = (facts[0], Decimal(facts[1]))
            case "<granted":
                self.granted.add(operation)
            case "<none" | "<lost" | "<short" | "<refused" | ">operate" | "<operated":
                pass
            case other:
                raise AssertionError(f"unknown line in a journal: {other}")

    def audit_call(self, row: Row) -> None:
        """The row of a call must be what some client wanted, and exactly what a client was told."""
        call_id, operation, status = str(row["call_id"]), row["litellm_call_id"], row["status"]
        assert self.holds[operation] == (row["team_id"], row["credits_held"]), "a call that no client asked for"
        ending = (status, row["credits_charged"], row["credits_uncollected"])
        if call_id in self.receipts:
            assert ending == self.receipts[call_id], "not what the client was told"
            return
        assert status in ("settled", "voided", "expired"), "nothing is held when all is over"
        if call_id not in self.held:  # its client died, was cancelled, or was told only of a second attempt
            assert status != "settled", "settled, though no client knew that it was held"
            return
        wanted = self.endings.get(call_id, Wanted())
        if status == "settled":
            assert row["credits_charged"] + row["credits_uncollected"] in wanted.settles
        if status == "voided":
            assert wanted.voided

    def audit_calls_known(self, call_ids: set[str]) -> None:
        """Each hold that a client was told of is there: it was durable."""
        assert self.held.keys() <= call_ids

    def audit_grants(self, rows: list[Row]) -> None:
        """Each grant, correction and refund is there once when its client was told so, at most once otherwise; no other is."""
        keys = [row["idempotency_key"] for row in rows]
        assert len(keys) == len(set(keys))
        assert self.granted <= set(keys) <= self.grants.keys()
        for row in rows:
            assert self.grants[row["idempotency_key"]] == (row["team_id"], row["credits_amount"])
