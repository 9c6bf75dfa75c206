"""Work on the registry for callers of the admin listener, in threads of its own.

A thread that hangs in a system call (a network file system that is away) can be neither cancelled nor waited for.
Invariants: whoever asks takes no thread from what the gateway needs to serve; at most `most` threads are held, and who
comes then is refused at once; they are daemons, so that a hung one does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from aiohttp import web

V = TypeVar("V")


class RegistryWork:
    """Owns the threads. Used on one event loop."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._under_way = 0

    async def run(self, work: Callable[[], V]) -> V:
        """Returns what `work` returns, or raises what it raises. Whoever leaves does not end it.

        Raises:
            HTTPServiceUnavailable: too many are under way; the registry may hang.
        """
        if self._under_way >= self._most:
            raise web.HTTPServiceUnavailable(
                reason=f"{self._under_way} requests to the registry are under way: it may hang"
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[V] = loop.create_future()

        def body() -> None:
            ended: Callable[[], None]
            try:
                ended = partial(self._succeeded, future, work())
            except Exception as error:
                ended = partial(self._failed, future, error)
            with suppress(RuntimeError):  # the loop is gone, and everybody with it
                loop.call_soon_threadsafe(ended)

        self._under_way += 1
        threading.Thread(target=body, name="registry work", daemon=True).start()
        return await future

    def _succeeded(self, future: asyncio.Future[V], value: V) -> None:
        self._under_way -= 1
        if not future.done():  # else nobody waits any more
            future.set_result(value)

    def _failed(self, future: asyncio.Future[V], error: Exception) -> None:
        self._under_way -= 1
        if not future.done():
            future.set_exception(error)
