"""Measures how late the event loop runs its timers: what every request waits for besides its own work."""

from __future__ import annotations

from gateway.messages import Instant, Nanos
from gateway.ports import Cancellable, Clock
from gateway.telemetry.histogram import Histogram

_MILLISECOND = 1_000_000
LAG_BOUNDS = tuple(ms * _MILLISECOND for ms in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000))


class LoopLagProbe:
    """Asks for a timer every `interval` and notes by how much it was late. `latest` and `lag` are in nanoseconds."""

    def __init__(self, clock: Clock, interval: Nanos) -> None:
        self._clock = clock
        self._interval = interval
        self._timer: Cancellable | None = None
        self._expected: Instant = 0
        self.lag = Histogram(LAG_BOUNDS)
        self.latest: Nanos = 0

    def start(self) -> None:
        """Begins to measure; again is harmless."""
        if self._timer is None:
            self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._expected = self._clock.now() + self._interval
        self._timer = self._clock.call_at(self._expected, self._tick)

    def _tick(self) -> None:
        # uvloop's timers may be a millisecond early; that is no lag.
        self.latest = max(0, self._clock.now() - self._expected)
        self.lag.observe(self.latest)
        self._arm()
