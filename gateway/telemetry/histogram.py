"""A histogram for the hot path: integer bounds, integer counts, an integer sum.

One value falls mostly where the one before it fell: how many fell there in a row is kept as one number, so that a value
mostly costs two comparisons and two additions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

_FAR = (1 << 62) - 1
"""Beyond every bound; the largest number that compiled code compares without making an object of it."""


class Histogram:
    """Counts values by upper bound (inclusive, as Prometheus' `le`)."""

    __slots__ = ("_above", "_at", "_counts", "_here", "_up_to", "bounds", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = list(bounds)
        self.total = 0
        self._counts = [0] * (len(self.bounds) + 1)
        # The bucket of the last value: its number, its limits, and values that are not in `_counts` yet. None so far.
        self._at = self._above = self._up_to = self._here = 0

    def observe(self, value: int) -> None:
        """Counts one value."""
        if not self._above < value <= self._up_to:
            self._move(value)
        self._here += 1
        self.total += value

    def _move(self, value: int) -> None:
        self._counts[self._at] += self._here
        self._here = 0
        at = bisect_left(self.bounds, value)
        self._at = at
        self._above = self.bounds[at - 1] if at else -_FAR
        self._up_to = self.bounds[at] if at < len(self.bounds) else _FAR

    @property
    def counts(self) -> list[int]:
        """How many values were observed by bound; the last count is for values above all bounds."""
        self._counts[self._at] += self._here
        self._here = 0
        return list(self._counts)

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self._counts) + self._here
