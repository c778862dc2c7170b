"""The crash loop, bounded: `python -m tests.crash.loop` is the long one."""

from pathlib import Path

from .clients import Outcome
from .loop import run

ROUNDS = 7


def test_after_kills_under_load_every_credit_is_explained(tmp_path: Path) -> None:
    report = run(ROUNDS, seed=1, folder=tmp_path)
    print(report)
    assert report.problems == []
    assert report.kills.keys() == {"postgres", "backend", "worker"}
    assert report.paid + report.exceptions == report.outcomes[Outcome.SEEN] >= ROUNDS
    assert report.outcomes[Outcome.BROKEN] + report.outcomes[Outcome.REFUSED] > 0, "no kill was noticed"
    assert report.exceptions <= report.late
