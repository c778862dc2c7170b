"""Ids of calls: ordered by the time at which they are made, and each another."""

import time
from uuid import RFC_4122

import pytest

from litellm_credits.ledger.calls import new_call_id


def test_an_id_tells_when_it_was_made_and_sorts_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [1, 2, 2**40, 1_795_691_188_006, 1_795_691_188_007, 2**48 - 1]
    made = []
    for moment in moments:
        monkeypatch.setattr(time, "time_ns", lambda: moment * 1_000_000 + 999_999)  # noqa: B023
        made.append(new_call_id())
    assert [call_id.int >> 80 for call_id in made] == moments
    assert made == sorted(made)


def test_ids_of_the_same_moment_are_as_random_as_version_7_allows() -> None:
    made = [new_call_id() for _ in range(1000)]
    assert len(set(made)) == len(made)
    assert all((call_id.version, call_id.variant) == (7, RFC_4122) for call_id in made)
    varying = (1 << 80) - 1 & ~(0xF << 76 | 0x3 << 62)
    ones = zeros = 0
    for call_id in made:
        ones |= call_id.int
        zeros |= ~call_id.int
    assert ones & zeros & varying == varying
