"""The batcher's rules one by one; tests/simulation runs them together."""

from __future__ import annotations

import pytest

from gateway.core.backend_load import PROBE_AFTER
from gateway.core.batching import Batcher
from gateway.core.cost_profile import CostProfile
from gateway.core.plans import BatchLimits, BatchReason, PollResult, QueueItem, RejectionKind

MS, SECOND = 1_000_000, 1_000_000_000


class Queue:
    """A batcher and a way to fill it briefly."""

    def __init__(self, profile: CostProfile | None = None, **limits: int) -> None:
        limits.setdefault("max_rows", 8)
        self.profile = profile or CostProfile()
        self.batcher = Batcher(BatchLimits(**limits), self.profile)

    def offer(
        self, key: int, rows: int = 1, *, nbytes: int = 10, now: int = 0, due: int = SECOND, sign: object = "s",
        priority: int = 0,
    ) -> RejectionKind | None:  # fmt: skip
        rejection = self.batcher.offer(QueueItem(key, rows, nbytes, sign, now, due, priority), now)
        self.batcher.check_invariants()
        return rejection.kind if rejection else None

    def poll(self, now: int = 1, free: int = 1, busy: int = 0) -> PollResult:
        result = self.batcher.poll(now, free, busy)
        self.batcher.check_invariants()
        return result

    def keys(self, now: int = 1, free: int = 1, busy: int = 0) -> list[list[int]]:
        return [plan.keys for plan in self.poll(now, free, busy).ready]


def known(cost: dict[int, int], times: int = 40) -> CostProfile:
    profile = CostProfile()
    for _ in range(times):
        for rows, elapsed in cost.items():
            profile.observe(rows, elapsed)
    return profile


def test_a_lone_request_leaves_at_once_when_the_backend_is_idle() -> None:
    queue = Queue(max_queue_delay=5 * MS)
    queue.offer(1)
    result = queue.poll()
    assert [plan.keys for plan in result.ready] == [[1]]
    assert result.ready[0].reason is BatchReason.IDLE
    assert result.wake_at is None


def test_nothing_leaves_without_a_slot_and_the_batch_grows() -> None:
    queue = Queue()
    for key in range(3):
        queue.offer(key)
        assert queue.keys(free=0, busy=1) == []
    assert queue.keys() == [[0, 1, 2]]


def test_a_full_batch_says_so_and_the_rest_waits() -> None:
    queue = Queue()
    for key in range(10):
        queue.offer(key)
    plan = queue.poll().ready[0]
    assert (plan.keys, plan.rows, plan.nbytes, plan.reason) == (list(range(8)), 8, 80, BatchReason.FULL)
    assert queue.batcher.queued_rows == 2
    assert len(queue.batcher) == 2


def test_rows_count_not_requests_and_small_ones_top_up() -> None:
    queue = Queue()
    queue.offer(1, 5)
    queue.offer(2, 4)
    queue.offer(3, 3)
    queue.offer(4, 1)
    assert queue.keys() == [[1, 3]]
    assert queue.keys() == [[2, 4]]


def test_bytes_bound_a_batch_but_one_item_may_exceed_them() -> None:
    queue = Queue(max_batch_bytes=100)
    queue.offer(1, nbytes=500)
    queue.offer(2, nbytes=60)
    queue.offer(3, nbytes=40)
    assert queue.keys() == [[1]]
    assert queue.keys() == [[2, 3]]


def test_signatures_never_meet_and_none_travels_alone() -> None:
    queue = Queue()
    for key, sign in enumerate(["a", "b", "a", None, None]):
        queue.offer(key, sign=sign)
    assert queue.keys(free=4) == [[0, 2], [1], [3], [4]]


def test_unbatchable_items_travel_alone_with_any_rows() -> None:
    queue = Queue(max_rows=1, batchable=False)
    assert queue.offer(1, 50) is None
    assert queue.offer(2) is None
    assert queue.keys(free=3) == [[1], [2]]


def test_earliest_deadline_first_within_and_between_signatures_ties_by_arrival() -> None:
    queue = Queue(max_rows=2)
    for key, (due, sign) in enumerate([(9, "a"), (5, "b"), (3, "a"), (5, "c"), (5, "a"), (9, "b")]):
        queue.offer(key, due=due * MS, sign=sign)
    assert queue.keys(free=9) == [[2, 4], [1, 5], [3], [0]]


@pytest.mark.parametrize(("priority", "first"), [(1, 2), (2, 1), (0, 1), (3, 1), (1 << 64, 1), (-5, 1)])
def test_priority_shifts_the_order(priority: int, first: int) -> None:
    queue = Queue(max_rows=1, priority_step=100)
    queue.offer(1, due=SECOND)
    queue.offer(2, due=SECOND + 50, priority=priority)
    assert queue.keys() == [[first]]


def test_priority_does_not_move_the_expiry() -> None:
    queue = Queue(priority_step=SECOND)
    queue.offer(1, due=10 * MS, priority=8)
    queue.offer(2, due=20 * MS, priority=1)
    result = queue.poll(10 * MS, free=0, busy=1)
    assert (result.expired, result.wake_at) == ([1], 20 * MS)
    assert queue.poll(20 * MS, free=0, busy=1).expired == [2]


def test_expired_items_leave_before_batching_with_or_without_a_slot() -> None:
    queue = Queue()
    queue.offer(1, due=10)
    queue.offer(2, due=30)
    result = queue.poll(10, free=1)
    assert (result.expired, [plan.keys for plan in result.ready]) == ([1], [[2]])


def test_wake_at_is_the_next_expiry() -> None:
    queue = Queue()
    queue.offer(1, due=50)
    queue.offer(2, due=40, sign="t")
    assert queue.poll(5, free=0, busy=1).wake_at == 40
    assert queue.poll(40, free=0, busy=1).wake_at == 50


def test_delay_holds_a_growing_batch_only_while_busy() -> None:
    queue = Queue(max_queue_delay=5 * MS)
    queue.offer(1, now=0)
    held = queue.poll(MS, free=1, busy=1)
    assert (held.ready, held.wake_at) == ([], 5 * MS)
    assert queue.poll(5 * MS, free=1, busy=1).ready[0].reason is BatchReason.DELAY


def test_a_full_batch_is_not_held_nor_is_one_of_another_signature() -> None:
    queue = Queue(max_queue_delay=5 * MS)
    queue.offer(0, sign="t")
    for key in range(1, 9):
        queue.offer(key)
    result = queue.poll(MS, free=1, busy=1)
    assert [plan.reason for plan in result.ready] == [BatchReason.FULL]
    assert queue.poll(MS, free=1, busy=1).wake_at == 5 * MS


def test_a_deadline_ends_the_delay_early() -> None:
    queue = Queue(known({1: 3 * MS}), max_queue_delay=50 * MS)
    queue.offer(1, due=20 * MS)
    held = queue.poll(MS, free=1, busy=0)  # idle: leaves
    assert held.ready
    queue.offer(2, now=MS, due=20 * MS)
    held = queue.poll(2 * MS, free=1, busy=1)
    assert held.wake_at is not None
    assert held.wake_at < 20 * MS - 3 * MS + 1
    assert queue.poll(held.wake_at, free=1, busy=1).ready[0].reason is BatchReason.DEADLINE


def test_drain_closes_the_door_and_ends_delays() -> None:
    queue = Queue(max_queue_delay=5 * MS)
    queue.offer(1)
    queue.batcher.drain()
    assert queue.batcher.draining
    assert queue.offer(2) is RejectionKind.DRAINING
    assert queue.poll(MS, free=0, busy=1).ready == []
    assert queue.poll(MS, free=1, busy=1).ready[0].reason is BatchReason.DRAIN


def test_withdrawn_items_leave_no_trace() -> None:
    queue = Queue()
    for key in range(200):
        queue.offer(key, due=SECOND - key)
    for key in range(0, 200, 2):
        assert queue.batcher.withdraw(key)
    assert not queue.batcher.withdraw(0)
    assert not queue.batcher.withdraw(999)
    queue.batcher.check_invariants()
    assert queue.batcher.queued_rows == 100
    assert queue.keys(free=1) == [list(range(199, 183, -2))]


def test_agendas_stay_bounded_under_many_signatures() -> None:
    queue = Queue()
    for key in range(3000):
        queue.batcher.offer(QueueItem(key, 1, 1, key, 0, SECOND - key), 0)
        queue.batcher.withdraw(key)
    queue.batcher.check_invariants()
    assert len(queue.batcher) == 0


@pytest.mark.parametrize(
    ("limits", "item", "kind"),
    [
        ({"max_queue_rows": 5}, {"rows": 6}, RejectionKind.TOO_MANY_ROWS),
        ({"max_queue_rows": 5}, {"rows": 5}, RejectionKind.QUEUE_ROWS),
        ({"max_queue_bytes": 15}, {"nbytes": 10}, RejectionKind.QUEUE_BYTES),
        ({}, {"rows": 9}, RejectionKind.TOO_MANY_ROWS),
        ({}, {"rows": 0}, RejectionKind.NO_ROWS),
        ({}, {"rows": -1}, RejectionKind.NO_ROWS),
        ({}, {"due": 0}, RejectionKind.EXPIRED),
    ],
)
def test_refusals_at_the_door(limits: dict[str, int], item: dict[str, int], kind: RejectionKind) -> None:
    queue = Queue(**limits)
    assert queue.offer(1) is None
    assert queue.offer(2, **item) is kind
    assert len(queue.batcher) == 1


def test_a_full_queue_says_when_to_come_back() -> None:
    queue = Queue(known({8: 8 * MS}), max_queue_rows=100)
    for key in range(100):
        queue.offer(key)
    rejection = queue.batcher.offer(QueueItem(100, 1, 1, "s", 0, SECOND), 0)
    assert rejection is not None
    assert rejection.limit == 100
    assert rejection.retry_after == 50 * MS


def test_the_same_key_twice_is_a_bug() -> None:
    queue = Queue()
    queue.offer(1)
    with pytest.raises(ValueError, match="waiting already"):
        queue.offer(1)


def test_batch_size_follows_the_earliest_deadline() -> None:
    queue = Queue(known({1: 2 * MS, 2: 3 * MS, 4: 5 * MS, 8: 9 * MS}))
    queue.offer(0, due=8 * MS)
    for key in range(1, 8):
        queue.offer(key, due=SECOND)
    plan = queue.poll(0).ready[0]
    assert plan.keys[0] == 0
    assert 2 <= plan.rows <= 6
    assert plan.reason is BatchReason.DEADLINE


def test_heads_that_cannot_finish_are_shed_but_never_without_evidence() -> None:
    tight, loose = {"due": 3 * MS}, {"due": SECOND}
    queue = Queue(known({1: 5 * MS, 8: 9 * MS}))
    queue.offer(0, **loose)
    queue.poll(0)  # something was sent just now: no probing
    assert queue.offer(1, now=1, **tight) is RejectionKind.CANNOT_FINISH
    queue.offer(2, now=1, due=7 * MS)
    queue.offer(3, now=1, **loose)
    result = queue.poll(4 * MS)
    assert (result.shed, [plan.keys for plan in result.ready]) == ([2], [[3]])
    naive = Queue()
    naive.offer(1, **tight)
    assert naive.poll(2 * MS).shed == []


def test_an_idle_backend_is_probed_after_a_while() -> None:
    queue = Queue(known({1: 5 * SECOND}))
    queue.offer(1, due=10 * SECOND)
    queue.poll(0)
    assert queue.offer(2, now=1, due=SECOND) is RejectionKind.CANNOT_FINISH
    queue.poll(2, busy=0)
    later = PROBE_AFTER + 2
    assert queue.offer(3, now=later, due=later + SECOND) is None
    assert queue.keys(later) == [[3]]
    assert queue.offer(4, now=later + 1, due=later + SECOND) is RejectionKind.CANNOT_FINISH


def test_the_door_reckons_with_what_is_ahead_and_only_with_that() -> None:
    queue = Queue(known({8: 8 * MS}))
    queue.offer(0)
    queue.poll(0)  # something was sent just now: no probing; a row costs one millisecond from here on
    refused = [queue.offer(key, now=1, due=25 * MS) for key in range(1, 41)]
    assert refused == [None] * 25 + [RejectionKind.CANNOT_FINISH] * 15
    assert queue.offer(41, now=1, due=24 * MS) is None, "it overtakes what waits"
    assert queue.offer(42, now=1, due=26 * MS) is RejectionKind.CANNOT_FINISH


@pytest.mark.parametrize(
    "wrong",
    [{"max_rows": 0}, {"max_queue_rows": 0}, {"max_queue_delay": -1}, {"default_priority": 0}, {"instances": 0}],
)
def test_limits_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BatchLimits(**{"max_rows": 8, **wrong})
