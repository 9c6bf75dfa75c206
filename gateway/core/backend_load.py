"""How busy a backend is expected to be, from what was sent to it and what that is known to cost."""

from __future__ import annotations

from gateway.core.cost_profile import CostProfile
from gateway.messages import Instant, Nanos

PROBE_AFTER: Nanos = 1_000_000_000
"""A backend idle for so long gets one batch although the profile says it will be late: it may have recovered."""


class BackendLoad:
    """The batches in flight and an estimate of when the backend is through with them."""

    __slots__ = ("_busy_until", "_instances", "_profile", "_sent_at", "busy")

    def __init__(self, instances: int, profile: CostProfile) -> None:
        self._instances = instances
        self._profile = profile
        self._busy_until: Instant = 0
        self._sent_at: Instant | None = None
        self.busy = 0

    def sent(self, rows: int, now: Instant) -> None:
        """Adds a batch that is sent now."""
        cost = (self._profile.mean(rows) or 0) // self._instances
        self._busy_until = now + self.wait(now) + cost
        self.busy += 1
        self._sent_at = now

    def wait(self, now: Instant) -> Nanos:
        """Returns how long a batch sent now is expected to be staged behind others; 0 where that is not known."""
        if self.busy < self._instances or self._busy_until <= now:
            return 0
        return self._busy_until - now

    @property
    def saturated(self) -> bool:
        """Whether a batch sent now makes the one after it wait."""
        return self.busy + 1 >= self._instances

    def may_probe(self, now: Instant) -> bool:
        """Whether nothing runs and nothing was sent for so long that the profile's refusals deserve a test."""
        return not self.busy and (self._sent_at is None or now - self._sent_at >= PROBE_AFTER)
