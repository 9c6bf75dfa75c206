"""One timer that is kept at the earliest instant that anybody asked for."""

from __future__ import annotations

from collections.abc import Callable

from gateway.messages import Instant
from gateway.ports import Cancellable, Clock


class EarliestTimer:
    """Calls back at or before every instant that it was armed for; too early only means to look again."""

    __slots__ = ("_at", "_callback", "_clock", "_timer")

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback = callback
        self._timer: Cancellable | None = None
        self._at: Instant = 0

    def arm(self, when: Instant) -> None:
        """Sees to it that the callback comes at `when` or earlier."""
        if self._timer is not None:
            if self._at <= when:
                return
            self._timer.cancel()
        self._at = when
        self._timer = self._clock.call_at(when, self._fire)

    def cancel(self) -> None:
        """Forgets what it was armed for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._callback()
