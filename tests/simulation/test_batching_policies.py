"""What the batcher's decisions are worth, counted in simulated time: goodput, order, starvation, recovery."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.batching import Batcher
from gateway.core.cost_profile import CostProfile
from gateway.core.plans import BatchLimits, QueueItem
from tests.simulation.batching_world import MS, SECOND, US, Scenario, World


def fifo_goodput(world: World, capacity_rows: int, cost: Callable[[int], int]) -> int:
    """Returns the rows that first-come-first-served without shedding answers in time for the same arrivals."""
    now = in_time = index = 0
    items = sorted(world.items.values(), key=lambda item: item.key)
    while index < len(items):
        now = max(now, items[index].enqueued_at)
        batch = []
        while index < len(items) and len(batch) < capacity_rows and items[index].enqueued_at <= now:
            batch.append(items[index])
            index += 1
        now += cost(len(batch))
        in_time += sum(now <= item.deadline for item in batch)
    return in_time


def gpu_like(rows: int) -> int:
    return 4 * MS + rows * 500 * US


def cpu_like(rows: int) -> int:
    return 2 * MS + rows * 8 * MS


def overloaded(load: float, cost: Callable[[int], int], timeouts: tuple[int, ...], **more: int) -> World:
    capacity = 32 * SECOND // cost(32)
    scenario = Scenario(
        items=int(capacity * load * 6), limits=BatchLimits(max_rows=32, max_queue_rows=100_000), cost=cost,
        rate=int(capacity * load), timeouts=timeouts, check_every=500, **more,
    )  # fmt: skip
    return World(scenario, seed=int(load * 100)).run()


@pytest.mark.parametrize(
    ("load", "cost", "timeouts", "least_percent"),
    [
        (0.8, gpu_like, (50 * MS,), 76),
        (1.1, gpu_like, (50 * MS,), 88),
        (2.0, gpu_like, (50 * MS,), 90),
        (2.0, gpu_like, (30 * MS, 200 * MS), 88),
        (1.3, cpu_like, (100 * MS,), 88),
    ],
)
def test_goodput(load: float, cost: Callable[[int], int], timeouts: tuple[int, ...], least_percent: int) -> None:
    """Rows answered in time, as a share of what the backend can do at its largest batch."""
    world = overloaded(load, cost, timeouts)
    seconds = world.now / SECOND
    capacity = 32 * SECOND / cost(32)
    percent = 100 * world.in_time / (capacity * seconds)
    assert percent >= least_percent
    if load > 1:
        assert world.in_time > 5 * fifo_goodput(world, 32, cost)


def test_learned_cap_pays_off_on_a_linear_backend() -> None:
    """Where larger batches buy no throughput they only cost latency, and the batcher learns to stay small."""

    def linear(rows: int) -> int:
        return 100 * US + rows * 4 * MS

    def largest(min_gain_percent: int) -> int:
        limits = BatchLimits(max_rows=32, min_gain_percent=min_gain_percent)
        scenario = Scenario(items=20_000, limits=limits, cost=linear, rate=230, burst=60, timeouts=(600 * SECOND,))
        world = World(scenario, 5).run()
        assert world.count("ready") == 20_000
        return sorted(plan.rows for plan in world.plans[-200:])[180]

    assert largest(0) == 32
    assert largest(3) <= 16


def test_recovers_after_an_outage() -> None:
    """A profile learned while the backend was 100 times slower must not keep everybody out afterwards."""
    scenario = Scenario(
        items=20_000, limits=BatchLimits(max_rows=16), rate=1000, timeouts=(40 * MS,),
        outage=(4 * SECOND, 8 * SECOND, 100),
    )  # fmt: skip
    world = World(scenario, 2).run()
    late = [key for key, item in world.items.items() if item.enqueued_at > 14 * SECOND]
    assert len(late) > 4000
    ready = sum(world.outcomes[key] == "ready" for key in late)
    assert ready > 0.98 * len(late)


@pytest.mark.parametrize("seed", range(3))
def test_no_priority_starves(seed: int) -> None:
    """Under lasting load of urgent items, the least urgent waits at most its bounded handicap longer than they do."""
    step = 5 * MS
    scenario = Scenario(
        items=20_000, limits=BatchLimits(max_rows=8, priority_step=step, min_gain_percent=0), rate=2700,
        timeouts=(30 * SECOND,), priorities=(1, 1, 1, 1, 1, 1, 1, 8),
    )  # fmt: skip
    world = World(scenario, seed).run()
    assert world.count("ready") == 20_000
    urgent = max(waited for key, waited in world.waited.items() if world.items[key].priority == 1)
    patient = [waited for key, waited in world.waited.items() if world.items[key].priority == 8]
    assert max(patient) <= urgent + 7 * step
    assert sum(patient) / len(patient) > 1.5 * sum(world.waited.values()) / len(world.waited), "priority has an effect"


@pytest.mark.parametrize("seed", range(4))
def test_earliest_deadline_first(seed: int) -> None:
    """With equal rows and no evidence, what leaves was due before everything of its signature that stays."""
    scenario = Scenario(
        items=4000, limits=BatchLimits(max_rows=8), rate=5000, signatures=4,
        timeouts=(50 * MS, 400 * MS, 2 * SECOND), fail_percent=100,
    )  # fmt: skip
    world = World(scenario, seed)
    send, gone = world._send, []

    def checked(plan):  # type: ignore[no-untyped-def]
        last = max((world.items[key].deadline, key) for key in plan.keys)
        stays = [
            (item.deadline, key)
            for key, item in world.waiting.items()
            if item.signature == plan.signature and key not in plan.keys and key not in later
        ]
        assert all(last < other for other in stays)
        gone.append(plan)
        send(plan)

    later: set[int] = set()
    world._send = checked  # type: ignore[method-assign]
    world.run()
    assert len(gone) > 100


def test_deep_queue_gives_full_batches_on_both_slots() -> None:
    limits = BatchLimits(max_rows=32)
    batcher = Batcher(limits, CostProfile())
    for key in range(100):
        assert batcher.offer(QueueItem(key, 1, 10, "s", 0, SECOND), 0) is None
    assert [plan.rows for plan in batcher.poll(1, 2, 0).ready] == [32, 32]
    assert [plan.rows for plan in batcher.poll(2, 1, 1).ready] == [32]
