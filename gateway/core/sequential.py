"""Tests that stay valid however often anybody looks: e-processes and time-uniform bounds, functions of counts alone.

An e-process is the wealth of a bettor who bets against a hypothesis at fair odds. By Ville's inequality (1939) it
reaches 1/alpha with probability at most alpha if the hypothesis holds, at whatever time one looks. The bets here are
fixed mixtures (Robbins 1970; Ramdas, Grünwald, Vovk and Shafer 2023), so that the wealth does not depend on the order
of what was seen, and one and the same count always gives the same answer. Everything is a natural logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

_BETS = tuple(0.95 * 2.0 ** (-i) for i in range(9))
"""Stakes of `log_below`, as shares of the largest allowed: large ones for clear cases, small ones for noise."""
_MOST_TERMS = 20_000
_TINY = 1e-300


def log_above(bad: int, total: int, rate: float) -> float:
    """Returns the log e-value against "each of `total` is bad with probability at most `rate`, whatever came before".

    The alternative is a uniform mixture over (rate, 1].
    """
    good = total - bad
    likelihood = bad * math.log(rate) + good * math.log1p(-rate)
    tail = _log_upper_tail(bad + 1.0, good + 1.0, rate)
    return _log_beta(bad + 1.0, good + 1.0) + tail - math.log1p(-rate) - likelihood


def log_under(bad: int, total: int, rate: float) -> float:
    """Returns the log e-value against "each of `total` is bad with probability at least `rate`"."""
    return log_above(total - bad, total, 1.0 - rate)


def log_sign(one: int, other: int) -> float:
    """Returns the log e-value against "of the pairs that differ, `one` is no likelier than `other`" (a sign test)."""
    return log_above(one, one + other, 0.5)


def log_below(one: int, other: int, total: int, difference: float) -> float:
    """Returns the log e-value against "`one` happens more often than `other` by `difference` or more".

    Each of `total` pairs counts 1 (`one` only), -1 (`other` only) or 0; the hypothesis is that its mean is at least
    `difference` (-1 < difference < 1), whatever came before. A mixture of constant bets (Waudby-Smith and Ramdas 2024).
    """
    rest = total - one - other
    logs = []
    for share in _BETS:
        stake = share / (1.0 - difference)
        logs.append(
            one * math.log1p(stake * (difference - 1.0))
            + other * math.log1p(stake * (difference + 1.0))
            + rest * math.log1p(stake * difference)
        )
    highest = max(logs)
    return highest + math.log(sum(math.exp(value - highest) for value in logs) / len(logs))


def difference_interval(one: int, other: int, total: int, level: float) -> tuple[float, float]:
    """Returns an interval for the difference of `log_below`, valid at every look, with error probability `level`."""
    if total == 0:
        return -1.0, 1.0
    need = math.log(2.0 / level)
    high = _first(lambda d: log_below(one, other, total, d) >= need, -0.9999, 0.9999)
    low = -_first(lambda d: log_below(other, one, total, d) >= need, -0.9999, 0.9999)
    return low, high


def rate_interval(bad: int, total: int, level: float) -> tuple[float, float]:
    """Returns an interval for a rate, valid at every look, with error probability `level` (Robbins 1970)."""
    if total == 0:
        return 0.0, 1.0
    need = math.log(2.0 / level)
    high = _first(lambda p: log_under(bad, total, p) >= need, bad / total, 1.0 - 1e-9)
    low = 1.0 - _first(lambda q: log_above(bad, total, 1.0 - q) >= need, 1.0 - bad / total, 1.0 - 1e-9)
    return low, high


def distance(first: Sequence[int], second: Sequence[int]) -> float:
    """Returns the largest difference of two histograms' cumulative shares (Kolmogorov-Smirnov), 0 if one is empty."""
    one, two = sum(first), sum(second)
    if not one or not two:
        return 0.0
    largest, left, right = 0.0, 0, 0
    for a, b in zip(first, second, strict=True):
        left, right = left + a, right + b
        largest = max(largest, abs(left / one - right / two))
    return largest


def distance_radius(count: int, log_level: float) -> float:
    """Returns how far an empirical distribution function of `count` values may be from the true one, at any time.

    `log_level` is log(1 / error probability). Howard and Ramdas 2022, "Sequential estimation of quantiles with
    applications to A/B testing and best-arm identification", the time-uniform Dvoretzky-Kiefer-Wolfowitz bound.
    """
    return 0.85 * math.sqrt((math.log(1.0 + math.log(count)) + 0.8 * (math.log(1612.0) + log_level)) / count)


def log_distance(gap: float, first: int, second: int) -> float:
    """Returns log(1 / level) of the smallest level at which two samples' radii together stay within `gap`.

    0 if there is none: then nothing follows from what was seen.
    """
    if first < 1 or second < 1 or gap <= 0:
        return 0.0

    def within(log_level: float) -> bool:
        each = log_level + math.log(2.0)
        return distance_radius(first, each) + distance_radius(second, each) <= gap

    if not within(0.0):
        return 0.0
    return _first(lambda value: not within(value), 0.0, 1e4)


def _first(reached: Callable[[float], bool], low: float, high: float) -> float:
    """Returns the first point from which on `reached` holds (it is monotone); `high` if it never does."""
    for _ in range(32):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_upper_tail(a: float, b: float, x: float) -> float:
    """Returns log P(Beta(a, b) > x)."""
    if x < (a + 1.0) / (a + b + 2.0):
        lower = math.exp(min(0.0, _log_tail(a, b, x)))
        return math.log1p(-lower) if lower < 1.0 else math.log(_TINY)
    return _log_tail(b, a, 1.0 - x)


def _log_tail(a: float, b: float, x: float) -> float:
    """Returns log P(Beta(a, b) <= x), for x below about the mean, by its continued fraction (DLMF 8.17.22, Lentz)."""
    front = a * math.log(x) + b * math.log1p(-x) - math.log(a) - _log_beta(a, b)
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _away(1.0 + term * d)
            c = _away(1.0 + term / c)
            value *= d * c
        if abs(d * c - 1.0) < 1e-12:
            break
    return front + math.log(value)


def _away(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
