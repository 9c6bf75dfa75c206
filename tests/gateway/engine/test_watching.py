"""How often the registry is looked at, whoever asks."""

from __future__ import annotations

import asyncio
import random

from gateway.engine.watching import SourceWatch
from tests.support.swapping import Source, Swapping
from tests.support.virtual_loop import VirtualClock, pause, run


class Slow:
    """A source of which each look takes `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.looks = 0

    async def desired(self) -> dict[str, tuple[int, ...]]:
        self.looks += 1
        await pause(self.seconds)
        return {}


async def _looks(source: Slow, interval: float, storm: bool, seconds: float = 10.0) -> int:
    clock = VirtualClock(asyncio.get_running_loop())
    watch = SourceWatch(source, clock, random.Random(1), interval, {})
    running = asyncio.get_running_loop().create_task(watch.run())
    until = clock.now() + int(seconds * 1e9)
    while clock.now() < until:
        if storm:
            watch.look_now()
        await pause(0.001 if storm else 0.1)
    running.cancel()
    return source.looks


def test_without_hints_looks_come_at_their_interval() -> None:
    async def work() -> None:
        assert 9 <= await _looks(Slow(), 1.0, storm=False) <= 12

    run(work())


def test_a_storm_of_hints_is_a_look_in_a_tenth_of_a_second() -> None:
    async def work() -> None:
        assert 90 <= await _looks(Slow(), 3600.0, storm=True) <= 101

    run(work())


def test_where_looks_take_long_most_of_the_time_nobody_looks() -> None:
    async def work() -> None:
        assert await _looks(Slow(0.5), 3600.0, storm=True) == 4

    run(work())


def test_a_hint_is_followed_at_once() -> None:
    async def work() -> None:
        source = Slow()
        clock = VirtualClock(asyncio.get_running_loop())
        watch = SourceWatch(source, clock, random.Random(1), 3600.0, {})
        running = asyncio.get_running_loop().create_task(watch.run())
        await pause(10.0)
        assert source.looks == 1
        watch.look_now()
        await pause(0.001)
        assert source.looks == 2
        running.cancel()

    run(work())


def test_whatever_becomes_of_what_was_read_the_next_look_comes() -> None:
    async def work() -> None:
        source = Slow()
        watch = SourceWatch(source, VirtualClock(asyncio.get_running_loop()), random.Random(1), 1.0, {})

        def on_look() -> None:
            raise ValueError("nobody can use that")

        watch.on_look = on_look
        running = asyncio.get_running_loop().create_task(watch.run())
        await pause(10.0)
        assert source.looks >= 9
        running.cancel()

    run(work())


def test_a_look_that_hangs_is_said_to_and_its_answer_counts_all_the_same() -> None:
    async def work() -> None:
        source = Slow(25.0)
        watch = SourceWatch(source, VirtualClock(asyncio.get_running_loop()), random.Random(1), 1.0, {"m": (1,)})
        running = asyncio.get_running_loop().create_task(watch.run())
        await pause(9.0)
        assert watch.error is None
        await pause(2.0)
        assert watch.error == "the registry has not answered for 10 s"
        assert watch.desired == {"m": (1,)}
        await pause(14.1)
        assert (watch.error, watch.desired, source.looks) == (None, {}, 1)
        running.cancel()

    run(work())


def test_a_registry_that_hangs_at_the_start_does_not_keep_the_gateway_from_saying_that_it_is_up() -> None:
    async def work() -> None:
        source = Source()
        world = Swapping(source=source)
        world.manager.watch.desired = {"m": (1,)}  # from its last life
        source.desired = Slow(3600.0).desired  # type: ignore[method-assign]
        world.manager.start()
        async with asyncio.timeout(30):
            await world.manager.settled()
        assert world.service.model_ready("m", None)
        await world.manager.close()

    run(work())
