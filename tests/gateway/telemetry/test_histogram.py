"""The histogram of the hot path against counting each value by itself."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.histogram import Histogram

BOUNDS = st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True).map(sorted)
VALUES = st.lists(st.one_of(st.integers(-3, 45), st.just(2**62 - 1), st.just(2**62), st.just(-(2**63))), max_size=60)


@given(BOUNDS, VALUES, st.integers(0, 60))
def test_every_value_is_in_its_bucket_whenever_one_looks(bounds: list[int], values: list[int], looked: int) -> None:
    histogram = Histogram(bounds)
    expected = [0] * (len(bounds) + 1)
    for index, value in enumerate(values):
        if index == looked:
            assert (histogram.counts, histogram.count) == (expected, index)
        histogram.observe(value)
        expected[bisect_left(bounds, value)] += 1
    assert (histogram.counts, histogram.count, histogram.total) == (expected, len(values), sum(values))


def test_a_bound_includes_its_own_value() -> None:
    bounds = [1, 2, 5]
    histogram = Histogram(bounds)
    for low, high in pairwise([0, *bounds]):
        histogram.observe(low + 1)
        histogram.observe(high)
    histogram.observe(6)
    assert histogram.counts == [2, 2, 2, 1]


def test_what_was_read_stays_as_it_was() -> None:
    histogram = Histogram([1])
    read = histogram.counts
    histogram.observe(1)
    assert (read, histogram.counts) == ([0, 0], [1, 0])
