"""Ids of calls: ordered by the time at which they are made, and each another."""

import time
from uuid import RFC_4122

from litellm_credits.ledger.calls import new_call_id


def test_an_id_tells_when_it_was_made_and_sorts_by_it() -> None:
    before = time.time_ns() // 1_000_000
    made = [new_call_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    times = [call_id.int >> 80 for call_id in made]
    assert before <= times[0]
    assert times[-1] <= after
    assert times == sorted(times)


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
