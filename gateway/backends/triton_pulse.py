"""Notices a Triton that hangs without dying: it is asked for a sign of life again and again.

Invariants: one answer of any kind within the limit is enough; it takes several questions in a row without one, so that
a gateway that was itself stopped for a while does not blame Triton for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.messages import Instant, Nanos
from gateway.ports import Clock

_QUESTIONS = 4


class Pulse:
    """Owns when the server was heard last. `ask(seconds)` returns whether it answered within that time."""

    def __init__(
        self,
        ask: Callable[[float], Awaitable[bool]],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
        limit: Nanos,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._sleep = sleep
        self._limit = limit
        self._heard_at: Instant = clock.now()
        self._unanswered = 0

    def restart(self) -> None:
        """A server that has just become ready counts as heard."""
        self._heard_at, self._unanswered = self._clock.now(), 0

    async def hangs(self) -> bool:
        """Waits its turn and asks once; returns whether the server has been silent for too long."""
        pace = self._limit / 1e9 / _QUESTIONS
        await self._sleep(pace / 2)
        if await self._ask(pace):
            self.restart()
            return False
        self._unanswered += 1
        return self._unanswered >= _QUESTIONS // 2 and self._clock.now() - self._heard_at >= self._limit
