"""A run counts only if the generator was not what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.bench.validity import GeneratorFigures, lag_limit_us, reasons_invalid

GOOD = GeneratorFigures(
    lag_p99_us=150, slo_ms=10, planned=1000, sent_in_window=1000, unanswered=0, cpu_share=0.3, steal_share=0.0
)


def test_a_good_run_counts() -> None:
    assert reasons_invalid(GOOD) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"lag_p99_us": 501.0}, "lagged"),
        ({"sent_in_window": 989}, "fell behind"),
        ({"unanswered": 1}, "neither an answer"),
        ({"cpu_share": 0.91}, "own limit"),
        ({"steal_share": 0.021}, "stolen"),
        ({"planned": 0, "sent_in_window": 0}, "no request"),
    ],
)
def test_each_rule_alone_makes_a_run_invalid(change: dict[str, float], word: str) -> None:
    reasons = reasons_invalid(replace(GOOD, **change))  # type: ignore[arg-type]
    assert len(reasons) == 1
    assert word in reasons[0]


def test_limits_are_inclusive() -> None:
    edge = replace(GOOD, lag_p99_us=500.0, sent_in_window=990, cpu_share=0.9, steal_share=0.02)
    assert reasons_invalid(edge) == []


def test_the_lag_limit_follows_what_is_judged_but_never_below_200_us() -> None:
    assert lag_limit_us(1) == 200
    assert lag_limit_us(100) == 5000


def test_every_reason_is_told() -> None:
    worst = replace(GOOD, lag_p99_us=1e6, unanswered=3, cpu_share=1.0)
    assert len(reasons_invalid(worst)) == 3
