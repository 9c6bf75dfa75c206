"""Spans in bins of equal ratio."""

from __future__ import annotations

import random

import pytest

from gateway.core.log_histogram import LogHistogram


def one_by_one(spans: list[int]) -> dict[int, int]:
    """Returns the bins, from their definition: eight for each doubling."""
    bins: dict[int, int] = {}
    for span in spans:
        length = max(0, span).bit_length()
        index = (length << 3) | (span >> (length - 4)) & 7 if length > 3 else max(0, span)
        bins[index] = bins.get(index, 0) + 1
    return bins


@pytest.mark.parametrize("seed", range(5))
def test_many_at_once_are_in_the_bins_that_each_belongs_to(seed: int) -> None:
    rng = random.Random(seed)
    spans = [int(2 ** rng.uniform(0, 50)) for _ in range(5000)] + [-5, 0, 1, 7, 8, 15, 16, 2**52]
    spans += [2**power + step for power in range(4, 50) for step in (-1, 0, 1)]
    rng.shuffle(spans)
    histogram, at = LogHistogram(), 0
    while at < len(spans):
        some = rng.randint(1, 700)
        histogram.add_all(spans[at : at + some])
        at += some
    assert histogram.count == len(spans)
    assert dict(histogram.bins) == one_by_one(spans)
    assert dict(LogHistogram(histogram.bins).items()) == dict(histogram.items())


def test_a_quantile_is_within_an_eighth() -> None:
    histogram = LogHistogram()
    for span in range(1, 100_001):
        histogram.add(span * 1000)
    for share in (0.1, 0.5, 0.99):
        assert histogram.quantile(share) == pytest.approx(share * 1e8, rel=0.125)
    assert LogHistogram().quantile(0.5) == 0
