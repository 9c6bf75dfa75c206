"""E-processes against exact sums, and their one promise: they rarely grow where the hypothesis holds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from gateway.core import sequential


def exact_above(bad: int, total: int, rate: Fraction) -> float:
    """The mixture's e-value in exact arithmetic: the integral over (rate, 1] term by term."""
    good = total - bad
    integral = Fraction(0)
    for k in range(good + 1):
        power = bad + k + 1
        integral += Fraction((-1) ** k * math.comb(good, k), power) * (1 - rate**power)
    return math.log(integral / (1 - rate) / (rate**bad * (1 - rate) ** good))


@pytest.mark.parametrize(("bad", "total"), [(0, 0), (1, 1), (0, 9), (5, 9), (9, 9), (3, 60), (30, 60), (57, 60)])
@pytest.mark.parametrize("rate", [Fraction(1, 2), Fraction(1, 50), Fraction(9, 10)])
def test_the_closed_form_is_the_integral(bad: int, total: int, rate: Fraction) -> None:
    found = sequential.log_above(bad, total, float(rate))
    assert found == pytest.approx(exact_above(bad, total, rate), abs=1e-8)


def test_large_counts_neither_fail_nor_take_long_sums() -> None:
    assert sequential.log_sign(5_000_000, 5_000_000) < 0
    assert sequential.log_sign(6_000_000, 4_000_000) > 100_000
    assert sequential.log_above(0, 10_000_000, 0.5) < 0
    assert math.isfinite(sequential.log_under(10_000_000, 10_000_000, 0.02))


def test_nothing_seen_proves_nothing() -> None:
    assert sequential.log_sign(0, 0) == pytest.approx(0)
    assert sequential.log_below(0, 0, 0, 0.02) == pytest.approx(0)
    assert sequential.difference_interval(0, 0, 0, 0.01) == (-1.0, 1.0)
    assert sequential.rate_interval(0, 0, 0.01) == (0.0, 1.0)
    assert sequential.log_distance(0.1, 0, 10) == 0
    assert sequential.distance((0, 0), (1, 2)) == 0


@pytest.mark.parametrize("rate", [0.5, 0.02])
def test_wealth_rarely_reaches_its_bound_however_often_one_looks(rate: float) -> None:
    """At the very edge of the hypothesis, looking 133 times, at level 5 %."""
    rng, reached = np.random.default_rng(5), 0
    for _ in range(200):
        bad = np.cumsum(rng.random(400) < rate)
        looks = range(0, 400, 3)
        reached += any(sequential.log_above(int(bad[n]), n + 1, rate) >= math.log(20) for n in looks)
    assert reached <= 20  # 10 expected at most; 21 or more happen once in a thousand


def test_a_difference_of_the_stated_size_is_rarely_called_absent() -> None:
    rng, reached = np.random.default_rng(6), 0
    for _ in range(300):
        one = np.cumsum(rng.random(3000) < 0.05)
        other = np.cumsum(rng.random(3000) < 0.03)
        looks = range(10, 3000, 30)
        reached += any(sequential.log_below(int(one[n]), int(other[n]), n + 1, 0.02) >= math.log(20) for n in looks)
    assert reached <= 28  # 15 expected at most


def test_what_is_absent_is_soon_called_so() -> None:
    assert sequential.log_below(0, 0, 500, 0.02) > math.log(100)
    assert sequential.log_below(0, 0, 200, 0.02) < math.log(100)
    assert sequential.log_under(0, 500, 0.02) > math.log(100)


def test_intervals_hold_the_estimate_and_shrink() -> None:
    wide = sequential.difference_interval(8, 3, 200, 0.01)
    narrow = sequential.difference_interval(800, 300, 20_000, 0.01)
    for low, high in (wide, narrow):
        assert low < 0.025 < high
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 4
    low, high = sequential.rate_interval(30, 1000, 0.01)
    assert 0.005 < low < 0.03 < high < 0.07


def test_an_interval_excludes_zero_where_the_test_is_clear() -> None:
    low, _ = sequential.difference_interval(40, 0, 1000, 0.001)
    assert low > 0


def test_two_samples_of_one_distribution_stay_within_their_radius() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        first, second = (np.bincount(rng.integers(0, 10, 2000), minlength=10) for _ in range(2))
        gap = sequential.distance(first.tolist(), second.tolist())
        assert gap < 2 * sequential.distance_radius(2000, math.log(100))


def test_distance_levels_agree_with_the_radius() -> None:
    level = sequential.log_distance(0.3, 1000, 2000)
    each = level + math.log(2)
    total = sequential.distance_radius(1000, each) + sequential.distance_radius(2000, each)
    assert total == pytest.approx(0.3, abs=1e-6)
    assert sequential.log_distance(0.01, 1000, 2000) == 0
