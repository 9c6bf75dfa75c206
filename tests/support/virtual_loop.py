"""An event loop on which time passes only when there is nothing left to do: seconds of waiting cost nothing."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.messages import Instant
from gateway.ports import Cancellable


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = 1000.0

    def time(self) -> float:
        return self._virtual

    def _run_once(self) -> None:
        timers = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            heapq.heappop(timers)._scheduled = False
        if not self._ready and timers:  # type: ignore[attr-defined]
            self._virtual = max(self._virtual, timers[0]._when)
        super()._run_once()  # type: ignore[misc]


class VirtualClock:
    """Implements gateway.ports.Clock on a `VirtualLoop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> Instant:
        return round(self._loop.time() * 1e9)

    def call_at(self, when: Instant, callback: Callable[[], None]) -> Cancellable:
        return self._loop.call_at(when / 1e9 + 1e-6, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs `coroutine` to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(coroutine)


async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)  # noqa: TID251
