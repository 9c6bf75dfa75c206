"""A histogram that costs one bisection and one addition: integer bounds, integer counts, an integer sum."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts values by upper bound (inclusive, as Prometheus' `le`); the last count is for values above all bounds.

    `counts` and `total` are open to the hot path, which inlines `observe`.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = list(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0

    def observe(self, value: int) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_since(self, starts: list[int], end: int) -> None:
        """Observes `end - start` for each of `starts`, which ascend: by bounds and not by values, of which there are
        mostly more."""
        counts, bounds = self.counts, self.bounds
        at, many = 0, len(starts)
        self.total += many * end - sum(starts)
        while at < many:
            index = bisect_left(bounds, end - starts[at])
            until = bisect_left(starts, end - bounds[index - 1], at) if index else many
            counts[index] += until - at
            at = until

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)
