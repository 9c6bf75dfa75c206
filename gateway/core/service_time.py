"""When an execution really began: a batch that was staged behind another one had to wait for it.

A backend with n instances executes n batches at once and in order of arrival; what is sent beyond that starts when an
earlier one ends. The timer takes that waiting out, so that a cost profile learns execution times.
"""

from __future__ import annotations

from gateway.messages import Instant, Nanos


class ServiceTimer:
    """Follows the executions in flight on one replica. Bounded by their number, which the caller bounds by slots."""

    __slots__ = ("_instances", "_running", "_staged")

    def __init__(self, instances: int) -> None:
        if instances < 1:
            raise ValueError(f"instances must be at least 1, not {instances}")
        self._instances = instances
        self._running: dict[int, Instant] = {}
        self._staged: dict[int, None] = {}

    def sent(self, token: int, now: Instant) -> None:
        """Notes that an execution was sent under a `token` of the caller's choice, unique among those in flight."""
        if len(self._running) < self._instances:
            self._running[token] = now
        else:
            self._staged[token] = None

    def finished(self, token: int, now: Instant) -> Nanos | None:
        """Notes the end of an execution, also a failed or cancelled one.

        Returns how long it executed, or None for one that ended although it should not have begun (the backend does
        not keep the order, or it was cancelled while staged).
        """
        began = self._running.pop(token, None)
        if began is None:
            self._staged.pop(token, None)
            return None
        if self._staged:
            following = next(iter(self._staged))
            del self._staged[following]
            self._running[following] = now
        return now - began
