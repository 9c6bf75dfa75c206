"""What is sent again after a failure, and how much of that there may be.

A failed batch of several is run again in halves until the requests that are to blame are alone; a call that surely was
not executed is sent once more as it was. Both are budgeted, so that a broken model or backend gets a bounded share of
extra work; re-runs that succeed do not count.
"""

from __future__ import annotations

from collections import deque

from gateway.core.retrying import RetryBudget
from gateway.engine.batch import Batch, PendingRequest
from gateway.engine.refusals import not_rerun
from gateway.errors import ErrorCode, GatewayError

RERUN, RETRY = "rerun", "retry"
_RERUN_CODES = frozenset({ErrorCode.INVALID_REQUEST, ErrorCode.BACKEND_FAILED})


class Repeats:
    """Owns the batches that wait to be sent again. Bounded by what was in flight."""

    def __init__(self) -> None:
        self.waiting: deque[Batch] = deque()
        self._reruns = RetryBudget()
        self._retries = RetryBudget(percent=10, burst=16)

    def dispatched(self, requests: int) -> None:
        """Counts a first attempt of a batch."""
        self._reruns.deposit(requests)
        self._retries.deposit(1)

    def succeeded(self, batch: Batch) -> None:
        """Counts an answered batch: requests that a re-run rescued pay for it."""
        if batch.reason == RERUN:
            self._reruns.refund(len(batch.members))

    def next(self) -> Batch | None:
        """Returns the next batch to send again that somebody still waits for."""
        while self.waiting:
            batch = self.waiting.popleft()
            if batch.waiting:
                return batch
        return None

    def after(self, batch: Batch, error: GatewayError, *, reachable: bool) -> GatewayError | None:
        """Arranges what follows the failure of `batch`; returns the error to answer with, or None if it is repeated.

        `reachable` says whether a retry would find a backend.
        """
        survivors = list(batch.waiting.values())
        if error.code is ErrorCode.BACKEND_UNREACHABLE:
            if error.unprocessed and batch.reason != RETRY and reachable and self._retries.withdraw(1):
                self._again(survivors, RETRY)
                return None
        elif error.code in _RERUN_CODES and len(batch.members) > 1:
            if not self._reruns.withdraw(2):
                return not_rerun(error)
            middle = (len(survivors) + 1) // 2
            self._again(survivors[:middle], RERUN)
            if survivors[middle:]:
                self._again(survivors[middle:], RERUN)
            return None
        return error

    def clear(self) -> None:
        self.waiting.clear()

    def _again(self, members: list[PendingRequest], reason: str) -> None:
        rows = sum(member.checked.rows for member in members)
        batch = Batch(members, rows, reason, min(member.context.deadline for member in members))
        for member in members:
            member.batch = batch
        self.waiting.append(batch)
