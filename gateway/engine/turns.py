"""Once per event-loop turn: whoever is asked for a decision takes it when everything that arrived together is in."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.loop_delay import LoopDelay
from gateway.messages import Instant, Nanos
from gateway.ports import Clock


class Turn:
    """Calls `decide` with the time, once, at the end of a turn in which it was asked to; measures how late that is."""

    __slots__ = ("_asked", "_clock", "_decide", "_noted", "delay")

    def __init__(self, clock: Clock, decide: Callable[[Instant], None]) -> None:
        self._clock = clock
        self._decide = decide
        self._asked = self._noted = False
        self.delay = LoopDelay()

    def ask(self) -> None:
        """Asks for one decision; repeated calls in a turn cost nothing."""
        if not self._asked:
            self._asked = True
            if not self._noted:
                self.delay.asked(self._clock.now())
            self._clock.call_soon(self._run)

    def note(self, now: Instant) -> None:
        """Something came that needs no decision: the turn is measured from it all the same."""
        if not self._asked and not self._noted:
            self._noted = True
            self.delay.asked(now)
            self._clock.call_soon(self._end)

    def _end(self) -> None:
        self._noted = False
        if not self._asked:
            self.delay.ran(self._clock.now())

    def tells(self, elapsed: Nanos, known: Nanos | None, now: Instant) -> bool:
        """Whether an execution's time is the backend's, not the loop's; one no longer than `known` always is."""
        return known is None or elapsed <= known or not self.delay.spoils(elapsed, now)

    def _run(self) -> None:
        self._asked = False
        now = self._clock.now()
        self.delay.ran(now)
        self._decide(now)
