"""Plans depend on their arguments alone and have the statistics their names promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.bench.plan import ARRIVALS, BURST_CV2, arrivals, order


@given(st.sampled_from(ARRIVALS), st.floats(0.5, 2000), st.floats(0.1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_plans_are_seeded_rising_and_within_the_span(kind: str, rate: float, seconds: float, seed: int) -> None:
    plan = arrivals(kind, rate, seconds, seed)
    assert len(plan) >= 1
    assert np.array_equal(plan, arrivals(kind, rate, seconds, seed))
    assert (np.diff(plan) >= 0).all()
    assert plan[0] >= 0
    if len(plan) > 1:
        assert plan[-1] < seconds * 1e9 + 1


def test_constant_arrivals_are_exactly_the_rate() -> None:
    plan = arrivals("constant", 250, 4, 1)
    assert len(plan) == 1000
    assert set(np.diff(plan).tolist()) == {4_000_000}


@pytest.mark.parametrize(("kind", "cv2"), [("poisson", 1.0), ("bursts", BURST_CV2)])
def test_gaps_vary_as_promised(kind: str, cv2: float) -> None:
    gaps = np.diff(arrivals(kind, 10_000, 20, 7)).astype(float)
    assert gaps.mean() == pytest.approx(1e5, rel=0.03)
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(cv2, rel=0.05)


def test_another_seed_is_another_plan() -> None:
    assert not np.array_equal(arrivals("poisson", 100, 1, 1)[:10], arrivals("poisson", 100, 1, 2)[:10])


@pytest.mark.parametrize(
    ("kind", "rate", "seconds"), [("normal", 1, 1), ("poisson", 0, 1), ("poisson", 1, -1), ("constant", 1e9, 1)]
)
def test_what_cannot_be_planned_is_refused(kind: str, rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match=r"arrivals|above 0|too many"):
        arrivals(kind, rate, seconds, 1)


def test_payloads_are_spread_evenly() -> None:
    chosen = order(1001, 8, 3)
    counts = np.bincount(chosen, minlength=8)
    assert counts.max() - counts.min() <= 1
    assert np.array_equal(chosen, order(1001, 8, 3))
