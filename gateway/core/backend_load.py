"""How busy a backend is expected to be, from what was sent to it and what that is known to cost."""

from __future__ import annotations

from heapq import heappop, heappush

from gateway.core.cost_profile import CostProfile
from gateway.messages import Instant, Nanos

PROBE_AFTER: Nanos = 1_000_000_000
"""A backend idle for so long gets one batch although the profile says it will be late: it may have recovered."""


class BackendLoad:
    """The batches in flight, oldest first: rows, and since when each is executing (None: staged).

    The engine only reports how many there are; batches are taken to end in the order they were sent. Each completion
    corrects the estimate, so that errors do not add up.
    """

    __slots__ = ("_flight", "_instances", "_profile", "_sent_at", "usable")

    def __init__(self, instances: int, profile: CostProfile) -> None:
        self._instances = instances
        self._profile = profile
        self._flight: list[tuple[int, Instant | None]] = []
        self._sent_at: Instant | None = None
        self.usable = instances
        """Instances that can be reached; fewer while replicas are away."""

    @property
    def busy(self) -> int:
        """How many batches are in flight."""
        return len(self._flight)

    @property
    def idle(self) -> bool:
        """Whether a batch sent now would execute at once."""
        return len(self._flight) < self._instances

    def share(self, waiting: int) -> int:
        """Returns an instance's part of the rows in flight and these, rounded up."""
        return -(-(self.rows + waiting) // self.usable)

    @property
    def rows(self) -> int:
        """Rows in flight, as far as they are known."""
        return sum([rows for rows, _ in self._flight])

    @property
    def typical_rows(self) -> int:
        """The rows of a batch in flight, on average, rounded up; 0 while an instance is idle."""
        flight = self._flight
        if len(flight) < self._instances:
            return 0
        return -(-self.rows // len(flight))

    def sync(self, busy: int, now: Instant) -> int:
        """Takes over how many batches are in flight; if fewer than before, the oldest ended just now.

        Returns the rows of those that ended, as far as they are known.
        """
        flight = self._flight
        if len(flight) == busy:
            return 0
        ended = 0
        if len(flight) > busy:
            for rows, _ in flight[: len(flight) - busy]:
                ended += rows
            del flight[: len(flight) - busy]
            for index, (rows, since) in enumerate(flight[: self._instances]):
                if since is None:
                    flight[index] = (rows, now)
        while len(flight) < busy:
            self._append(0, now)  # sent by someone else; of unknown size
        return ended

    def sent(self, rows: int, now: Instant) -> None:
        """Adds a batch that is sent now."""
        self._append(rows, now)
        self._sent_at = now

    def _append(self, rows: int, now: Instant) -> None:
        self._flight.append((rows, now if len(self._flight) < self._instances else None))

    def wait(self, now: Instant) -> Nanos:
        """Returns how long a batch sent now is expected to be staged behind others; 0 where that is not known."""
        if len(self._flight) < self._instances:
            return 0
        mean = self._profile.mean
        total = 0
        for rows, since in self._flight:
            cost = mean(rows) if rows else None
            if cost is not None:
                left = cost if since is None else since + cost - now
                if left > 0:
                    total += left
        return total // self._instances

    def next_start(self) -> tuple[Instant, int] | None:
        """Returns when a batch sent now is expected to begin, and the rows of the batch that ends then.

        The instant has passed if what runs takes longer than expected. None where nothing is known.
        """
        estimate = self._profile.estimate
        ends: list[tuple[Instant, int]] = []
        for rows, since in self._flight:
            cost = estimate(rows) if rows else None
            if cost is None:
                return None
            if since is None:
                since = heappop(ends)[0]
            heappush(ends, (since + cost, rows))
        return ends[0] if len(ends) >= self._instances else None

    @property
    def saturated(self) -> bool:
        """Whether a batch sent now makes the one after it wait."""
        return len(self._flight) + 1 >= self._instances

    def may_probe(self, now: Instant) -> bool:
        """Whether nothing runs and nothing was sent for so long that the profile's refusals deserve a test."""
        return not self._flight and (self._sent_at is None or now - self._sent_at >= PROBE_AFTER)
