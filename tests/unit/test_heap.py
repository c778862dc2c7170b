"""The garbage collector: what stays for good, and when it runs."""

import asyncio
import gc
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from litellm_credits.proxy.heap import Heap
from tests.ledger_rig import eventually

NOTED: ContextVar[str] = ContextVar("noted", default="nothing")


class Litter:
    """Garbage that sets a ContextVar when it is collected, as LiteLLM's streams do."""

    def __init__(self, collected: list[str]) -> None:
        self.circle = self
        self.collected = collected

    def __del__(self) -> None:
        self.collected.append(NOTED.get())
        NOTED.set("by litter")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


def serve_the_first_calls(heap: Heap) -> None:
    for _ in range(50):
        heap.served()


def litter(collected: list[str]) -> None:
    for _ in range(2 * gc.get_threshold()[0]):
        Litter(collected)


def test_what_the_first_calls_loaded_is_out_of_the_collector_s_sight_and_what_comes_later_is_not() -> None:
    heap, loaded = Heap(collects_anywhere=False), [object()]
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


async def test_where_python_collects_anywhere_garbage_waits_for_the_event_loop_and_disturbs_nobody() -> None:
    collected: list[str] = []
    serve_the_first_calls(Heap(collects_anywhere=True))
    NOTED.set("by me")
    for _ in range(3):
        collected.clear()
        litter(collected)
        assert not collected
        await eventually(lambda: collected)
        assert "by me" not in collected
        assert NOTED.get() == "by me"


async def test_elsewhere_python_collects_by_itself() -> None:
    serve_the_first_calls(Heap(collects_anywhere=False))
    collected: list[str] = []
    litter(collected)
    assert collected


async def test_a_collector_that_the_operator_has_switched_off_stays_off() -> None:
    gc.disable()
    serve_the_first_calls(Heap(collects_anywhere=True))
    collected: list[str] = []
    litter(collected)
    await asyncio.sleep(0.3)
    assert not collected
