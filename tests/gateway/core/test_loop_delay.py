"""A late loop is reckoned with while it is late, and what it makes look slow is not believed."""

from __future__ import annotations

from gateway.core.batching import Batcher
from gateway.core.cost_profile import CostProfile
from gateway.core.loop_delay import LoopDelay
from gateway.core.plans import BatchLimits, QueueItem, RejectionKind

MILLISECOND = 1_000_000


def late(delay: int, at: int = 0) -> LoopDelay:
    found = LoopDelay()
    found.asked(at)
    found.ran(at + delay)
    return found


def test_an_ordinary_turn_is_no_delay() -> None:
    assert late(4 * MILLISECOND).at(5 * MILLISECOND) == 0


def test_a_delay_holds_for_two_turns_of_its_length_and_is_then_forgotten() -> None:
    delay = late(50 * MILLISECOND)
    assert delay.at(60 * MILLISECOND) == delay.at(150 * MILLISECOND) == 50 * MILLISECOND
    assert delay.at(151 * MILLISECOND) == 0


def test_a_short_turn_between_long_ones_changes_nothing_yet() -> None:
    delay = late(50 * MILLISECOND)
    delay.asked(51 * MILLISECOND)
    delay.ran(51 * MILLISECOND)
    assert delay.at(60 * MILLISECOND) == 50 * MILLISECOND


def test_a_time_that_may_be_the_loops_own_tells_nothing() -> None:
    delay = late(50 * MILLISECOND)
    assert delay.spoils(60 * MILLISECOND, 55 * MILLISECOND)
    assert not delay.spoils(200 * MILLISECOND, 55 * MILLISECOND)
    assert not delay.spoils(60 * MILLISECOND, 400 * MILLISECOND)


def test_a_turn_that_is_not_over_counts_too() -> None:
    delay = LoopDelay()
    delay.asked(0)
    assert delay.spoils(30 * MILLISECOND, 20 * MILLISECOND)
    assert not delay.spoils(3 * MILLISECOND, 2 * MILLISECOND)


def test_what_a_late_loop_would_answer_too_late_is_refused_while_it_is_late() -> None:
    batcher = Batcher(BatchLimits(max_rows=8), CostProfile())
    assert batcher.offer(QueueItem(1, 1, 8, "s", 0, 100 * MILLISECOND), 0) is None
    batcher.poll(0, 1, 0)
    batcher.pace.turns_take(40 * MILLISECOND)
    refused = batcher.offer(QueueItem(2, 1, 8, "s", 0, 100 * MILLISECOND), 1)
    assert refused is not None
    assert refused.kind is RejectionKind.CANNOT_FINISH
    batcher.pace.turns_take(0)
    assert batcher.offer(QueueItem(3, 1, 8, "s", 0, 100 * MILLISECOND), 2) is None


def test_no_more_rows_wait_than_leave_in_the_turns_that_are_left() -> None:
    batcher = Batcher(BatchLimits(max_rows=8), CostProfile())
    batcher.offer(QueueItem(1000, 1, 8, "s", 0, 100 * MILLISECOND), 0)
    batcher.poll(0, 1, 0)
    batcher.pace.turns_take(10 * MILLISECOND)
    taken = 0
    for key in range(200):
        taken += batcher.offer(QueueItem(key, 1, 8, "s", 0, 100 * MILLISECOND), 0) is None
    assert 90 <= taken <= 112  # 70 ms are seven turns of two batches of eight
