"""How long one model version takes on one replica, by batch size, learned from what was executed.

Sizes fall into buckets (1, 2, 3, 4, 6, 8, 12, 16, ...). Each bucket keeps an average time and an upper quantile, both
exponentially forgetting. A larger batch never counts as faster than a smaller one. A size never seen costs at least
what smaller sizes cost; where nothing smaller was seen either there is no evidence (None), and whoever asks should
try: being optimistic about the unknown is how it becomes known. A bucket that was not seen for long is forgotten for
the same reason: a time that keeps a size from being used could otherwise never be corrected.

All arithmetic is on integers, every call is O(number of buckets) or better, and the memory is constant.
"""

from __future__ import annotations

from bisect import bisect_left

from gateway.messages import Nanos

_TOPS = (1, 2, *(top for power in range(1, 16) for top in (3 << (power - 1), 4 << (power - 1))))
"""The largest number of rows in each bucket: 1, 2, 3, 4, 6, 8, 12 ... 65,536; the last also takes what is larger."""

QUICK: Nanos = 8_000_000
"""Below this an execution is quick: timers are coarse beside it, and what a batch costs the gateway itself counts."""
_WEIGHT = 16
"""A bucket's averages follow its last 16 or so executions."""
_OUTLIER = 4
"""A time above this many times the upper quantile counts as that much: one stall moves an average by a fifth or so,
while a lasting change still arrives within a few executions."""
_FORGET_AFTER = 1024
_SOLID = 8
"""Executions in a bucket before its throughput is compared with others'."""
_SOLID_TOTAL = 256
"""Executions altogether before `best_rows` says anything."""
_TWICE = 2
"""A size is given up although nothing as large was seen if so many times the best one gained nothing and was not quick.
That is right where the cost is a constant and so much a row; where it is not, the batches that ignore what was learned
find out."""
_REFRESH = 16


class _Bucket:
    """Averages over one range of sizes. `over` is how far the upper quantile lies above the mean."""

    __slots__ = ("count", "deviation", "mean", "over", "rows", "seen_at")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0
        self.deviation = 0
        self.over = 0
        self.rows = 0
        self.seen_at = 0

    def add(self, rows: int, elapsed: Nanos) -> None:
        """Adds one execution. The quantile moves up by 19 parts where it was exceeded, else down by 1: it settles
        where one execution in twenty lies above."""
        count = self.count = self.count + 1
        if count == 1:
            self.mean, self.rows = elapsed, rows << 8
            self.deviation = elapsed >> 3
            self.over = elapsed >> 2
            return
        if count > _SOLID:
            elapsed = min(elapsed, (self.mean + self.over) * _OUTLIER)
        weight = min(count, _WEIGHT)
        residual = elapsed - self.mean
        self.mean += residual // weight
        self.rows += ((rows << 8) - self.rows) // weight
        self.deviation += (abs(residual) - self.deviation) // weight
        step = max(self.deviation, self.mean >> 8) >> 3
        if residual > self.over:
            self.over += min(step * 19 >> 2, residual - self.over)
        else:
            self.over = max(0, self.over - (step >> 2))


class CostProfile:
    """The learned execution times of one model version on one replica. Times in nanoseconds, sizes in rows."""

    __slots__ = ("_best", "_buckets", "_count", "_fresh_at", "_highs", "_means", "_rate")

    def __init__(self) -> None:
        self._buckets: list[_Bucket | None] = [None] * len(_TOPS)
        self._means: list[Nanos | None] = [None] * len(_TOPS)
        self._highs: list[Nanos | None] = [None] * len(_TOPS)
        self._count = 0
        self._fresh_at = 0
        self._rate: int | None = None
        self._best: dict[tuple[int, int], int] = {}

    @property
    def count(self) -> int:
        """How many executions were observed in all."""
        return self._count

    def observe(self, rows: int, elapsed: Nanos) -> None:
        """Learns from one successful execution of `rows` rows.

        `elapsed` is the time it was executing, without the time it was staged behind another one (see
        `service_time.ServiceTimer`). Failed executions say nothing about cost and do not belong here.
        """
        if rows < 1 or elapsed < 0:
            raise ValueError(f"cannot learn from {rows} rows in {elapsed} ns")
        index = min(bisect_left(_TOPS, rows), len(_TOPS) - 1)
        bucket = self._buckets[index]
        if bucket is None:
            bucket = self._buckets[index] = _Bucket()
        self._count = bucket.seen_at = self._count + 1
        bucket.add(rows, elapsed)
        self._retable()
        if self._count - self._fresh_at >= _REFRESH or self._count <= _REFRESH:
            self._refresh()

    def mean(self, rows: int) -> Nanos | None:
        """Returns the average time of `rows` rows, or None without evidence."""
        return self._means[min(bisect_left(_TOPS, rows), len(_TOPS) - 1)]

    def estimate(self, rows: int) -> Nanos | None:
        """Returns the average time of exactly `rows` rows: that of sizes around it, in proportion. Where none of them
        was seen it is `mean`."""
        index = min(bisect_left(_TOPS, rows), len(_TOPS) - 1)
        bucket = self._buckets[index]
        return self._means[index] if bucket is None else (bucket.mean * rows << 8) // bucket.rows

    def high(self, rows: int) -> Nanos | None:
        """Returns a time that about 19 of 20 executions of `rows` rows stay under, or None without evidence."""
        return self._highs[min(bisect_left(_TOPS, rows), len(_TOPS) - 1)]

    def rows_within(self, span: Nanos, max_rows: int) -> int:
        """Returns the most rows, at most `max_rows`, whose `high` is at most `span` or unknown; 0 if there are none."""
        index = min(bisect_left(_TOPS, max_rows), len(_TOPS) - 1)
        high = self._highs[index]
        if high is None or high <= span:
            return max_rows
        while index:
            index -= 1
            high = self._highs[index]
            if high is None or high <= span:
                return _TOPS[index]
        return 0

    def best_rows(self, max_rows: int, min_gain_percent: int = 3) -> int:
        """Returns the size, at most `max_rows`, beyond which no larger one is known to promise `min_gain_percent`
        more throughput; `max_rows` as long as the evidence is thin, or where the spread hides the difference.
        """
        key = (max_rows, min_gain_percent)
        best = self._best.get(key)
        if best is None:
            if len(self._best) >= 8:
                self._best.clear()
            best = self._best[key] = self._find_best(max_rows, min_gain_percent)
        return best

    def drain_rate(self) -> int | None:
        """Returns the best throughput known, in rows per second of one executing instance; None without evidence."""
        return self._rate

    def _retable(self) -> None:
        """Rebuilds the monotone tables and forgets buckets that were not seen for long."""
        oldest = self._count - _FORGET_AFTER
        mean: Nanos | None = None
        high: Nanos | None = None
        for index, bucket in enumerate(self._buckets):
            if bucket is not None:
                if bucket.seen_at <= oldest:
                    self._buckets[index] = None
                else:
                    average = bucket.mean
                    mean = average if mean is None or average > mean else mean
                    average += bucket.over
                    high = average if high is None or average > high else high
            self._means[index] = mean
            self._highs[index] = high

    def _refresh(self) -> None:
        """Recomputes what changes slowly."""
        self._fresh_at = self._count
        self._best.clear()
        rates = [_rate(bucket.rows, bucket.mean) for bucket in self._buckets if bucket is not None]
        self._rate = max(rates) if rates else None

    def _find_best(self, max_rows: int, min_gain_percent: int) -> int:
        if self._count < _SOLID_TOTAL or min_gain_percent < 1:
            return max_rows
        limit = bisect_left(_TOPS, max_rows)
        solid = [
            (_TOPS[index], bucket)
            for index, bucket in enumerate(self._buckets[: limit + 1])
            if bucket is not None and bucket.count >= _SOLID
        ]
        best, most = max_rows, 0
        for top, bucket in reversed(solid):
            # Doubt speaks for the larger size: an average over 16 has a standard error of about a quarter deviation.
            doubt = bucket.deviation >> 2
            if most and _rate(bucket.rows, bucket.mean + doubt) * (100 + min_gain_percent) >= most * 100:
                best = min(top, max_rows)
            most = max(most, _rate(bucket.rows, max(1, bucket.mean - doubt)))
        if solid and solid[-1][0] < max_rows and (solid[-1][0] < _TWICE * best or solid[-1][1].mean < QUICK):
            return max_rows  # what lies beyond is not known well enough to be given up
        return best


def _rate(rows: int, elapsed: Nanos) -> int:
    """Returns rows per second from rows in 256ths."""
    return rows * 1_000_000_000 // (max(1, elapsed) << 8)
