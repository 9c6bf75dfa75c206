"""Drift: how far the inputs of now are from those that a version was calibrated with.

The measure is the population stability index, PSI = sum over bins of (live - calibrated) * ln(live / calibrated), over
the bins that calibration chose (Siddiqi, "Credit Risk Scorecards", 2006, where below 0.1 means no change and above 0.25
a large one). Two samples of one distribution differ too: then PSI is on average (bins - 1) * (1/n + 1/m) (Yurdakul,
"Statistical Properties of Population Stability Index", 2018). n and m are counted in rows, not elements, because the
elements of a row resemble each other; the same counts smooth bins that are empty on one side.

Where rows are short and of one length, as those of a table, each column has a histogram of its own beside the common
one, in which a column with large numbers would hide the others; the index is that of the one that is farthest off.

The window slides in chunks: the last `CHUNKS` of `CHUNK_ROWS` sampled rows each. Adding a row only copies its elements;
a full chunk is counted in one go.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.versions import ElementHistogram, InputDrift, InputStatistics

CHUNK_ROWS, CHUNKS = 64, 8
MOST_ELEMENTS = 64
"""Elements of a row that are looked at."""
FEWEST_ROWS = CHUNK_ROWS
"""Sampled rows below which no index is given."""
_HALF = 0.5


def stability_index(calibrated: Sequence[float], rows: int, live: Sequence[float], live_rows: int) -> float:
    """Returns the PSI of two histograms of shares that stem from so many rows; 0 for equal ones.

    Both are mixed with an even spread of half a row a bin of the smaller sample, so that empty bins weigh as little as
    they prove.
    """
    bins = len(calibrated)
    mixed = _HALF * bins / (min(rows, live_rows) + _HALF * bins)
    index = 0.0
    for old, new in zip(calibrated, live, strict=True):
        before, after = ((1 - mixed) * share + mixed / bins for share in (old, new))
        index += (after - before) * math.log(after / before)
    return index


def index_by_chance(bins: int, rows: int, live_rows: int) -> float:
    """Returns the PSI that two samples of one distribution have on average."""
    return (bins - 1) * (1 / max(rows, 1) + 1 / max(live_rows, 1))


class _Bins:
    """Counts of one histogram: of the chunk that is being filled, and of the full ones."""

    def __init__(self, histogram: ElementHistogram) -> None:
        self._calibrated = histogram
        self._edges = np.array(histogram.edges, np.float64)
        self.size = len(histogram.shares)
        self._chunk = np.zeros(self.size, np.int64)
        self._chunks: deque[NDArray[np.int64]] = deque(maxlen=CHUNKS - 1)

    def count(self, values: NDArray[np.float64]) -> None:
        self._chunk += np.bincount(self._edges.searchsorted(values), minlength=self.size)

    def turn(self) -> None:
        """The chunk is full."""
        self._chunks.append(self._chunk)
        self._chunk = np.zeros(self.size, np.int64)

    def index(self, rows: int, live_rows: int) -> float | None:
        counts = sum(self._chunks, self._chunk)
        total = int(counts.sum())
        if not total:
            return None
        return stability_index(self._calibrated.shares, rows, (counts / total).tolist(), live_rows)


class InputWindow:
    """Owns what was sampled of one input of one version: the window, and counts since the beginning."""

    def __init__(self, statistics: InputStatistics) -> None:
        self._calibrated = statistics
        self._all = _Bins(statistics.histogram)
        self._columns = [_Bins(column) for column in statistics.columns[:MOST_ELEMENTS]]
        is_ids = statistics.vocabulary is not None
        self._low = 0.0 if is_ids else statistics.low
        self._high = float(statistics.vocabulary) - 1 if statistics.vocabulary is not None else statistics.high
        self._buffer = np.empty(CHUNK_ROWS * MOST_ELEMENTS, np.float64)
        self._filled = self._held = self._chunk_rows = 0
        self._full_chunks = 0
        self._rows = self._elements = self._not_finite = self._out_of_range = 0

    def add(self, values: NDArray[Any]) -> None:
        """Adds up to MOST_ELEMENTS elements of one row (further ones are left out)."""
        values = values[:MOST_ELEMENTS]
        end = self._filled + len(values)
        self._buffer[self._filled : end] = values
        self._filled = end
        self._held += 1
        if self._chunk_rows + self._held == CHUNK_ROWS:
            self._count()
            for bins in (self._all, *self._columns):
                bins.turn()
            self._full_chunks = min(self._full_chunks + 1, CHUNKS - 1)
            self._chunk_rows = 0

    def drift(self) -> InputDrift:
        """Returns what is known now."""
        self._count()
        rows = self._chunk_rows + self._full_chunks * CHUNK_ROWS
        known = self._calibrated.rows
        index, column = None, None
        if rows >= FEWEST_ROWS:
            index = self._all.index(known, rows)
            for place, bins in enumerate(self._columns):
                one = bins.index(known, rows)
                if one is not None and (index is None or one > index):
                    index, column = one, place
        bins = self._all if column is None else self._columns[column]
        return InputDrift(
            name=self._calibrated.name,
            psi=index,
            by_chance=index_by_chance(bins.size, known, rows),
            window_rows=rows,
            rows=self._rows,
            elements=self._elements,
            not_finite=self._not_finite,
            out_of_range=self._out_of_range,
            column=column,
        )

    def _count(self) -> None:
        """Brings the held rows into the chunk's histograms; what is not finite is in no bin."""
        if not self._held:
            return
        values = self._buffer[: self._filled]
        finite = np.isfinite(values)
        self._elements += len(values)
        width = len(self._columns)
        if width and self._filled == self._held * width:
            table, usable = values.reshape(-1, width), finite.reshape(-1, width)
            for place, bins in enumerate(self._columns):
                bins.count(table[usable[:, place], place])
        if not finite.all():
            values = values[finite]
            self._not_finite += self._filled - len(values)
        self._out_of_range += int(np.count_nonzero((values < self._low) | (values > self._high)))
        self._all.count(values)
        self._rows += self._held
        self._chunk_rows += self._held
        self._filled = self._held = 0
