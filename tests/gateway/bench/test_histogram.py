"""Three significant digits over the whole range, and merging loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bench.histogram import HIGHEST_US, Histogram

MICROSECONDS = st.lists(st.integers(0, HIGHEST_US), min_size=1, max_size=200)


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    made.add(np.array(values, np.int64) * 1000)
    return made


@given(st.integers(0, HIGHEST_US))
def test_one_value_reads_back_within_a_thousandth(value: int) -> None:
    assert histogram([value]).percentile(50) == pytest.approx(value, rel=1e-3, abs=1)


@given(MICROSECONDS, st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9, 100.0]))
def test_percentiles_are_those_of_the_sorted_values(values: list[int], percent: float) -> None:
    exact = sorted(values)[max(1, int(np.ceil(len(values) * percent / 100))) - 1]
    assert histogram(values).percentile(percent) == pytest.approx(exact, rel=1e-3, abs=1)


@given(MICROSECONDS, MICROSECONDS)
def test_merging_is_counting_together(left: list[int], right: list[int]) -> None:
    merged = histogram(left)
    merged.merge(histogram(right))
    together = histogram(left + right)
    assert np.array_equal(merged.counts, together.counts)
    assert merged.summary() == together.summary()


@given(MICROSECONDS)
def test_the_curve_rises_to_one(values: list[int]) -> None:
    curve = histogram(values).cumulative()
    assert [share for _, share in curve] == sorted(share for _, share in curve)
    assert curve[-1][1] == pytest.approx(1.0)


def test_what_is_beyond_the_range_counts_at_its_end() -> None:
    assert histogram([10 * HIGHEST_US]).percentile(99) == HIGHEST_US
    assert histogram([-5]).percentile(50) == 0


def test_an_empty_histogram_has_zeros() -> None:
    summary = Histogram().summary()
    assert summary["count"] == 0
    assert summary["p99"] == 0.0
