"""Large inputs go to a Triton on the same machine through memory that both have mapped (docs/adr/0017).

A batch's tensors are copied once, into a part of one region; the call carries where they are. That spares both sides
frames, copies and the kernel's way over loopback.

Invariants: a part is written only while no call refers to it, and is free again when Triton has answered the call, also
one that nobody waits for any more. Where it is not known whether Triton has done with a part (its connection broke, or
the call was reset) the part stays taken until Triton is started anew. Nothing waits for memory: whatever finds no room,
or comes before the region is registered or after it was lost, travels in the message as ever; if there can be no
region, everything does until Triton is started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import mmap
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.backends.free_list import FreeList, aligned
from gateway.errors import GatewayError
from gateway.ports import BackendRequest
from gateway.tensors import DataType
from gateway.transport.http2_pool import Spawn

_log = logging.getLogger("sluice.triton")

FOLDER = "/dev/shm"
"""Where shm_open(3) keeps its files."""
LEAST_BYTES = 16 * 1024
"""Smaller batches gain nothing (docs/performance-notes.md)."""
_SHARE = 4
"""A region takes at most this part of the memory that is free for such files, a batch this part of the region."""
_SMALLEST_REGION = 1024 * 1024
_PAGE = 4096


class Region:
    """One region as it is mapped here: its bytes and which of them are free."""

    __slots__ = ("free", "name", "view")

    def __init__(self, name: str, view: memoryview) -> None:
        self.name = name
        self.view = view
        self.free = FreeList(len(view))


@dataclass(slots=True)
class Placed:
    """Where the inputs of one execution are: (offset, bytes) of each in the region."""

    region: Region
    ranges: list[tuple[int, int]]
    offset: int
    nbytes: int


class SharedInputs:
    """The region shared with one Triton; made when it is first needed.

    `register(name, nbytes)` tells Triton of it; the file is named `prefix` and a number. It has at most `most_bytes`.
    """

    def __init__(
        self, prefix: str, most_bytes: int, register: Callable[[str, int], Awaitable[None]], spawn: Spawn
    ) -> None:
        self._prefix = prefix
        self._most_bytes = most_bytes
        self._register = register
        self._spawn = spawn
        self._numbers = itertools.count()
        self._region: Region | None = None
        self._life = 0
        self._asked = False

    def place(self, request: BackendRequest) -> Placed | None:
        """Copies the inputs of an execution into the region; None: they travel in the message."""
        sizes = [sum(map(len, chunks)) for chunks in request.chunks]
        total = sum(sizes)
        if total < LEAST_BYTES or not _suits(request, sizes):
            return None
        region = self._region
        if region is None:
            if not self._asked:
                self._asked = True
                self._spawn(self._open(), "shared inputs")
            return None
        nbytes = sum(map(aligned, sizes))
        if nbytes > len(region.view) // _SHARE or (offset := region.free.take(nbytes)) is None:
            return None
        try:
            return Placed(region, _copy(request, sizes, region.view, offset), offset, nbytes)
        except BaseException:
            region.free.give(offset, nbytes)
            raise

    def release(self, placed: Placed) -> None:
        """Triton has done with what was placed."""
        placed.region.free.give(placed.offset, placed.nbytes)

    def lose(self, region: Region | None = None) -> None:
        """Triton does not know `region` any more (None: any); the next large batch makes a new one."""
        if region is not None and region is not self._region:
            return  # heard before
        self._life += 1
        self._region = None
        self._asked = False

    async def _open(self) -> None:
        life, name = self._life, f"{self._prefix}{next(self._numbers)}"
        try:
            region = await _create_in_thread(name, self._most_bytes)
            try:
                await self._register(name, len(region.view))
            finally:
                # Both have mapped it, or will not; without a name it goes with them, however they end.
                _unlink(name)
        except (OSError, GatewayError) as error:
            _log.warning("no memory is shared with Triton, large inputs travel in messages: %s", error)
            return
        if life == self._life:
            self._region = region


def _copy(request: BackendRequest, sizes: list[int], view: memoryview, offset: int) -> list[tuple[int, int]]:
    """Writes the inputs one after the other; returns where each is."""
    ranges = []
    for chunks, size in zip(request.chunks, sizes, strict=True):
        at = offset
        for chunk in chunks:
            end = at + len(chunk)
            view[at:end] = chunk
            at = end
        ranges.append((offset, size))
        offset += aligned(size)
    return ranges


def _suits(request: BackendRequest, sizes: list[int]) -> bool:
    """Whether all inputs may be placed: not strings, whose elements Triton measures, and not what is empty."""
    return min(sizes) > 0 and all(spec.datatype is not DataType.BYTES for spec in request.head.inputs)


async def _create_in_thread(name: str, most_bytes: int) -> Region:
    """Does what `_create` does without holding up the loop. Cancelled, it leaves no file: a thread ends when it ends,
    and whoever comes second, it or this, finds the other's mark."""
    given_up = threading.Event()

    def create() -> Region:
        region = _create(name, most_bytes)
        if given_up.is_set():
            _unlink(name)
        return region

    try:
        return await asyncio.to_thread(create)
    except asyncio.CancelledError:
        given_up.set()
        _unlink(name)
        raise


def _create(name: str, most_bytes: int) -> Region:
    """Makes and maps a region of at most `most_bytes`. Raises OSError; then nothing is left of it."""
    room = os.statvfs(FOLDER)
    size = min(most_bytes, room.f_bavail * room.f_frsize // _SHARE) // _PAGE * _PAGE
    if size < min(_SMALLEST_REGION, most_bytes):
        raise OSError(f"{FOLDER} has too little room")
    file = os.open(f"{FOLDER}/{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # All of it now: memory that is not there when it is written to ends the process.
        os.posix_fallocate(file, 0, size)
        mapped = mmap.mmap(file, size)  # its pages one by one as they are used: all at once would hold up the loop
    except BaseException:
        _unlink(name)
        raise
    finally:
        os.close(file)
    return Region(name, memoryview(mapped))


def _unlink(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{FOLDER}/{name}")
