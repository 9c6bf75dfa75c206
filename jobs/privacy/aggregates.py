"""Counts, sums and means of private rows, with noise from OpenDP (extra `privacy`).

Decides sensitivities: one row is one person, and neighbouring data sets differ by one row added or removed. Values are
clamped into bounds that must not be taken from the data. With delta 0 the noise is Laplace's (pure epsilon), otherwise
Gauss's, its scale the smallest for which OpenDP's accountant proves (epsilon, delta). Noise is drawn by OpenDP, whose
mechanisms are discrete inside, so that floating-point gaps reveal nothing. Spending is the caller's: `Ledger.spend`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Noisy:
    """A value with noise; `scale` is the noise's (Laplace: b, Gauss: standard deviation)."""

    value: float
    scale: float
    mechanism: str


def count(rows: int, epsilon: float, delta: float = 0.0) -> Noisy:
    """Returns a number of rows."""
    return _noisy(float(rows), 1.0, epsilon, delta)


def total(values: Sequence[float], low: float, high: float, epsilon: float, delta: float = 0.0) -> Noisy:
    """Returns the sum of values clamped to [low, high]."""
    if not low < high:
        raise ValueError(f"the bounds {low:g} and {high:g} leave nothing between them")
    return _noisy(sum(min(max(value, low), high) for value in values), max(abs(low), abs(high)), epsilon, delta)


def mean(values: Sequence[float], low: float, high: float, epsilon: float, delta: float = 0.0) -> Noisy:
    """Returns the mean: a noisy sum over a noisy count, each for half of the budget; within [low, high]."""
    shifted = total([value - low for value in values], 0.0, high - low, epsilon / 2, delta / 2)
    rows = count(len(values), epsilon / 2, delta / 2)
    return Noisy(
        low + min(max(shifted.value / max(rows.value, 1.0), 0.0), high - low), shifted.scale, shifted.mechanism
    )


def histogram(words: Sequence[str], bins: Sequence[str], epsilon: float, delta: float = 0.0) -> dict[str, Noisy]:
    """Returns how often each of `bins` comes: a row is in one bin at most, so every bin has the whole epsilon."""
    return {name: count(sum(word == name for word in words), epsilon, delta) for name in bins}


def _noisy(value: float, sensitivity: float, epsilon: float, delta: float) -> Noisy:
    import opendp.prelude as dp

    if epsilon <= 0 or not 0 <= delta < 1:
        raise ValueError(f"epsilon {epsilon:g} must be above 0 and delta {delta:g} from 0 to below 1")
    dp.enable_features("contrib")
    # The domain takes numbers as they are: NaN was never among clamped values.
    space = dp.atom_domain(T=float, nan=False), dp.absolute_distance(T=float)
    if delta == 0:
        scale = sensitivity / epsilon
        return Noisy(float(dp.m.make_laplace(*space, scale=scale)(value)), scale, "laplace")

    scale = _gaussian_scale(sensitivity, epsilon, delta)
    return Noisy(float(dp.m.make_gaussian(*space, scale=scale)(value)), scale, "gaussian")


@lru_cache(maxsize=1024)
def _gaussian_scale(sensitivity: float, epsilon: float, delta: float) -> float:
    """Returns the smallest scale for the budget; the search takes about a second, and depends on no data."""
    import opendp.prelude as dp

    space = dp.atom_domain(T=float, nan=False), dp.absolute_distance(T=float)

    def gauss(scale: float) -> Any:
        pure = dp.c.make_zCDP_to_approxDP(dp.m.make_gaussian(*space, scale=scale))
        return dp.c.make_fix_delta(pure, delta=delta)

    return float(dp.binary_search_param(gauss, d_in=sensitivity, d_out=(epsilon, delta), T=float))
