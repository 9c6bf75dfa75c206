"""A slow model that larger batches make a little cheaper: rows go one by one while there is time, together when not."""

from __future__ import annotations

import statistics

import pytest

from gateway.core.backend_load import BackendLoad
from gateway.core.cost_profile import CostProfile
from gateway.core.plans import BatchLimits
from tests.simulation.batching_world import MS, SECOND, US, Scenario, World
from tests.simulation.test_staging_worlds import PROMPT, ClosedLoop, percentile


def little_cheaper(rows: int) -> int:
    """The BERT shape in INT8 on two cores without AMX: a batch of 8 costs 10 % less a row than one of 1."""
    return 4 * MS + rows * 32 * MS


LIMITS = BatchLimits(max_rows=8)


def learn(world: World) -> World:
    for _ in range(100):
        for rows in (1, 2, 4, 8):
            world.profile.observe(rows, little_cheaper(rows))
    world.longest = little_cheaper(8)
    return world


def open_loop(load: float, seed: int) -> World:
    """Poisson arrivals, as a share of what full batches carry."""
    scenario = Scenario(
        items=1000, limits=LIMITS, cost=little_cheaper, rate=round(load * 8 * SECOND / little_cheaper(8)),
        timeouts=(60 * SECOND,), travel=500 * US, jitter_percent=5,
    )  # fmt: skip
    return learn(World(scenario, seed)).run()


@pytest.mark.parametrize(("load", "shares"), [(0.35, {90: 0.92, 99: 0.95}), (0.5, {90: 0.95})])
def test_with_time_to_spare_nobody_waits_for_others_answers(
    load: float, shares: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [open_loop(load, seed) for seed in range(12)]
    monkeypatch.setattr("gateway.core.forming._SPARE", 1000)
    together = [open_loop(load, seed) for seed in range(12)]
    for share, at_most in shares.items():
        before = statistics.mean(percentile(world, share) for world in together)
        assert statistics.mean(percentile(world, share) for world in alone) < at_most * before


@pytest.mark.parametrize("seed", range(3))
def test_callers_who_keep_it_busy_get_all_that_full_batches_carry(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def answered() -> float:
        scenario = Scenario(items=1000, limits=LIMITS, cost=little_cheaper, travel=500 * US, jitter_percent=2)
        world = learn(ClosedLoop(scenario, seed, 8, PROMPT)).run()
        return len(world.answered) * SECOND / world.ended_at

    spared = answered()
    monkeypatch.setattr("gateway.core.forming._SPARE", 1000)
    assert spared > 0.99 * answered()


def executed(load: BackendLoad, spans: list[tuple[int, int]]) -> int:
    """Sends one batch after the other: so long idle before, so long executing. Returns the utilization in per cent."""
    now = 0
    for idle, busy in spans:
        now += idle
        load.sent(1, now)
        now += busy
        load.sync(0, now)
    return load.utilization_percent


def test_utilization_is_the_part_of_the_time_that_was_executed_lately() -> None:
    load = BackendLoad(1, CostProfile())
    assert load.utilization_percent == 100, "nothing is known"
    assert executed(load, [(3 * MS, MS)] * 40) == 25
    assert executed(BackendLoad(1, CostProfile()), [(0, MS)] * 3) == 100
    lately = executed(BackendLoad(1, CostProfile()), [(3 * MS, MS)] * 40 + [(0, MS)] * 40)
    assert 90 <= lately <= 100
    night = executed(BackendLoad(1, CostProfile()), [(0, MS)] * 20 + [(10_000 * SECOND, MS)] + [(0, MS)] * 20)
    assert night > 90, "a night says no more than a second"


def test_utilization_of_several_instances_is_that_of_all() -> None:
    load = BackendLoad(2, CostProfile())
    now = 0
    for _ in range(30):
        load.sent(1, now)
        now += MS
        load.sync(0, now)
    assert load.utilization_percent == 50
    for _ in range(60):
        load.sent(1, now)
        load.sent(1, now)
        now += MS
        load.sync(1, now)
        load.sync(0, now)
    assert load.utilization_percent > 95
