"""Bootstrap intervals hold what they promise on data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import intervals


def test_equal_pairs_have_a_ratio_without_width() -> None:
    found = intervals.ratio([30.0, 60.0], [10.0, 20.0])
    assert (found["ratio"], found["low"], found["high"], found["median"], found["min"]) == (3.0, 3.0, 3.0, 3.0, 3.0)
    assert found["pairs"] == [3.0, 3.0]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(60):
        luck = random.normal(1.0, 0.2, 8)  # both arms of a pair share it
        theirs = 100 * luck * random.normal(1, 0.05, 8)
        ours = 150 * luck * random.normal(1, 0.05, 8)
        found = intervals.ratio(list(ours), list(theirs))
        covered += found["low"] <= 1.5 <= found["high"]
    assert covered >= 48  # 95 % of 60 is 57; eight pairs and chance take some


def test_the_same_data_gives_the_same_interval() -> None:
    assert intervals.ratio([1.0, 2.0, 3.0], [1.0, 1.0, 2.0]) == intervals.ratio([1.0, 2.0, 3.0], [1.0, 1.0, 2.0])


@pytest.mark.parametrize(("ours", "theirs"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 0.0], [1.0, 1.0])])
def test_what_is_no_comparison_is_refused(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="pairs"):
        intervals.ratio(ours, theirs)


def test_a_change_beyond_noise_leaves_one_out() -> None:
    change, low, high = intervals.change([100.0, 102.0, 98.0, 101.0], [120.0, 118.0, 122.0, 121.0])
    assert change == pytest.approx(1.2, rel=0.01)
    assert 1 < low < change < high
    assert intervals.mean([1.0, 1.0])["low"] == 1.0
