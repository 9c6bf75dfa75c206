"""Hundreds of thousands of items through random worlds; the world itself checks what must always hold."""

from __future__ import annotations

import random

import pytest

from gateway.core.plans import BatchLimits
from tests.simulation.batching_world import MS, SECOND, US, Scenario, World


def scenario_of(seed: int) -> Scenario:
    """Draws a world: every knob the batcher has, at values that make its bounds bite."""
    rng = random.Random(seed)
    base, each = rng.choice([50 * US, MS, 4 * MS]), rng.choice([5 * US, 100 * US, 2 * MS])
    return Scenario(
        items=1500,
        limits=BatchLimits(
            max_rows=rng.choice([1, 4, 8, 32]),
            batchable=rng.random() < 0.9,
            max_batch_bytes=rng.choice([600, 1 << 20]),
            max_queue_rows=rng.choice([20, 200, 4000]),
            max_queue_bytes=rng.choice([4000, 1 << 30]),
            max_queue_delay=rng.choice([0, 0, 500 * US, 5 * MS]),
            instances=rng.choice([1, 1, 2]),
            priority_step=rng.choice([MS, 20 * MS]),
        ),
        slots=rng.choice([1, 2, 4]),
        rate=rng.choice([50, 1000, 10_000, 100_000]),
        burst=rng.choice([1, 1, 20]),
        rows=rng.choice([(1,), (1, 2), (1, 1, 1, 4), (0, 1, 3, 40)]),
        signatures=rng.choice([1, 1, 3, 200]),
        timeouts=rng.choice([(SECOND,), (20 * MS, 200 * MS), (0, 5 * MS, 50 * MS), (30 * SECOND,)]),
        priorities=rng.choice([(0,), (0, 1, 2, 3), (1, 8, 100, -1)]),
        cancel_percent=rng.choice([0, 10, 60]),
        cost=lambda rows: base + each * rows,
        jitter_percent=rng.choice([0, 30, 400]),
        fail_percent=rng.choice([0, 0, 50, 100]),
        drain_at_percent=rng.choice([None, None, 50]),
    )


@pytest.mark.parametrize("block", range(10))
def test_what_must_always_hold(block: int) -> None:
    for seed in range(block * 16, block * 16 + 16):
        try:
            World(scenario_of(seed), seed).run()
        except Exception as error:
            raise AssertionError(f"world {seed}: {error}") from error


@pytest.mark.parametrize("seed", [3, 17, 88, 104])
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    assert World(scenario_of(seed), seed).run().trace == World(scenario_of(seed), seed).run().trace


def test_worlds_differ() -> None:
    """The worlds above are worth something only if together they see every outcome and every reason."""
    outcomes: set[str] = set()
    reasons: set[str] = set()
    kinds: set[str] = set()
    for seed in range(60):
        world = World(scenario_of(seed), seed).run()
        outcomes |= set(world.outcomes.values())
        reasons |= {reason.value for reason in world.reasons}
        kinds |= set(world.rejections)
    assert outcomes == {"ready", "expired", "shed", "withdrawn", "rejected"}
    assert reasons == {"full", "idle", "deadline", "delay", "drain"}
    assert kinds == {
        "queue_rows", "queue_bytes", "no_rows", "too_many_rows", "cannot_finish", "expired", "draining",
    }  # fmt: skip


def test_a_hundred_thousand_items_at_full_speed() -> None:
    scenario = Scenario(
        items=100_000, limits=BatchLimits(max_rows=32), rate=60_000, cost=lambda rows: 200 * US + 5 * US * rows,
        timeouts=(30 * SECOND,), check_every=2000,
    )  # fmt: skip
    world = World(scenario, 1).run()
    assert world.count("ready") == 100_000
    assert sum(plan.rows for plan in world.plans) == 100_000
