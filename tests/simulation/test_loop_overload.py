"""More requests than the event loop itself can read: what is refused must be the surplus, not everything.

A model of one core: reading a request and answering or refusing it takes time on the loop, each turn reads all that
arrived during the turn before, and the backend, which is quick, is only heard between turns.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace

import pytest

from gateway.errors import GatewayError
from tests.support.engine import METADATA, MILLISECOND, SECOND, Caller, World

READ, REFUSE, ANSWER, EXECUTE = 160_000, 80_000, 60_000, 1 * MILLISECOND
TIMEOUT = 100 * MILLISECOND
CAPACITY = SECOND // (READ + ANSWER)


class OverloadedLoop:
    """Offers Poisson arrivals to a real scheduler and counts who was answered within the timeout of his arrival."""

    def __init__(self, seed: int, rate: int) -> None:
        self.world = World(replace(METADATA, max_batch_size=64), max_queue_rows=4096)
        self._rng = random.Random(seed)
        self._rate = rate
        self._executing: deque[tuple[int, int]] = deque()
        self._waiting: list[tuple[int, Caller]] = []
        self._seen = 0
        self.in_time = 0
        self.arrived = 0

    def run(self, span: int, count_from: int) -> None:
        clock = self.world.clock
        began = clock.now()
        following = began
        while clock.now() < began + span:
            turn = clock.now()
            busy = False
            while following <= turn:
                busy = True
                self._arrive(following, counts=following >= began + count_from)
                following += int(self._rng.expovariate(self._rate) * SECOND) + 1
            busy |= self._hear(turn)
            clock.settle()
            self._start()
            if not busy:
                clock.advance(
                    max(1, min(following, self._executing[0][1] if self._executing else following) - clock.now())
                )

    def _arrive(self, at: int, *, counts: bool) -> None:
        clock = self.world.clock
        self.arrived += counts
        try:
            caller = self.world.ask((1, 2), timeout=TIMEOUT)
        except GatewayError:
            clock.pass_time(REFUSE)
            return
        clock.pass_time(READ)
        if counts:
            self._waiting.append((at, caller))

    def _start(self) -> None:
        """The backend begins what was sent, one batch at a time."""
        calls = self.world.backend.calls
        for index in range(self._seen, len(calls)):
            free_at = self._executing[-1][1] if self._executing else 0
            self._executing.append((index, max(free_at, self.world.clock.now()) + EXECUTE))
        self._seen = len(calls)

    def _hear(self, turn: int) -> bool:
        """What had been answered when the turn began is read now."""
        heard = False
        while self._executing and self._executing[0][1] <= turn:
            index, _ = self._executing.popleft()
            call = self.world.backend.calls[index]
            self.world.clock.pass_time(ANSWER * call.request.rows)
            call.echo()
            heard = True
        now = self.world.clock.now()
        for at, caller in self._waiting:
            self.in_time += caller.response is not None and now - at <= TIMEOUT
        self._waiting = [(at, caller) for at, caller in self._waiting if not caller.answered]
        return heard


def best(rate: int) -> float:
    """What is left at most (answers/s) when everything that is not answered has to be refused on the same core."""
    return min(rate, (SECOND - rate * REFUSE) / (READ + ANSWER - REFUSE))


@pytest.mark.parametrize("share", [0.7, 1.4, 2.0])
def test_goodput_holds_beyond_what_the_loop_can_carry(share: float) -> None:
    rate = int(share * CAPACITY)
    loop = OverloadedLoop(seed=7, rate=rate)
    loop.run(4 * SECOND, count_from=SECOND)
    carried = loop.in_time / 3
    assert carried >= (0.97 if share < 1 else 0.8) * best(rate), f"{carried:.0f}/s of {best(rate):.0f}/s"
