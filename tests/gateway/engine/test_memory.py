"""Versions that are gone leave nothing behind, however many there were."""

from __future__ import annotations

import gc
import sys

from gateway.core.merging import HeadCache
from gateway.tensors import DataType, TensorSpec
from gateway.wire.interning import Generations
from tests.support.swapping import Swapping
from tests.support.virtual_loop import pause, run


async def _swaps(world: Swapping, numbers: range) -> None:
    for number in numbers:
        await world.want(number)
        callers = [world.ask(100_000) for _ in range(3)]  # whose timers must not outlive the version
        await pause(3)
        assert all(caller.response for caller in callers)
        assert world.service.ready_versions("m") == (str(number),)
        world.observer.requests.clear()
        world.observer.batches.clear()
        world.observer.states.clear()
        for one in world.replicas:
            one.loads.clear()
    await world.manager.settled()
    gc.collect()


async def _flat() -> None:
    world = Swapping(replicas=2)
    world.manager.start()
    await _swaps(world, range(1, 12))
    least = [1 << 30, 1 << 30]
    for first in (12, 112, 212):  # what leaks grows every time; what others in this process do does not
        before = len(gc.get_objects()), sys.getallocatedblocks()
        await _swaps(world, range(first, first + 100))
        grown = len(gc.get_objects()) - before[0], sys.getallocatedblocks() - before[1]
        least = [min(pair) for pair in zip(least, grown, strict=True)]
    assert least[0] < 50, f"{least[0]} objects more after 100 more swaps"
    assert least[1] < 500, f"{least[1]} blocks more after 100 more swaps"
    await world.manager.close()


def test_a_hundred_swaps_leave_the_engine_as_it_was() -> None:
    run(_flat())


def test_response_heads_of_a_version_are_forgotten() -> None:
    heads, outputs = HeadCache(), (TensorSpec("y", DataType.FP32, (4, 2)),)
    kept = heads.get(("m", "1"), outputs, 2)
    for rows in (1, 2, 3, None):
        heads.get(("m", "2"), outputs, rows)
    heads.forget(("m", "2"))
    assert len(heads) == 1
    assert heads.get(("m", "1"), outputs, 2) is kept


def test_discarding_from_both_halves_frees_their_room() -> None:
    cache: Generations[int] = Generations(entries=8, size=1000)
    for number in range(6):
        cache.put(("gone" if number % 2 else "kept", number), number, 100)
    cache.discard(lambda key: key[0] == "gone")  # type: ignore[index]
    assert len(cache) == 3
    assert [cache.get(("kept", number)) for number in (0, 2, 4)] == [0, 2, 4]
    assert cache.get(("gone", 5)) is None
    for number in range(100, 104):
        cache.put(("new", number), number, 100)
    assert cache.get(("new", 103)) == 103
