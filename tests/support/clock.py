"""A clock that moves only when told to, with the timers and the call_soon of a real loop."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

from gateway.messages import Instant, Nanos


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Implements gateway.ports.Clock. `settle` runs what is due now, `advance` moves time and runs timers in order."""

    def __init__(self, start: Instant = 1_000_000_000) -> None:
        self._now = start
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[Instant, int, _Timer]] = []
        self._order = 0

    def now(self) -> Instant:
        return self._now

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_at(self, when: Instant, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        self._order += 1
        heapq.heappush(self._timers, (when, self._order, timer))
        return timer

    def pass_time(self, span: Nanos) -> None:
        """Moves time on without running anything: the loop is busy."""
        self._now += span

    def settle(self) -> None:
        """Runs everything that is due at this instant, also what that gives rise to (bounded)."""
        for _ in range(100_000):
            if self._soon:
                self._soon.popleft()()
            elif self._timers and self._timers[0][0] <= self._now:
                callback = heapq.heappop(self._timers)[2].callback
                if callback is not None:
                    callback()
            else:
                return
        raise AssertionError("the clock never settles: something reschedules itself without time passing")

    def advance(self, span: Nanos) -> None:
        """Moves time on by `span`, stopping at every timer on the way."""
        end = self._now + span
        self.settle()
        while self._timers and self._timers[0][0] <= end:
            self._now = max(self._now, self._timers[0][0])
            self.settle()
        self._now = end
        self.settle()

    @property
    def timers(self) -> int:
        """Timers that are armed and not cancelled."""
        return sum(1 for _, _, timer in self._timers if timer.callback is not None)
