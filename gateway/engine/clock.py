"""Real time: the one place that reads the clock. Tests use `tests.support.clock.ManualClock` instead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.messages import Instant
from gateway.ports import Cancellable


class LoopClock:
    """Monotonic nanoseconds and timers on the running event loop.

    uvloop's timers have millisecond grain and may fire almost a millisecond early; whoever waits for an instant
    re-checks `now()` when woken (docs/adr/0003).
    """

    __slots__ = ("_loop", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Bound directly: one attribute look-up fewer on the hot path than a method.
        self.now: Callable[[], Instant] = time.monotonic_ns  # noqa: TID251

    def call_at(self, when: Instant, callback: Callable[[], None]) -> Cancellable:
        delay = (when - self.now()) / 1e9
        return self._loop.call_later(max(delay, 0.001), callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback)


async def pause(seconds: float) -> None:
    """Suspends the calling task; the only sleep of the gateway, for back-off and polling outside the data plane."""
    await asyncio.sleep(seconds)  # noqa: TID251
