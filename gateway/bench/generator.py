"""Sends the plan: each request at its instant or as soon after as the machine allows, whatever the server does.

Invariants: nothing waits for an answer before it sends; every planned request has exactly one outcome, NONE if neither
an answer nor an error came before the run gave up (one that is interrupted forgets what it had not sent yet); nothing
is measured in the hot path that can be computed later.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.bench.alarm import Alarm
from gateway.bench.answers import Expected
from gateway.bench.channels import ASK_SECONDS, Channel, Outcome, TargetError
from gateway.engine.clock import LoopClock, pause
from gateway.messages import Instant
from gateway.tensors import Buffer

_LEAD_NS = 50_000_000
_MOST_MESSAGES = 20
_TRIES = 6
_LAST_ANSWERS_NS = 2_000_000_000
"""How long a run that was interrupted waits for the answers to what it has sent."""
_TRY_AGAIN_SECONDS = 0.2


class Trace:
    """What happened to every planned request; all arrays have shape [requests], instants in nanoseconds.

    `sent` and `finished` are 0 where that never happened. `messages` counts error texts.
    """

    def __init__(self, planned: NDArray[np.int64], payload: NDArray[np.int64]) -> None:
        self.planned = planned
        self.payload = payload
        self.sent: NDArray[np.int64] = np.zeros(len(planned), np.int64)
        self.finished: NDArray[np.int64] = np.zeros(len(planned), np.int64)
        self.outcome: NDArray[np.uint8] = np.zeros(len(planned), np.uint8)
        self.messages: dict[str, int] = {}


async def ask_alone(channel: Channel, requests: Sequence[Any]) -> list[Expected]:
    """Sends each request once, one after the other, and returns what right answers look like.

    A server that is still busy with what was sent before may refuse: it is asked a few times. Raises TargetError.
    """
    expected = []
    for request in requests:
        for attempt in range(_TRIES):
            outcome, body, length, message = await _ask(channel, request)
            if outcome in (Outcome.OK, Outcome.FAILED):
                break
            await pause(_TRY_AGAIN_SECONDS * attempt)
        if outcome is not Outcome.OK:
            raise TargetError(f"the server does not answer a single request: {message}")
        expected.append(Expected(channel.decode, body, length))
    return expected


async def _ask(channel: Channel, request: Any) -> tuple[Outcome, Buffer, int | None, str]:
    answered: asyncio.Future[tuple[Outcome, Buffer, int | None, str]] = asyncio.get_running_loop().create_future()

    def take(token: int, outcome: Outcome, body: Buffer, length: int | None, message: str) -> None:
        if not answered.done():
            answered.set_result((outcome, body, length, message))

    channel.on_answer = take
    channel.send(request, 0)
    try:
        return await asyncio.wait_for(answered, ASK_SECONDS)
    except TimeoutError:
        raise TargetError("the server does not answer a single request") from None


class Generator:
    """One run over an open channel. `on_window` is called as the first measured request leaves."""

    def __init__(
        self,
        channel: Channel,
        requests: Sequence[Any],
        expected: Sequence[Expected] | None,
        plan: NDArray[np.int64],
        payload: NDArray[np.int64],
        first_measured: int,
        on_window: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._clock = LoopClock(asyncio.get_running_loop())
        self._requests = requests
        self._expected = expected
        self._offsets = plan
        self._payload: list[int] = payload.tolist()
        self._first_measured = first_measured
        self._on_window = on_window
        self._planned: list[Instant] = []
        self._sent = array("q", bytes(8 * len(plan)))
        self._finished = array("q", bytes(8 * len(plan)))
        self._outcome = bytearray(len(plan))
        self._messages: dict[str, int] = {}
        self._next = 0
        self._answered = 0
        self._bad = 0
        self._awaited = len(plan)
        self._over = asyncio.Event()
        self._alarm: Alarm | None = None
        self.interrupted_at: Instant | None = None
        """When somebody wanted the run to end early."""

    @property
    def progress(self) -> tuple[int, int, int]:
        """Requests sent, answered, and answered other than right so far."""
        return self._next, self._answered, self._bad

    async def run(self, patience_s: float) -> Trace:
        """Sends everything, waits for the answers up to `patience_s` after the last request, returns what happened."""
        self._channel.on_answer = self._arrived
        loop = asyncio.get_running_loop()
        self._planned = (self._offsets + self._clock.now() + _LEAD_NS).tolist()
        self._alarm = Alarm(loop, self._due)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            self._alarm.set(self._planned[0])
            last = (self._planned[-1] - self._clock.now()) / 1e9
            with contextlib.suppress(TimeoutError):  # what is missing then is counted as unanswered
                await asyncio.wait_for(self._over.wait(), max(0.0, last) + patience_s)
        finally:
            self._stop_sending()
            self._channel.on_answer = _ignore
            gc.enable()
            gc.unfreeze()
        return self._trace()

    def interrupt(self) -> None:
        """Sends nothing more and ends soon, with what was sent; a second time at once."""
        if self.interrupted_at is not None:
            self._over.set()
            return
        self.interrupted_at = now = self._clock.now()
        self._stop_sending()
        self._awaited = self._next
        self._clock.call_at(now + _LAST_ANSWERS_NS, self._over.set)
        if self._answered == self._awaited:
            self._over.set()

    def _stop_sending(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.close()

    def _due(self) -> None:
        planned, sent, payload, requests = self._planned, self._sent, self._payload, self._requests
        send, now = self._channel.send, self._clock.now
        index, end = self._next, len(planned)
        instant = now()
        while index < end and planned[index] <= instant:
            if index == self._first_measured:
                self._on_window()
            self._next = index + 1
            sent[index] = instant = now()
            send(requests[payload[index]], index)
            index += 1
        if index < end and self._alarm is not None:
            self._alarm.set(planned[index])

    def _arrived(self, token: int, outcome: Outcome, body: Buffer, length: int | None, message: str) -> None:
        self._finished[token] = self._clock.now()
        if outcome is Outcome.OK:
            expected = self._expected
            if expected is not None and not expected[self._payload[token]].matches(body, length):
                outcome = Outcome.WRONG
                message = "the answer differs from the one to the same request alone"
        self._outcome[token] = outcome
        if outcome is not Outcome.OK:
            self._bad += 1
            if message in self._messages or len(self._messages) < _MOST_MESSAGES:
                self._messages[message] = self._messages.get(message, 0) + 1
        self._answered += 1
        if self._answered == self._awaited:
            self._over.set()

    def _trace(self) -> Trace:
        end = self._awaited
        trace = Trace(np.array(self._planned[:end], np.int64), np.array(self._payload[:end], np.int64))
        trace.sent = np.array(self._sent[:end], np.int64)
        trace.finished = np.array(self._finished[:end], np.int64)
        trace.outcome = np.frombuffer(bytes(self._outcome[:end]), np.uint8)
        trace.messages = self._messages
        return trace


def _ignore(token: int, outcome: Outcome, body: Buffer, length: int | None, message: str) -> None:
    """An answer after the run gave up."""
