"""Brief models: behind a batch that runs a small one lingers, so that there are fewer; what it costs, when it ends."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.batching import Batcher
from gateway.core.cost_profile import CostProfile
from gateway.core.plans import BatchLimits, QueueItem
from tests.simulation.batching_world import MS, SECOND, US, Scenario, World
from tests.simulation.test_staging_worlds import ClosedLoop

COSTS = {1: 300 * US, 4: 400 * US, 8: 500 * US, 32: 900 * US}
CROWD = 31
"""So many rows were here at once when the batcher of `lingering` was made."""
RETURNS = (100 * US, 300 * US)


def brief(rows: int) -> int:
    return 300 * US + 15 * US * rows


def waits(world: World, share: float) -> int:
    """Returns the time that this share of the answered waited at most."""
    spans = sorted(answered - world.items[key].enqueued_at for key, answered in world.answered.items())
    return spans[int(share * len(spans))]


@pytest.mark.parametrize("rate", [3_000, 10_000])
@pytest.mark.parametrize(("travel", "longer"), [(50 * US, 1.0), (150 * US, 1.25)])
def test_a_brief_model_executes_fewer_batches_and_callers_wait_hardly_longer(
    rate: int, travel: int, longer: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processors are free here without end, so that only the cost of lingering is seen and not what it is for."""
    scenario = Scenario(items=10_000, cost=brief, rate=rate, travel=travel)
    lingers = World(scenario, 1).run()
    monkeypatch.setattr("gateway.core.staging.BRIEF", 0)
    at_once = World(scenario, 1).run()
    assert len(lingers.plans) < (0.85 if rate < 10_000 else 0.9) * len(at_once.plans)
    for share in (0.5, 0.99):
        assert waits(lingers, share) < longer * waits(at_once, share)


@pytest.mark.parametrize("callers", [2, 3, 4, 6, 8, 16])
@pytest.mark.parametrize("travel", [50 * US, 150 * US])
@pytest.mark.parametrize("signatures", [1, 7])
def test_callers_who_wait_for_their_answers_lose_next_to_nothing(
    callers: int, travel: int, signatures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all are here there is nobody left to wait for. Most are faster; four with a long way are a tenth slower."""

    def span() -> int:
        scenario = Scenario(items=3000, cost=brief, travel=travel)
        world = ClosedLoop(scenario, 1, callers, RETURNS)
        if signatures > 1:
            monkeypatch.setattr(
                world, "_ask", lambda key: world._offer(QueueItem(key, 1, 100, key % 7, world.now, world.now + SECOND))
            )
        world.run()
        return world.ended_at

    lingering = span()
    monkeypatch.setattr("gateway.core.staging.BRIEF", 0)
    assert lingering < 1.12 * span()


class AlwaysAsked(World):
    """Polls after every arrival."""

    def _joins(self, item: QueueItem) -> bool:
        return False


@pytest.mark.parametrize("rate", [2_000, 5_000, 20_000])
@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("unlike", [{}, {"rows": (1, 1, 3), "signatures": 2}, {"nbytes": 4000}, {"cancel_percent": 20}])
def test_where_nobody_is_asked_nothing_would_have_been_decided(rate: int, instances: int, unlike: Any) -> None:
    timeouts = (2 * MS, 3 * MS, 5 * MS, SECOND, SECOND, SECOND)
    limits = BatchLimits(max_rows=16, instances=instances, max_batch_bytes=20_000)
    scenario = Scenario(
        items=2_000, limits=limits, slots=2 * instances, cost=brief, rate=rate, timeouts=timeouts, **unlike
    )
    asked, always = World(scenario, rate).run(), AlwaysAsked(scenario, rate).run()
    assert [plan.keys for plan in asked.plans] == [plan.keys for plan in always.plans]
    assert asked.outcomes == always.outcomes
    if rate == 5_000 and instances == 1 and "signatures" not in unlike:
        assert asked.polls < 0.9 * always.polls
    if rate == 20_000 and instances == 1 and not unlike:
        assert asked.polls < 0.6 * always.polls, "nothing is to be decided where no slot is free"


def test_where_no_batch_of_its_own_ends_an_arrival_is_never_passed_over() -> None:
    """Another queue of the same version (a rollback to one that still drains) can hold every slot."""
    batcher = lingering(1)
    assert not batcher.poll(MS, 0, 0).ready
    ask(batcher, 1, 90, MS)
    assert not batcher.joins(QueueItem(91, 1, 100, "s", MS, 10 * SECOND))
    assert not batcher.poll(MS, 0, 1).ready
    assert batcher.joins(QueueItem(91, 1, 100, "s", MS, 10 * SECOND))


def lingering(rows: int, **more: Any) -> Batcher:
    """Returns a batcher that knows `COSTS` and one signature; 4 rows are in flight, `rows` wait since 1 ms."""
    profile = CostProfile()
    for _ in range(40):
        for size, elapsed in COSTS.items():
            profile.observe(size, elapsed)
    batcher = Batcher(BatchLimits(**{"max_rows": 64, "min_gain_percent": 0} | more), profile)
    for key in range(-100, -80):
        assert batcher.offer(QueueItem(key, 1, 100, "s", 0, 10 * SECOND), 0) is None
        assert len(batcher.poll(0, 2, 0).ready) == 1
    ask(batcher, CROWD - 1, -80, 0)
    assert batcher.poll(0, 2, 0).ready[0].rows == CROWD - 1
    busy = batcher._limits.instances
    batcher.poll(0, 0, busy)
    ask(batcher, 1, -1, 0)
    batcher.poll(0, 1, busy)  # as many as ever were here
    ask(batcher, 4, 0, 0)
    assert batcher.poll(0, 2, 0).ready
    ask(batcher, rows, 10, MS)
    return batcher


def ask(batcher: Batcher, rows: int, first: int, now: int, signature: str = "s") -> None:
    for key in range(first, first + rows):
        assert batcher.offer(QueueItem(key, 1, 100, signature, now, 10 * SECOND), now) is None


def test_few_rows_linger_until_what_runs_has_ended() -> None:
    batcher = lingering(3)
    held = batcher.poll(MS, 1, 1)
    assert (held.ready, held.wake_at) == ([], 3 * MS), "for as long as a brief one may take"
    assert [plan.rows for plan in batcher.poll(MS + 200 * US, 2, 0).ready] == [3]
    assert [plan.rows for plan in lingering(3).poll(3 * MS, 1, 1).ready] == [3], "what runs takes long all the same"


def test_enough_rows_do_not_linger() -> None:
    assert not lingering(3).poll(MS, 1, 1).ready
    assert [plan.rows for plan in lingering(4).poll(MS, 1, 1).ready] == [4]


def test_when_all_who_ever_were_here_are_here_nothing_lingers() -> None:
    batcher = lingering(20)
    assert [plan.rows for plan in batcher.poll(MS, 2, 0).ready] == [20]
    ask(batcher, CROWD - 21, 50, MS)
    assert not batcher.poll(MS, 1, 1).ready
    ask(batcher, 1, 90, MS)
    assert [plan.rows for plan in batcher.poll(MS, 1, 1).ready] == [CROWD - 20]


def test_what_cannot_be_joined_does_not_linger() -> None:
    batcher = lingering(0)
    ask(batcher, 1, 50, MS, "other")
    assert not batcher.poll(MS, 1, 1).ready, "one of another signature came: that it is another is not known yet"
    assert len(batcher.poll(MS, 2, 0).ready) == 1
    ask(batcher, 1, 51, MS)
    assert len(batcher.poll(MS, 1, 1).ready) == 1, "signatures alternate"


def test_beside_an_idle_instance_with_a_delay_or_before_a_deadline_nothing_lingers() -> None:
    assert [plan.rows for plan in lingering(1, instances=2).poll(MS, 1, 1).ready] == [1]
    assert [plan.rows for plan in lingering(1).poll(MS, 1, 1, starving=True).ready] == [1]
    delayed = lingering(0, max_queue_delay=500 * US)
    ask(delayed, 1, 50, MS)
    assert delayed.poll(MS, 1, 1).wake_at == MS + 500 * US, "the setting says how long"
    batcher = lingering(0)
    assert batcher.offer(QueueItem(9, 1, 100, "s", MS, 2 * MS), MS) is None
    wake_at = batcher.poll(MS, 1, 1).wake_at
    assert wake_at is not None
    assert wake_at <= 2 * MS - 300 * US
    assert [plan.rows for plan in batcher.poll(wake_at, 1, 1).ready] == [1]
