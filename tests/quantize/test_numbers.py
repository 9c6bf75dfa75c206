"""The arithmetic under the verdicts: ranges, scales, metrics, the gate's edges."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.evaluation import Outputs
from quantize.gate import FAIL, INSUFFICIENT, PASS, GatePolicy, judge, reference_problems
from quantize.metrics import metric_of
from quantize.qdq import quantized_weight
from quantize.ranges import BINS, METHODS, TensorHistogram, activation_scale, tensor_range
from quantize.report_html import milliseconds

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def histogram(values: np.ndarray) -> TensorHistogram:
    found = TensorHistogram(float(values.min()), float(values.max()))
    found.counts += np.histogram(values, BINS, (found.low, found.high))[0]
    return found


@given(FINITE, FINITE, st.booleans())
def test_zero_is_always_exact_and_scales_are_usable(a: float, b: float, symmetric: bool) -> None:
    scale = activation_scale(min(a, b, 0.0), max(a, b, 0.0), symmetric=symmetric)
    assert 0 < scale.scale < 1e6
    assert (scale.zero_point == 0) if symmetric else 0 <= scale.zero_point <= 255


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_ranges_include_zero_and_stay_inside(method: str, symmetric: bool, seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, 20_000)
    low, high = tensor_range(histogram(values), method, symmetric=symmetric)
    assert values.min() - 1e-9 <= low <= 0 <= high <= values.max() + 1e-9


def test_percentile_cuts_a_heavy_tail_and_minmax_does_not() -> None:
    values = np.concatenate([np.random.default_rng(0).uniform(0, 1, 100_000), [1000.0]])
    assert tensor_range(histogram(values), "minmax", symmetric=False)[1] == 1000.0
    assert tensor_range(histogram(values), "percentile:99.9", symmetric=False)[1] < 2.0


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_weights_are_off_by_half_a_step_at_most(rows: int, columns: int, seed: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    weight[0] = 0.0
    values, scales = quantized_weight(weight, 0)
    assert values.dtype == np.int8
    assert np.abs(values * scales[:, None] - weight).max() <= scales.max() * 0.5001
    assert not values[0].any()


def outputs(correct: int, total: int) -> Outputs:
    """Answers of which the first `correct` are right (the label is always 1 of 2)."""
    values = np.tile([0.0, 1.0], (total, 1))
    values[correct:] = [1.0, 0.0]
    return Outputs(values, np.ones(total, np.int64), None, True)


LOOSE = {"fewest_agreement": Fraction(0), "most_recall_drop": Fraction(1)}


@pytest.mark.parametrize(
    ("fp32", "int8", "verdict"),
    [
        (1000, 991, PASS),
        (1000, 990, FAIL),  # exactly one point: strict
        (1000, 1000, PASS),
        (500, 496, PASS),
        (500, 495, FAIL),  # half a point, but one per cent
        (990, 1000, PASS),
    ],
)
def test_the_limit_is_strict_and_counts_rows(fp32: int, int8: int, verdict: str) -> None:
    found = judge(metric_of("top1"), outputs(fp32, 1000), outputs(int8, 1000), GatePolicy(**LOOSE))  # type: ignore[arg-type]
    assert found.verdict == verdict, found.failures


def test_few_rows_never_pass_by_themselves() -> None:
    small = judge(metric_of("top1"), outputs(99, 100), outputs(99, 100), GatePolicy())
    assert small.verdict == INSUFFICIENT
    views = outputs(990, 1000)
    views.groups = np.repeat(np.arange(20), 50)
    assert judge(metric_of("top1"), views, views, GatePolicy()).verdict == INSUFFICIENT
    accepted = judge(metric_of("top1"), views, views, GatePolicy(accept_small_evaluation=True))
    assert accepted.verdict == PASS
    assert accepted.notes == ["20 independent rows are too few: 500 are needed to see a loss of one point; accepted "
                              "(--accept-small-evaluation)"]  # fmt: skip


def test_nan_is_a_failure_whatever_the_metric() -> None:
    good, bad = outputs(900, 1000), outputs(900, 1000)
    bad.values[5, 0] = np.nan
    bad.finite = False
    for name in ("top1", "f1", "auc", "cosine", "rmse"):
        assert judge(metric_of(name), good, bad, GatePolicy()).verdict == FAIL


def test_a_class_that_suffers_fails_although_the_whole_does_not() -> None:
    labels = np.repeat([0, 1], [5000, 60])
    old = np.eye(2)[labels]
    new = old.copy()
    new[-4:] = [1.0, 0.0]
    fp32, int8 = Outputs(old, labels, None, True), Outputs(new, labels, None, True)
    found = judge(metric_of("top1"), fp32, int8, GatePolicy())
    assert found.failures == ["class 1 loses 6.7 points of recall"]


def test_lower_is_better() -> None:
    truth = np.random.default_rng(0).normal(size=1000)
    fp32, worse = (Outputs((truth + e)[:, None], truth, None, True) for e in (0.1, 0.102))
    assert judge(metric_of("rmse"), fp32, worse, GatePolicy()).verdict == FAIL
    assert judge(metric_of("rmse"), worse, fp32, GatePolicy()).verdict == PASS


def test_auc_counts_ties_as_half() -> None:
    labels = np.array([0, 0, 1, 1])
    score = metric_of("auc").score
    assert score(np.array([[0.1], [0.4], [0.35], [0.8]]), labels, labels) == pytest.approx(0.75)
    assert score(np.array([[0.5], [0.5], [0.5], [0.5]]), labels, labels) == pytest.approx(0.5)


def test_reference_must_beat_the_commonest_answer() -> None:
    assert reference_problems(metric_of("top1"), outputs(1000, 1000))  # one class only: guessing is as good
    assert not reference_problems(metric_of("agreement"), outputs(10, 1000))


def test_times_are_written_without_exponents() -> None:
    assert [milliseconds(t) for t in (0.01234, 7.0, 81.52, 134.2, 999.6, 3576.4)] == [
        "0.0123 ms", "7 ms", "81.5 ms", "134 ms", "1,000 ms", "3,576 ms",
    ]  # fmt: skip
