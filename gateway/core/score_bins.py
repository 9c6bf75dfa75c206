"""Histograms of an output's scores over the same bins for both arms: has the distribution moved?

The bins are the deciles of the first values of the stable version and stay as they are; those values are not counted,
so that what is counted is independent of them. Every value is counted with one of the other arm that is close in time,
so that a distribution that changes in the course of a release, while the shares change as well, speaks against nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BINS = 10
LEARN = 500
_KEPT = 64
Values = NDArray[np.float64]


class ScoreBins:
    """One output's. `edges` are empty until enough of stable's values were seen."""

    __slots__ = ("_learning", "_waiting", "candidate", "edges", "stable")

    def __init__(self, edges: Sequence[float] = (), stable: Sequence[int] = (), candidate: Sequence[int] = ()) -> None:
        self.edges: Values = np.asarray(edges, np.float64)
        self.stable = np.array(stable or [0] * BINS, np.int64)
        self.candidate = np.array(candidate or [0] * BINS, np.int64)
        self._learning: list[float] = []
        self._waiting: tuple[list[int], list[int]] = ([], [])
        """Bins of stable's and of the candidate's last values without a partner; one of the two is empty."""

    @property
    def counts(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(self.stable.tolist()), tuple(self.candidate.tolist())

    def add(self, values: Values, *, is_candidate: bool) -> None:
        """Counts scores, one a request; what is not finite is left out."""
        values = values[np.isfinite(values)]
        if not len(values):
            return
        if not len(self.edges):
            if not is_candidate:
                self._learn(values)
            return
        found = np.searchsorted(self.edges, values, side="right")
        mine, others = self._waiting[is_candidate], self._waiting[not is_candidate]
        pairs = min(len(found), len(others))
        if pairs:
            counts, other = (self.candidate, self.stable) if is_candidate else (self.stable, self.candidate)
            counts += np.bincount(found[:pairs], minlength=BINS)
            other += np.bincount(others[-pairs:], minlength=BINS)
            del others[-pairs:]
        mine += found[pairs:].tolist()
        del mine[:-_KEPT]

    def part(self) -> None:
        """Lets go of those that wait: what comes now is no longer close to them."""
        for waiting in self._waiting:
            waiting.clear()

    def _learn(self, values: Values) -> None:
        self._learning += values.tolist()
        if len(self._learning) >= LEARN:
            # Equal deciles (a score that is nearly always the same) make empty bins, which harm nothing.
            self.edges = np.quantile(np.array(self._learning), np.arange(1, BINS) / BINS)
            self._learning = []


def scores_of(rows: Values, starts: Sequence[int]) -> Values:
    """Returns the score of each request: the largest element of its first row (`starts` are those rows' indices)."""
    first = rows[np.asarray(starts, np.intp)]
    return first[:, 0] if first.shape[1] == 1 else first.max(axis=1)
