"""A server that only does its work, one request after the other."""

from __future__ import annotations

import numpy as np

from benchmarks.scenarios import ideal_queue


def test_who_comes_while_another_is_served_waits_for_it() -> None:
    instants = np.array([0.0, 100.0, 110.0, 120.0, 500.0])
    assert ideal_queue.latencies(instants, 30.0).tolist() == [30, 30, 50, 70, 30]


def test_evenly_spaced_arrivals_that_fit_never_wait() -> None:
    assert set(ideal_queue.latencies(np.arange(0.0, 1000.0, 100.0), 99.0)) == {99.0}


def test_the_percentile_is_a_value_that_was_there() -> None:
    values = np.arange(1.0, 201.0)
    assert ideal_queue.percentile(values, 0.99) == 198
    assert ideal_queue.percentile(values, 0.5) == 100
    assert ideal_queue.percentile(np.array([7.0]), 0.99) == 7
