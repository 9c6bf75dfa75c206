"""A slow model that larger batches make a little cheaper: rows go one by one while there is time, together when not."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.backend_load import BackendLoad
from gateway.core.batching import Batcher
from gateway.core.cost_profile import CostProfile
from gateway.core.plans import BatchLimits, BatchPlan, BatchReason, QueueItem
from tests.simulation.batching_world import MS, SECOND, US, Scenario, World
from tests.simulation.test_staging_worlds import PROMPT, ClosedLoop, percentile

Cost = Callable[[int], int]


def little_cheaper(rows: int) -> int:
    """The BERT shape in INT8 on two cores without AMX: a batch of 8 costs 10 % less a row than one of 1."""
    return 4 * MS + rows * 32 * MS


def mostly_fixed(rows: int) -> int:
    return 30 * MS + rows * 2 * MS


def learned(cost: Cost, profile: CostProfile | None = None, most: int = 8) -> CostProfile:
    profile = profile or CostProfile()
    for _ in range(100):
        for rows in (1, 2, 4, 8, 12, 16):
            if rows <= most:
                profile.observe(rows, cost(rows))
    return profile


class Known(World):
    """A world whose costs are learned, and whose arrivals do not depend on what is decided."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        super().__init__(scenario, seed)
        self.arrivals = random.Random(-1 - seed)
        learned(scenario.cost, self.profile, scenario.limits.max_rows)
        self.longest = scenario.cost(scenario.limits.max_rows)

    def _arrive(self, made: object) -> None:
        kept, self.rng = self.rng, self.arrivals
        super()._arrive(made)
        self.rng = kept


def open_loop(load: float, seed: int, cost: Cost = little_cheaper, most: int = 8, **more: Any) -> World:
    """Poisson arrivals, as a share of what full batches carry."""
    scenario = Scenario(
        items=1000, limits=BatchLimits(max_rows=most), cost=cost, rate=max(1, round(load * most * SECOND / cost(most))),
        timeouts=(60 * SECOND,), travel=500 * US, jitter_percent=5, **more,
    )  # fmt: skip
    return Known(scenario, seed).run()


@pytest.fixture
def always_together(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets batches be as large as ever they pay."""
    return lambda: monkeypatch.setattr("gateway.core.forming._SPARE", 1000)


@pytest.mark.parametrize(
    ("load", "shares"), [(0.2, {90: 1.0, 99: 0.96}), (0.35, {90: 0.93, 99: 0.96}), (0.5, {90: 0.97})]
)
def test_with_time_to_spare_nobody_waits_for_others_answers(
    load: float, shares: dict[int, float], always_together: Callable[[], None]
) -> None:
    alone = [open_loop(load, seed) for seed in range(12)]
    always_together()
    together = [open_loop(load, seed) for seed in range(12)]
    for share, at_most in shares.items():
        before = statistics.mean(percentile(world, share) for world in together)
        assert statistics.mean(percentile(world, share) for world in alone) < at_most * before


@pytest.mark.parametrize("seed", range(3))
def test_callers_who_keep_it_busy_get_all_that_full_batches_carry(
    seed: int, always_together: Callable[[], None]
) -> None:
    def answered() -> float:
        scenario = Scenario(
            items=1000, limits=BatchLimits(max_rows=8), cost=little_cheaper, travel=500 * US, jitter_percent=2
        )
        world = ClosedLoop(scenario, seed, 8, PROMPT)
        learned(little_cheaper, world.profile)
        world.longest = little_cheaper(8)
        world.run()
        return len(world.answered) * SECOND / world.ended_at

    spared = answered()
    always_together()
    assert spared > 0.99 * answered()


class Bursts(Known):
    """So many rows at one instant, again and again."""

    def _arrive(self, made: object) -> None:
        assert isinstance(made, int)
        for key in range(made, made + self.scenario.burst):
            item = QueueItem(key, 1, 100, "s", self.now, self.now + 60 * SECOND)
            self.items[key] = self.waiting[key] = item
            assert self.batcher.offer(item, self.now) is None
            self.due.append((item.deadline, key))
            self.stirred |= not self._joins(item)
        if made + self.scenario.burst < self.scenario.items:
            self._at(self.now + SECOND, "arrive", made + self.scenario.burst)


@pytest.mark.parametrize(("cost", "sizes"), [(mostly_fixed, (16,)), (little_cheaper, (1, 2))])
def test_a_burst_is_split_only_where_batches_save_little(cost: Cost, sizes: tuple[int, ...]) -> None:
    """One or two at a time, or, to see whether that is still right, now and then all together."""
    scenario = Scenario(items=16 * 40, burst=16, limits=BatchLimits(max_rows=16), cost=cost, travel=500 * US)
    plans = Bursts(scenario, 1).run().plans
    late = plans[len(plans) // 2 :]
    assert sum(plan.rows in sizes for plan in late) > 0.9 * len(late)


def test_what_was_learned_of_large_batches_outlives_a_quiet_time() -> None:
    """3,000 requests at a quarter of the load see hardly a batch of two; then half of all come too late if a batch of
    eight is taken for one that costs as little."""
    scenario = Scenario(items=3000, limits=BatchLimits(max_rows=8), cost=little_cheaper, rate=7, travel=500 * US,
                        timeouts=(SECOND,), jitter_percent=5)  # fmt: skip
    world = Known(scenario, 2).run()
    assert sum(plan.rows > 2 for plan in world.plans) < 8
    for rows in (4, 8):
        known = world.profile.estimate(rows)
        assert known is not None
        assert known > 0.9 * little_cheaper(rows)


def test_a_size_that_deadlines_rule_out_for_what_it_once_took_is_tried_again() -> None:
    scenario = Scenario(
        items=30_000, limits=BatchLimits(max_rows=8), cost=lambda rows: MS + rows * MS, rate=1000, timeouts=(60 * MS,)
    )
    world = World(scenario, 1)
    for _ in range(20):
        world.profile.observe(8, SECOND)
    world.longest = SECOND
    world.run()
    assert all(plan.rows < 8 for plan in world.plans[:1000])
    assert sum(plan.rows == 8 for plan in world.plans) > 200


def first_plan(profile: CostProfile, **limits: Any) -> BatchPlan:
    """Returns what leaves of eight rows that wait, after batches with nine times as much time between them."""
    batcher, now = Batcher(BatchLimits(max_rows=8, **limits), profile), 0
    for key in range(40):
        assert batcher.offer(QueueItem(key, 1, 100, "s", now, now + 60 * SECOND), now) is None
        assert [plan.rows for plan in batcher.poll(now, 2, 0).ready] == [1]
        now += 10 * MS
        profile.observe(1, profile.estimate(1) or 0)
        batcher.poll(now, 2, 0)
        now += 90 * MS
    for key in range(100, 108):
        assert batcher.offer(QueueItem(key, 1, 100, "s", now, now + 60 * SECOND), now) is None
    return batcher.poll(now, 1, 0).ready[0]


def test_only_a_slow_model_is_split_and_only_if_a_gain_is_asked_for() -> None:
    assert first_plan(learned(little_cheaper)).rows == 1
    assert first_plan(learned(little_cheaper), min_gain_percent=0).rows == 8
    assert first_plan(learned(lambda rows: 400 * US + rows * 900 * US)).rows == 8, "8 rows in 7.6 ms are quick"
    assert first_plan(learned(little_cheaper), min_gain_percent=40).rows == 1, "as is asked for at any load"


def test_a_row_that_is_alone_leaves_because_a_slot_was_free() -> None:
    world = open_loop(0.1, 1)
    assert world.reasons[BatchReason.IDLE] > 0.9 * len(world.plans)


def executed(spans: list[tuple[int, int]], load: BackendLoad | None = None) -> int:
    """Sends one batch after the other: so long idle before, so long executing. Returns the utilization in per cent."""
    load, now = load or BackendLoad(1, CostProfile()), 10**15
    for idle, busy in spans:
        now += idle
        load.sent(1, now)
        now += busy
        load.sync(0, now)
    return load.utilization_percent


def test_utilization_is_the_part_of_the_time_that_was_executed_lately() -> None:
    assert executed([]) == 100, "nothing is known"
    assert executed([(0, MS)] * 3) == 100
    assert executed([(MS, MS)] * 80) == 50
    assert executed([(2 * MS, MS)] * 80) == 33
    assert executed([(20 * MS, MS)] * 80) == 25, "nothing is said to be less"
    assert executed([(3 * MS, MS)] * 40 + [(0, MS)] * 40) > 90
    assert executed([(0, MS)] * 20 + [(10_000 * SECOND, MS)] + [(0, MS)] * 20) > 90, (
        "a night says no more than a second"
    )


def test_utilization_of_several_instances_is_that_of_all_that_can_be_reached() -> None:
    load = BackendLoad(2, CostProfile())
    assert executed([(0, MS)] * 80, load) == 50
    load.usable = 1
    assert executed([(0, MS)] * 80, load) == 100
    load, now = BackendLoad(2, CostProfile()), 0
    for _ in range(60):
        load.sent(1, now)
        load.sent(1, now)
        load.sent(1, now)  # staged: it does not execute
        now += MS
        load.sync(1, now)
        now += MS
        load.sync(0, now)
    assert 70 <= load.utilization_percent <= 75
