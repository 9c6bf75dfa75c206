"""What callers would wait at a server that does nothing but its work, one request after the other. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def latencies(instants: NDArray[np.float64], service: float) -> NDArray[np.float64]:
    """Returns how long each of these arrivals waits for its answer, itself included, first come first served.

    `instants` rise; they, `service` (what each request takes) and the result are in one unit. Shapes [requests].
    """
    waits = np.empty(len(instants))
    free = -math.inf
    for index, instant in enumerate(instants.tolist()):
        free = max(free, instant) + service
        waits[index] = free - instant
    return waits


def percentile(values: NDArray[np.float64], share: float) -> float:
    """Returns the smallest of `values` that at least this share of them does not exceed (the nearest rank)."""
    return float(np.sort(values)[max(0, math.ceil(len(values) * share) - 1)])
