"""The garbage collector and what stays for good."""

import gc
from collections.abc import Iterator

import pytest

from litellm_credits.proxy.heap import Heap


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_the_first_calls_loaded_is_out_of_the_collector_s_sight_and_what_comes_later_is_not() -> None:
    heap, loaded = Heap(), [object()]
    for _ in range(49):
        heap.served()
    assert gc.get_freeze_count() == 0
    heap.served()
    assert gc.get_freeze_count() > 0
    assert not any(one is loaded for one in gc.get_objects())
    later = [object()]
    frozen = gc.get_freeze_count()
    for _ in range(100):
        heap.served()
    assert any(one is later for one in gc.get_objects())
    assert gc.get_freeze_count() == frozen
