"""What is placed in shared memory and what is not; whose the parts are, and what is left of the files."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from gateway.backends import shared_inputs
from gateway.backends.shared_inputs import FOLDER, LEAST_BYTES, Placed, SharedInputs
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import RequestHead
from gateway.ports import BackendRequest
from gateway.tensors import DataType, TensorSpec
from gateway.versions import ModelVersion

MIB = 1 << 20
LARGE = 100_000


def request(*sizes: int, datatype: DataType = DataType.UINT8, members: int = 1) -> BackendRequest:
    """A batch with inputs of these many bytes from each member; each byte says whose it is."""
    specs = tuple(TensorSpec(f"i{index}", datatype, (1, size)) for index, size in enumerate(sizes))
    chunks = [[bytes([7 * index + member]) * size for member in range(members)] for index, size in enumerate(sizes)]
    shapes = tuple((members, size) for size in sizes)
    return BackendRequest(ModelVersion("m", 1), RequestHead("m", None, specs, (), {}, {}), members, shapes, chunks, 1)


class World:
    """A SharedInputs whose Triton is this test: `registered` is what it was told."""

    def __init__(self, most_bytes: int = MIB, register: Callable[[str, int], Awaitable[None]] | None = None) -> None:
        self.registered: list[tuple[str, int]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.register = register
        self.prefix = f"sluice_test_{os.getpid()}_{id(self):x}_"
        self.shared = SharedInputs(self.prefix, most_bytes, self._register, self._spawn)

    async def _register(self, name: str, nbytes: int) -> None:
        assert os.stat(f"{FOLDER}/{name}").st_size == nbytes
        assert os.stat(f"{FOLDER}/{name}").st_mode & 0o777 == 0o600
        self.registered.append((name, nbytes))
        if self.register is not None:
            await self.register(name, nbytes)

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> object:
        self.tasks.append(asyncio.ensure_future(coroutine))  # noqa: TID251
        return None

    async def opened(self) -> World:
        assert self.shared.place(request(LARGE)) is None, "there is no region yet"
        await asyncio.gather(*self.tasks)
        self.tasks.clear()
        return self

    def files(self) -> list[str]:
        return [name for name in os.listdir(FOLDER) if name.startswith(self.prefix)]

    def placed(self, *sizes: int, members: int = 1) -> Placed:
        found = self.shared.place(request(*sizes, members=members))
        assert found is not None
        return found


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_inputs_lie_where_they_are_said_to_be_and_no_file_stays() -> None:
    async def test() -> None:
        world = await World().opened()
        assert world.registered == [(f"{world.prefix}0", MIB)]
        assert world.files() == []
        one, two = world.placed(LARGE, 33, members=2), world.placed(LARGE)
        (first, size), (second, small) = one.ranges
        view = one.region.view
        assert (size, small) == (2 * LARGE, 66)
        assert view[first : first + size] == b"\0" * LARGE + b"\1" * LARGE
        assert view[second : second + small] == b"\7" * 33 + b"\x08" * 33
        assert two.offset >= one.offset + one.nbytes or one.offset >= two.offset + two.nbytes
        world.shared.release(one)
        world.shared.release(two)
        assert one.region.free.free == MIB

    run(test)


def test_what_is_small_empty_or_text_or_finds_no_room_travels_in_the_message() -> None:
    async def test() -> None:
        world = await World().opened()
        place = world.shared.place
        assert place(request(LEAST_BYTES - 1)) is None
        assert place(request(LARGE, 0)) is None
        assert place(request(LARGE, datatype=DataType.BYTES)) is None
        assert place(request(MIB // 4 + 1)) is None, "no batch takes more than a quarter"
        held = [world.placed(MIB // 4) for _ in range(4)]
        assert place(request(LARGE)) is None, "all is taken"
        world.shared.release(held[2])
        assert world.placed(LARGE).offset == held[2].offset

    run(test)


def test_only_one_region_is_made_and_none_where_nothing_is_large() -> None:
    async def test() -> None:
        world = World()
        for size in (1, LEAST_BYTES - 1, LARGE, LARGE):
            assert world.shared.place(request(size)) is None
            assert len(world.tasks) == (size == LARGE)
        await asyncio.gather(*world.tasks)
        assert len(world.registered) == 1

    run(test)


def test_a_region_that_was_lost_is_replaced_and_takes_its_parts_along() -> None:
    async def test() -> None:
        world = await World().opened()
        old = world.placed(LARGE)
        world.shared.lose()
        await world.opened()
        new = world.placed(LARGE)
        assert [name for name, _ in world.registered] == [f"{world.prefix}0", f"{world.prefix}1"]
        world.shared.release(old)
        assert new.region.free.free == MIB - new.nbytes
        world.shared.lose(old.region)
        assert world.placed(LARGE).region is new.region, "that one is gone was heard before"

    run(test)


def test_a_region_registered_with_a_triton_that_died_meanwhile_is_not_used() -> None:
    async def test() -> None:
        asked, died = asyncio.Event(), asyncio.Event()

        async def wait(name: str, nbytes: int) -> None:
            asked.set()
            await died.wait()

        world = World(register=wait)
        assert world.shared.place(request(LARGE)) is None
        await asked.wait()
        world.shared.lose()
        died.set()
        await asyncio.gather(*world.tasks)
        assert world.shared.place(request(LARGE)) is None
        assert len(world.tasks) == 2, "a new one is asked for"
        await asyncio.gather(*world.tasks)
        assert world.placed(LARGE).region.name.endswith("1")

    run(test)


@pytest.mark.parametrize("cancelled", ["before the file is made", "after it"])
def test_cancelled_while_a_thread_makes_a_region_no_file_stays(cancelled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    worlds, statvfs, allocate = list[World](), os.statvfs, os.posix_fallocate

    async def test() -> None:
        loop, reached, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def wait() -> None:
            loop.call_soon_threadsafe(reached.set)
            assert go_on.wait(60)

        if cancelled == "after it":
            monkeypatch.setattr(os, "posix_fallocate", lambda *file: (allocate(*file), wait()))
        else:
            monkeypatch.setattr(os, "statvfs", lambda folder: (wait(), statvfs(folder))[1])
        world = World()
        worlds.append(world)
        assert world.shared.place(request(LARGE)) is None
        await reached.wait()
        assert len(world.files()) == (cancelled == "after it")
        world.tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await world.tasks[0]
        go_on.set()

    run(test)  # asyncio.run waits for the thread
    assert worlds[0].files() == []
    assert worlds[0].registered == []


@pytest.mark.parametrize("reason", ["refused", "full", "no folder"])
def test_without_memory_to_share_everything_goes_on(
    reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(name: str, nbytes: int) -> None:
        raise GatewayError(ErrorCode.UNSUPPORTED, "not here")

    async def test() -> None:
        world = World(register=refuse if reason == "refused" else None)
        if reason == "full":
            monkeypatch.setattr(shared_inputs, "_SHARE", 1 << 60)
        if reason == "no folder":
            monkeypatch.setattr(shared_inputs, "FOLDER", "/dev/shm/not/there")
        await world.opened()
        assert world.shared.place(request(LARGE)) is None
        assert world.tasks == [], "it is not tried again until Triton is new"
        assert world.files() == []
        assert caplog.text.count("no memory is shared with Triton") == 1

    run(test)
