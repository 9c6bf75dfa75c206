"""Counts spans in bins of equal ratio, so that any quantile is known within an eighth, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gateway.messages import Nanos

_FINE = 3
_STEPS = 1 << _FINE
_MOST_FRESH = 1024
"""Spans that wait to be put into bins: many at once cost a tenth of what they cost one by one."""


class LogHistogram:
    """Eight bins for each doubling; a quantile is the middle of its bin."""

    __slots__ = ("_bins", "_fresh", "count")

    def __init__(self, bins: Mapping[int, int] | None = None) -> None:
        self._bins: dict[int, int] = dict(bins or {})
        self._fresh: list[Nanos] = []
        self.count = sum(self._bins.values())

    def add(self, span: Nanos) -> None:
        """Counts one span; negative ones count as 0."""
        self.add_all((span,))

    def add_all(self, spans: Sequence[Nanos]) -> None:
        """Counts many."""
        self._fresh += spans
        self.count += len(spans)
        if len(self._fresh) >= _MOST_FRESH:
            self._sort_in()

    @property
    def bins(self) -> Mapping[int, int]:
        """How many spans are in each bin that is not empty."""
        self._sort_in()
        return self._bins

    def _sort_in(self) -> None:
        fresh, self._fresh = self._fresh, []
        if not fresh:
            return
        spans = np.maximum(np.asarray(fresh, np.int64), 0)
        lengths = np.frexp(spans.astype(np.float64))[1].astype(np.int64)  # exact below 2**53 ns, 104 days
        fine = (spans >> np.maximum(lengths - 1 - _FINE, 0)) & (_STEPS - 1)
        found, counts = np.unique(np.where(lengths > _FINE, (lengths << _FINE) | fine, spans), return_counts=True)
        bins = self._bins
        for index, count in zip(found.tolist(), counts.tolist(), strict=True):
            bins[index] = bins.get(index, 0) + count

    def quantile(self, share: float) -> Nanos:
        """Returns the span that `share` of the counted ones do not exceed; 0 if there is none."""
        left, bins = share * self.count, self.bins
        for index in sorted(bins):
            left -= bins[index]
            if left <= 0:
                return _middle(index)
        return 0

    def items(self) -> Iterable[tuple[int, int]]:
        return self.bins.items()


def _middle(index: int) -> Nanos:
    length, fine = index >> _FINE, index & (_STEPS - 1)
    if length <= _FINE:
        return index
    low = (_STEPS + fine) << (length - 1 - _FINE)
    return low + (1 << (length - 1 - _FINE)) // 2
