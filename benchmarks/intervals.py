"""Intervals by bootstrap: how far a ratio or a mean could be from the one measured. Pure and seeded.

Runs are resampled, never requests: requests of one run share its luck. Pairs stay together, because both arms of a pair
met the same state of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

RESAMPLES = 10_000
SEED = 20261124
_CONFIDENCE = 95.0


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Returns the ratio of the means of pairs with its 95 % interval: `ratio`, `low`, `high`, `median`, `min`, `pairs`.

    Raises ValueError unless there are as many of the one as of the other, at least two, all above 0.
    """
    if len(ours) != len(theirs) or len(ours) < 2 or min(*ours, *theirs) <= 0:
        raise ValueError("a ratio needs at least two pairs of values above 0")
    up, down = np.array(ours, float), np.array(theirs, float)
    drawn = np.random.default_rng(SEED).integers(0, len(up), (RESAMPLES, len(up)))
    resampled = up[drawn].sum(axis=1) / down[drawn].sum(axis=1)
    low, high = np.percentile(resampled, [(100 - _CONFIDENCE) / 2, (100 + _CONFIDENCE) / 2])
    pairs = up / down
    return {
        "ratio": round(float(up.sum() / down.sum()), 3),
        "low": round(float(low), 3),
        "high": round(float(high), 3),
        "median": round(float(np.median(pairs)), 3),
        "min": round(float(pairs.min()), 3),
        "pairs": [round(float(value), 3) for value in pairs],
    }


def change(old: Sequence[float], new: Sequence[float]) -> tuple[float, float, float]:
    """Returns mean(new) / mean(old) with its 95 % interval, the two resampled apart. Raises ValueError as `ratio`."""
    if not old or not new or min(*old, *new) <= 0:
        raise ValueError("a change needs values above 0 on both sides")
    random = np.random.default_rng(SEED)
    before, after = np.array(old, float), np.array(new, float)
    drawn_before = before[random.integers(0, len(before), (RESAMPLES, len(before)))].mean(axis=1)
    drawn_after = after[random.integers(0, len(after), (RESAMPLES, len(after)))].mean(axis=1)
    low, high = np.percentile(drawn_after / drawn_before, [(100 - _CONFIDENCE) / 2, (100 + _CONFIDENCE) / 2])
    return float(after.mean() / before.mean()), float(low), float(high)


def mean(values: Sequence[float]) -> dict[str, float]:
    """Returns the mean of runs with its 95 % interval: `mean`, `low`, `high`."""
    data = np.array(values, float)
    drawn = data[np.random.default_rng(SEED).integers(0, len(data), (RESAMPLES, len(data)))].mean(axis=1)
    low, high = np.percentile(drawn, [(100 - _CONFIDENCE) / 2, (100 + _CONFIDENCE) / 2])
    return {"mean": round(float(data.mean()), 2), "low": round(float(low), 2), "high": round(float(high), 2)}
