"""Why an item is not let into a queue, and when trying again is sensible."""

from __future__ import annotations

from gateway.core.backend_load import BackendLoad
from gateway.core.cost_profile import CostProfile
from gateway.core.plans import BatchLimits, QueueItem, Rejection, RejectionKind
from gateway.messages import Instant, Nanos


class Door:
    """Names the bound that an item broke. Asked only when the batcher's quick test found one broken."""

    __slots__ = ("_limits", "_load", "_profile")

    def __init__(self, limits: BatchLimits, profile: CostProfile, load: BackendLoad) -> None:
        self._limits = limits
        self._profile = profile
        self._load = load

    def refusal(self, item: QueueItem, now: Instant, rows: int, nbytes: int, draining: bool) -> Rejection | None:
        """Returns why `item` may not join `rows` rows of `nbytes` bytes that wait.

        None if the only reason is that it cannot finish in time and it is let in all the same, as a probe of a
        backend that has been idle: the profile may be out of date.
        """
        limits = self._limits
        if draining:
            return Rejection(RejectionKind.DRAINING)
        if item.rows < 1:
            return Rejection(RejectionKind.NO_ROWS)
        most = limits.max_queue_rows
        if limits.batchable and limits.max_rows < most:
            most = limits.max_rows
        if item.rows > most:
            return Rejection(RejectionKind.TOO_MANY_ROWS, most)
        if item.deadline <= now:
            return Rejection(RejectionKind.EXPIRED)
        # Half a queue later there is room for others too, not just for whoever comes back first.
        if rows + item.rows > limits.max_queue_rows:
            return Rejection(RejectionKind.QUEUE_ROWS, limits.max_queue_rows, self._time_for(rows // 2))
        if nbytes + item.nbytes > limits.max_queue_bytes:
            hopeless = item.nbytes > limits.max_queue_bytes
            retry_after = None if hopeless else self._time_for(rows // 2)
            return Rejection(RejectionKind.QUEUE_BYTES, limits.max_queue_bytes, retry_after)
        if self._load.may_probe(now):
            return None
        return Rejection(RejectionKind.CANNOT_FINISH, 0, self._time_for(rows))

    def _time_for(self, rows: int) -> Nanos | None:
        """Returns how long the backend takes for `rows` rows at its best, or None without evidence."""
        rate = self._profile.drain_rate()
        return rows * 1_000_000_000 // (rate * self._limits.instances) if rate else None
