"""A histogram with three significant digits from 1 us to 60 s, in HdrHistogram's bucket layout. Pure.

Invariants: a value read back differs from the one recorded by at most one part in a thousand (or 1 us); merging two
histograms gives the histogram of all their values; values above 60 s count as 60 s and are reported as such.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

HIGHEST_US = 60_000_000
_SUB_BITS = 11
"""2,048 sub-buckets: the smallest power of two that keeps three digits over a factor of two."""
_SUB = 1 << _SUB_BITS
_HALF = _SUB >> 1
_BUCKETS = (HIGHEST_US.bit_length() - _SUB_BITS + 2) * _HALF + _HALF


class Histogram:
    """Counts of latencies. Record with `add`, read with `percentile`; `merge` for several processes."""

    __slots__ = ("counts", "highest_us", "sum_us")

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(_BUCKETS, np.int64)
        self.sum_us = 0.0
        self.highest_us = 0

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    def add(self, latencies_ns: NDArray[np.int64]) -> None:
        """Counts latencies in nanoseconds; shape [n]. Negative ones count as 0."""
        if not len(latencies_ns):
            return
        values = np.clip(np.rint(latencies_ns / 1000).astype(np.int64), 0, HIGHEST_US)
        self.counts += np.bincount(_index(values), minlength=_BUCKETS)
        self.sum_us += float(values.sum())
        self.highest_us = max(self.highest_us, int(values.max()))

    def merge(self, other: Histogram) -> None:
        """Adds the counts of `other`."""
        self.counts += other.counts
        self.sum_us += other.sum_us
        self.highest_us = max(self.highest_us, other.highest_us)

    def percentile(self, percent: float) -> float:
        """Returns the value in microseconds that `percent` of the values do not exceed; 0.0 when it is empty."""
        total = self.count
        if not total:
            return 0.0
        wanted = max(1, int(np.ceil(total * percent / 100)))
        index = int(np.searchsorted(np.cumsum(self.counts), wanted))
        return float(min(_highest_of(index), self.highest_us))

    def summary(self) -> dict[str, Any]:
        """Returns count, mean and the percentiles that reports show, in microseconds."""
        names = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}
        return {
            "count": self.count,
            "mean": round(self.sum_us / self.count, 1) if self.count else 0.0,
            **{name: self.percentile(percent) for name, percent in names.items()},
            "max": float(self.highest_us),
        }

    def cumulative(self) -> list[tuple[float, float]]:
        """Returns (microseconds, share of values not above) at every bucket in use: the curve a plot shows."""
        used = np.nonzero(self.counts)[0]
        shares = np.cumsum(self.counts[used]) / max(1, self.count)
        return [(float(_highest_of(int(index))), float(share)) for index, share in zip(used, shares, strict=True)]


def _index(values: NDArray[np.int64]) -> NDArray[np.int64]:
    # The number of bits beyond the sub-bucket's; frexp's exponent is the bit length, exact below 2**53.
    bits = np.frexp(np.maximum(values, 1).astype(np.float64))[1].astype(np.int64)
    bucket = np.maximum(bits - _SUB_BITS, 0)
    return np.asarray(bucket * _HALF + (values >> bucket))


def _highest_of(index: int) -> int:
    """Returns the highest value that is counted at `index`."""
    if index < _SUB:
        return index
    bucket = (index - _HALF) // _HALF
    sub = index - bucket * _HALF
    return ((sub + 1) << bucket) - 1
