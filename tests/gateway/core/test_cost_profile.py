from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.backend_load import BackendLoad
from gateway.core.cost_profile import CostProfile
from gateway.core.service_time import ServiceTimer

MS = 1_000_000


def learned(*pairs: tuple[int, int], times: int = 100) -> CostProfile:
    profile = CostProfile()
    for _ in range(times):
        for rows, elapsed in pairs:
            profile.observe(rows, elapsed)
    return profile


def test_no_evidence_is_none() -> None:
    profile = CostProfile()
    assert profile.mean(1) is profile.high(1) is profile.drain_rate() is None
    assert profile.best_rows(32) == 32
    assert profile.rows_within(0, 32) == 32


def test_learns_the_mean_and_an_upper_quantile() -> None:
    profile = CostProfile()
    for index in range(2000):
        profile.observe(4, (10 + index % 10) * MS)
    mean, high = profile.mean(4), profile.high(4)
    assert mean is not None
    assert high is not None
    assert 13 * MS < mean < 16 * MS
    assert 17 * MS < high < 22 * MS


def test_larger_never_counts_as_faster_and_unknown_costs_at_least_the_known() -> None:
    profile = learned((2, 5 * MS), (8, 3 * MS))
    assert profile.mean(8) == profile.mean(2)
    assert profile.mean(1) is None
    assert profile.mean(64) == profile.mean(2)


def test_one_stall_moves_little_and_a_lasting_change_arrives() -> None:
    profile = learned((1, MS))
    profile.observe(1, 10_000 * MS)
    mean = profile.mean(1)
    assert mean is not None
    assert mean < 1.5 * MS
    for _ in range(60):
        profile.observe(1, 10 * MS)
    mean = profile.mean(1)
    assert mean is not None
    assert mean > 9 * MS


def test_what_was_not_seen_for_long_is_forgotten() -> None:
    profile = learned((32, 100 * MS))
    assert profile.rows_within(50 * MS, 32) == 24
    for _ in range(1100):
        profile.observe(1, MS)
    assert profile.rows_within(50 * MS, 32) == 32


def test_best_rows_needs_evidence_and_finds_the_knee() -> None:
    sizes = (1, 2, 4, 8, 16, 32)
    linear = [(rows, 2 * MS + 8 * MS * rows) for rows in sizes]
    assert learned(*linear, times=10).best_rows(32) == 32
    assert 4 <= learned(*linear).best_rows(32) <= 8
    assert learned(*[(rows, 4 * MS + rows * MS // 2) for rows in sizes]).best_rows(32) == 32
    assert learned(*linear).best_rows(32, 0) == 32
    assert 4 <= learned(*linear[:-1]).best_rows(32) <= 8, "16 rows gained nothing over 8: nor would 32"
    assert learned(*linear[:3]).best_rows(32) == 32, "four rows still gained"
    assert learned((1, 9 * MS), (2, 18 * MS), times=128).best_rows(32) == 1
    assert learned((1, 3 * MS), (2, 6 * MS), times=128).best_rows(32) == 32, "the gateway gains by fewer batches"
    assert learned((1, 9 * MS), times=256).best_rows(32) == 32
    assert learned((2, 9 * MS), (3, 9 * MS * 3 // 2), times=128).best_rows(32) == 32, "three are not twice two"


def test_drain_rate_is_the_best_throughput() -> None:
    assert learned((1, MS), (10, 2 * MS)).drain_rate() == 5000


@given(st.lists(st.tuples(st.integers(1, 200_000), st.integers(0, 10**13)), max_size=60), st.integers(1, 100_000))
def test_tables_are_monotone(pairs: list[tuple[int, int]], max_rows: int) -> None:
    profile = learned(*pairs, times=1)
    for table in (profile.mean, profile.high):
        found = [table(rows) for rows in (1, 2, 3, 5, 9, 40, 1000, 1 << 17)]
        values = [value for value in found if value is not None]
        assert values == sorted(values)
        assert None not in found[len(found) - len(values) :]
    for span in (0, MS, 10**13):
        rows = profile.rows_within(span, max_rows)
        assert 0 <= rows <= max_rows
        high = profile.high(rows) if rows else None
        assert high is None or high <= span
    assert 1 <= profile.best_rows(max_rows) <= max_rows


@pytest.mark.parametrize(("rows", "elapsed"), [(0, 1), (1, -1)])
def test_nonsense_is_refused(rows: int, elapsed: int) -> None:
    with pytest.raises(ValueError, match="cannot learn"):
        CostProfile().observe(rows, elapsed)


def test_service_time_leaves_staging_out() -> None:
    timer = ServiceTimer(1)
    timer.sent(1, 0)
    timer.sent(2, 1)
    timer.sent(3, 2)
    assert timer.finished(1, 10) == 10
    assert timer.finished(3, 11) is None
    assert timer.finished(2, 15) == 5
    assert timer.finished(2, 16) is None


def test_service_time_with_two_instances() -> None:
    timer = ServiceTimer(2)
    for token in range(3):
        timer.sent(token, token)
    assert timer.finished(1, 10) == 9
    assert timer.finished(2, 14) == 4
    assert timer.finished(0, 20) == 20
    with pytest.raises(ValueError, match="instances"):
        ServiceTimer(0)


def test_expected_wait_is_what_is_left_of_the_batches_in_flight() -> None:
    load = BackendLoad(1, learned((1, 10 * MS)))
    assert load.wait(0) == 0
    load.sent(1, 0)
    load.sent(1, 0)
    assert load.wait(4 * MS) == 16 * MS
    load.sync(1, 12 * MS)  # the first took longer; the second began just now
    assert load.wait(12 * MS) == 10 * MS
    assert load.wait(40 * MS) == 0
    load.sync(0, 40 * MS)
    assert load.wait(40 * MS) == 0
    load.sync(2, 41 * MS)
    assert (load.busy, load.wait(41 * MS)) == (2, 0)


def test_an_estimate_is_in_proportion_within_a_range_of_sizes() -> None:
    profile = learned((6, 60 * MS), (12, 120 * MS))
    assert profile.mean(5) == 60 * MS
    assert profile.estimate(5) == 50 * MS
    assert profile.estimate(6) == 60 * MS
    assert profile.estimate(9) == 90 * MS
    assert profile.estimate(16) == profile.mean(16) == 120 * MS, "nothing of that size was seen"
    assert CostProfile().estimate(5) is None


def test_a_load_knows_when_the_next_batch_would_begin() -> None:
    profile = learned((1, 10 * MS), (4, 40 * MS))
    load = BackendLoad(2, profile)
    load.sent(4, 0)
    assert load.idle
    assert load.next_start() is None
    load.sent(1, MS)
    assert not load.idle
    assert load.next_start() == (11 * MS, 1)
    load.sent(4, 2 * MS)
    assert load.next_start() == (40 * MS, 4), "the staged one takes the place of the one that ends first"
    assert load.sync(2, 41 * MS) == 4
    assert load.next_start() == (11 * MS, 1), "it is overdue"
    assert load.sync(3, 42 * MS) == 0
    assert load.next_start() is None, "a batch of unknown size is in flight"
