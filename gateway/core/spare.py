"""When copies of requests may run: on capacity that live work does not want.

Pure: what is queued and running now, and what copies did before, give an answer. Invariants: nothing is sent while the
candidate has live work, or while anybody waits for a slot anywhere; at most one batch of copies is under way; beside
live work copies take no more than a small share of the time, so that they cannot wear the machine down. Whoever is
woken late is on a machine that is busy with something else: requests may be waiting where nobody has looked yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.messages import Instant, Nanos

DUTY_PERMILLE = 2
"""The share of the time that copies may take beside live work: well below the hundredth of requests that make a p99."""
_IDLE_AFTER: Nanos = 20_000_000
"""Without live work for so long the gateway counts as idle."""
_LATE: Nanos = 4_000_000
_LOOK: Nanos = 2_000_000
"""The candidate of a busy gateway is idle for moments only: who looks seldom hardly ever finds one."""
_BESIDE_ROWS = 8
"""Rows of a batch of copies beside live work: it must be over soon."""


@dataclass(frozen=True, slots=True)
class LiveWork:
    """What live requests want: rows that wait for a slot, batches that run, requests that the candidate has."""

    queued_rows: int
    batches: int
    candidate_requests: int


class SpareTime:
    """Remembers how long copies took. Not thread-safe."""

    __slots__ = ("_began", "_busy_at", "_expected", "_free_at", "duty_permille")

    def __init__(self, duty_permille: int = DUTY_PERMILLE) -> None:
        self.duty_permille = duty_permille
        self._began: Instant | None = None
        self._free_at: Instant = 0
        self._busy_at: Instant | None = None
        self._expected: Instant | None = None

    def lived(self, at: Instant) -> None:
        """Notes that a live request was executed: quick ones are over before anybody looks."""
        if self._busy_at is None or at > self._busy_at:
            self._busy_at = at

    def rows(self, work: LiveWork, now: Instant, most: int) -> int:
        """Returns how many rows of copies may be sent now: 0 for none, at most `most`."""
        late = self._expected is not None and now - self._expected > _LATE
        if work.queued_rows or work.batches or work.candidate_requests or late:
            self._busy_at = now
        if self._began is not None or work.candidate_requests or work.queued_rows:
            return 0
        if self._busy_at is None or now - self._busy_at >= _IDLE_AFTER:
            return most
        return min(most, _BESIDE_ROWS) if now >= self._free_at else 0

    def next_look(self, now: Instant, *, waiting: bool = True) -> Instant:
        """Returns when to ask again if nothing was allowed now, or nothing is `waiting`; later than now."""
        # While it is not their turn beside live work, only an idle gateway could give them time.
        soon = now + (_LOOK if waiting and self._free_at <= now + _LOOK else _IDLE_AFTER)
        self._expected = min(max(self._free_at, now + 1_000_000), soon) if self._free_at > now else soon
        return self._expected

    def began(self, now: Instant) -> None:
        """A batch of copies was sent."""
        self._began = now

    def ended(self, now: Instant) -> None:
        """It is over; what it took is waited for many times over before the next one goes beside live work."""
        if self._began is not None:
            took = now - self._began
            self._free_at = now + took * (1000 - self.duty_permille) // self.duty_permille
            self._began = None
