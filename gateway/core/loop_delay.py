"""How late the event loop is, and which measurements that spoils.

What arrives while the loop is busy is read later than it came. Under overload of the loop itself, not of a backend,
the answers of a quick backend therefore look slow, and a profile that believes it refuses everything. So a time that
may consist of the loop's own delay is not learned, and the delay is reckoned with where deadlines are checked, for as
long as it lasts: it is known anew every turn, where a cost profile would only learn from what it refuses to execute.
"""

from __future__ import annotations

from gateway.messages import Instant, Nanos

COUNTS: Nanos = 5_000_000
"""A shorter delay is the ordinary life of a loop."""


class LoopDelay:
    """Follows how long the loop takes from the first event of a turn to its end."""

    __slots__ = ("_asked_at", "_delay", "_measured_at")

    def __init__(self) -> None:
        self._asked_at: Instant | None = None
        self._delay: Nanos = 0
        self._measured_at: Instant = 0

    def asked(self, now: Instant) -> None:
        """The turn's first event: something wants to run once this turn's events are through."""
        self._asked_at = now

    def ran(self, now: Instant) -> None:
        """It runs: the turn is over."""
        if self._asked_at is None:
            return
        delay, self._asked_at = now - self._asked_at, None
        if delay >= self.at(now):  # a short turn between long ones changes nothing yet
            self._delay, self._measured_at = delay, now

    def at(self, now: Instant) -> Nanos:
        """Returns the delay of the last turn, 0 if it was an ordinary one or is too long ago to say anything."""
        delay = self._delay
        return delay if delay >= COUNTS and now - self._measured_at <= 2 * delay else 0

    def spoils(self, elapsed: Nanos, now: Instant) -> bool:
        """Whether most of a time that ends `now` may be the loop's own delay, in this turn or the one before."""
        delay = self.at(now)
        if self._asked_at is not None:
            delay = max(delay, now - self._asked_at)
        return delay >= COUNTS and 2 * delay > elapsed
