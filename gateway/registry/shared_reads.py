"""Reads that may hang: one per key at a time, shared by everybody who wants it, in a bounded number of threads.

A thread that hangs in a system call (a network file system that is away) can be neither cancelled nor waited for.
Invariants: whoever stops waiting ends nothing but its own waiting, and who comes back joins the same read; at most
`at_once` threads are held, whatever hangs; they are daemons, so that a hung one does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from gateway.errors import SourceUnreadable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MOST_WAITING = 256
_MOST_UNHEARD = 64


class SharedReads(Generic[K, V]):
    """Owns the reads under way, and failures that nobody has heard yet. `read` blocks; used on one event loop."""

    def __init__(self, read: Callable[[K], V], at_once: int = 4) -> None:
        self._read = read
        self._free = at_once
        self._reads: dict[K, asyncio.Future[V]] = {}
        self._waiting: deque[K] = deque()

    @property
    def under_way(self) -> int:
        """Reads that were begun or wait for a thread."""
        return sum(not future.done() for future in self._reads.values())

    async def get(self, key: K) -> V:
        """Returns what reading `key` gives; joins the read that is under way, or hears how the last one failed.

        Raises:
            SourceUnreadable: so many reads hang that this one cannot even be queued.
            Exception: whatever `read` raised.
        """
        future = self._reads.get(key)
        if future is None:
            if len(self._waiting) >= _MOST_WAITING:
                raise SourceUnreadable(f"{len(self._waiting)} reads wait for others that hang")
            future = self._reads[key] = asyncio.get_running_loop().create_future()
            self._waiting.append(key)
            self._begin()
        try:
            return await asyncio.shield(future)
        finally:
            if future.done() and self._reads.get(key) is future:
                del self._reads[key]

    def _begin(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            key, loop = self._waiting.popleft(), asyncio.get_running_loop()
            threading.Thread(target=self._run, args=(key, loop), name=f"read {key}", daemon=True).start()

    def _run(self, key: K, loop: asyncio.AbstractEventLoop) -> None:
        ended: Callable[[], None]
        try:
            value = self._read(key)
        except BaseException as error:
            ended = partial(self._failed, key, error)
        else:
            ended = partial(self._succeeded, key, value)
        with suppress(RuntimeError):  # the loop is gone, and everybody with it
            loop.call_soon_threadsafe(ended)

    def _succeeded(self, key: K, value: V) -> None:
        # What was read is where the next reader looks first; nothing need be kept for it.
        self._reads.pop(key).set_result(value)
        self._next()

    def _failed(self, key: K, error: BaseException) -> None:
        future = self._reads[key]
        future.set_exception(error)
        future.exception()  # heard, as far as asyncio is concerned
        unheard = [other for other, read in self._reads.items() if read.done()]
        for other in unheard[: max(0, len(unheard) - _MOST_UNHEARD)]:
            del self._reads[other]
        self._next()

    def _next(self) -> None:
        self._free += 1
        self._begin()
