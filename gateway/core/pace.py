"""What a queue's door reckons with: how long a waiting row takes, and what anything at all takes.

From the cost profile, and from how late the event loop is: no more rows leave in a turn than fill the slots, a request
has waited for up to a turn before it was read, is sent at the end of this one, and its answer is read at the end of
the next.
"""

from __future__ import annotations

from gateway.core.cost_profile import CostProfile
from gateway.core.plans import BatchLimits
from gateway.messages import Nanos

_TURNS = 3
_SLOTS = 2
"""Batches in flight per instance: one running, one staged."""


class Pace:
    """`row_cost` per waiting row, `floor` for whatever executes, `late` for a late loop; all ns, 0 where unknown."""

    __slots__ = ("_backend", "_instances", "_rows_a_turn", "floor", "late", "row_cost")

    def __init__(self, limits: BatchLimits) -> None:
        self._instances = limits.instances
        self._rows_a_turn = _SLOTS * limits.instances * limits.max_rows
        self._backend: Nanos = 0
        self.row_cost: Nanos = 0
        self.floor: Nanos = 0
        self.late: Nanos = 0

    def consult(self, profile: CostProfile) -> None:
        """Takes over what the profile has learned."""
        rate = profile.drain_rate()
        self._backend = 1_000_000_000 // (rate * self._instances) if rate else 0
        self.floor = profile.mean(1) or 0
        self.turns_take(self.late // _TURNS)

    def turns_take(self, turn: Nanos) -> None:
        """Reckons with turns of the event loop that take `turn` (0: nothing worth mentioning)."""
        self.late = _TURNS * turn
        self.row_cost = max(self._backend, turn // self._rows_a_turn)
