"""What was accepted and not answered yet, with running totals: summing over hundreds of versions costs each request."""

from __future__ import annotations

from gateway.engine.batch import PendingRequest


class Outstanding:
    """Requests accepted and not answered, and their bytes, over all tables that joined."""

    __slots__ = ("nbytes", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.nbytes = 0

    def add(self, requests: int, nbytes: int) -> None:
        """Counts so many more (less where negative)."""
        self.requests += requests
        self.nbytes += nbytes


class PendingTable(dict[int, PendingRequest]):
    """The requests of one version by key. Only the methods here change it, and whoever reports what it took out by
    `took`: so `total` is always the sum of the tables that joined it."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        super().__init__()
        self.total = Outstanding()

    def admit(self, pending: PendingRequest) -> None:
        """Takes a request in."""
        self[pending.key] = pending
        self.total.add(1, pending.nbytes)

    def drop(self, pending: PendingRequest) -> bool:
        """Takes a request out; returns False if it was answered or has left before."""
        if self.pop(pending.key, None) is None:
            return False
        self.total.add(-1, -pending.nbytes)
        return True

    def took(self, requests: int, nbytes: int) -> None:
        """So many requests of so many bytes in all were deleted by key."""
        self.total.add(-requests, -nbytes)

    def join(self, total: Outstanding) -> None:
        """Counts what is here as part of `total` from now on; again is harmless."""
        if total is not self.total:
            nbytes = sum(pending.nbytes for pending in self.values())
            self.total.add(-len(self), -nbytes)
            total.add(len(self), nbytes)
            self.total = total
