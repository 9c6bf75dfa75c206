"""Reads that hang hold a bounded number of threads, and whoever comes back joins the one under way."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.registry.shared_reads import SharedReads
from tests.support.virtual_loop import pause


class Slow:
    """Reads that end when they are let go; `begun` are the keys in the order in which they got a thread."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = threading.Event()

    def read(self, key: str) -> str:
        self.begun.append(key)
        if key.startswith("quick"):
            return key
        assert self.go.wait(30)
        if key == "bad":
            raise ValueError("not what was published")
        return key.upper()


async def _gives_up(reads: SharedReads[str, str], key: str) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await reads.get(key)


def test_whoever_comes_back_joins_the_read_under_way() -> None:
    async def story() -> None:
        slow = Slow()
        reads = SharedReads(slow.read)
        await _gives_up(reads, "a")
        await _gives_up(reads, "a")
        joined = asyncio.gather(*(reads.get("a") for _ in range(3)))
        slow.go.set()
        assert await joined == ["A"] * 3
        assert slow.begun == ["a"]
        assert reads.under_way == 0

    asyncio.run(story())


def test_hung_reads_hold_a_bounded_number_of_threads() -> None:
    async def story() -> None:
        slow = Slow()
        reads = SharedReads(slow.read, at_once=2)
        for key in ("a", "b", "quick c", "d"):
            await _gives_up(reads, key)
        assert slow.begun == ["a", "b"]
        assert reads.under_way == 4
        joined = asyncio.gather(*(reads.get(key) for key in ("quick c", "d")))
        slow.go.set()
        assert await joined == ["quick c", "D"]

    asyncio.run(story())


def test_a_failure_that_nobody_waited_for_is_heard_by_the_next() -> None:
    async def story() -> None:
        slow = Slow()
        reads = SharedReads(slow.read)
        await _gives_up(reads, "bad")
        slow.go.set()
        while reads.under_way:
            await pause(0)
        for _ in range(2):  # and the one after that reads again
            with pytest.raises(ValueError, match="published"):
                await reads.get("bad")
        assert slow.begun == ["bad", "bad"]

    asyncio.run(story())
