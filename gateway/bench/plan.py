"""When requests leave: arrival instants planned ahead, from a seed alone. Pure.

Invariants: the same arguments give the same plan; instants never fall; the number of arrivals follows from rate and
span (exactly for constant arrivals, in the mean for the others), never from how fast a server answers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ARRIVALS = ("poisson", "constant", "bursts")
BURST_CV2 = 4.0
"""Squared coefficient of variation of the gaps of `bursts`; 1 would be Poisson, 0 constant."""

_SECOND = 1_000_000_000
_MOST_REQUESTS = 50_000_000


def arrivals(kind: str, rate: float, seconds: float, seed: int) -> NDArray[np.int64]:
    """Returns the planned instants in nanoseconds from the start, rising, shape [requests], all below `seconds`.

    `kind` is one of ARRIVALS; `rate` is requests per second in the mean. Raises ValueError for anything else.
    """
    if not rate > 0 or not seconds > 0:
        raise ValueError("rate and seconds must be above 0")
    if rate * seconds > _MOST_REQUESTS:
        raise ValueError(f"{rate * seconds:.0f} requests are too many for one run (most: {_MOST_REQUESTS})")
    if kind == "constant":
        count = max(1, round(rate * seconds))
        return (np.arange(count) * (_SECOND / rate)).astype(np.int64)
    if kind == "poisson":
        shape = 1.0
    elif kind == "bursts":
        shape = 1.0 / BURST_CV2
    else:
        raise ValueError(f"arrivals are one of {', '.join(ARRIVALS)}, not {kind!r}")
    generator = np.random.default_rng(seed)
    pieces: list[NDArray[np.float64]] = []
    reached, expected = 0.0, rate * seconds
    while reached < seconds:
        gaps = generator.gamma(shape, 1.0 / (rate * shape), int(expected * 1.1) + 100)
        instants = reached + np.cumsum(gaps)
        pieces.append(instants)
        reached = float(instants[-1])
    instants = np.concatenate(pieces)
    planned = (instants[instants < seconds] * _SECOND).astype(np.int64)
    return planned if len(planned) else np.zeros(1, np.int64)


def order(requests: int, variants: int, seed: int) -> NDArray[np.int64]:
    """Returns which of `variants` payloads each request carries: each about equally often, in a seeded order."""
    return np.random.default_rng(seed ^ 0x5EED).permutation(np.arange(requests, dtype=np.int64) % variants)
