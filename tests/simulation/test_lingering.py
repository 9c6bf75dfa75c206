"""Brief models: behind a batch that runs a small one lingers, so that there are fewer; what it costs, when it ends."""

from __future__ import annotations

import pytest

from gateway.core.plans import QueueItem
from tests.simulation.batching_world import MS, SECOND, US, Scenario, World
from tests.simulation.test_staging_worlds import queue

BRIEF_COSTS = {1: 300 * US, 4: 400 * US, 8: 500 * US, 32: 900 * US}


@pytest.mark.parametrize("rate", [3_000, 10_000])
@pytest.mark.parametrize(("travel", "longer"), [(50 * US, 1.0), (150 * US, 1.25)])
def test_a_brief_model_executes_fewer_batches_and_callers_wait_hardly_longer(
    rate: int, travel: int, longer: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processors are free here without end, so that only the cost of lingering is seen and not what it is for."""
    scenario = Scenario(items=10_000, cost=lambda rows: 300 * US + 15 * US * rows, rate=rate, travel=travel)
    lingers = World(scenario, 1).run()
    monkeypatch.setattr("gateway.core.staging.BRIEF", 0)
    at_once = World(scenario, 1).run()
    assert len(lingers.plans) < 0.8 * len(at_once.plans)
    for share in (0.5, 0.99):
        assert waits(lingers, share) < longer * waits(at_once, share)


def waits(world: World, share: float) -> int:
    """Returns the time that this share of the answered waited at most."""
    spans = sorted(answered - world.items[key].enqueued_at for key, answered in world.answered.items())
    return spans[int(share * len(spans))]


def test_behind_a_brief_batch_few_rows_linger_until_it_ends() -> None:
    batcher = queue(BRIEF_COSTS, 3, max_rows=64)
    held = batcher.poll(MS, 1, 1)
    assert (held.ready, held.wake_at) == ([], 3 * MS), "for as long as a brief one may take"
    assert [plan.rows for plan in batcher.poll(MS + 200 * US, 2, 0).ready] == [3]
    batcher = queue(BRIEF_COSTS, 3, max_rows=64)
    assert [plan.rows for plan in batcher.poll(3 * MS, 1, 1).ready] == [3], "what runs takes long all the same"


def test_what_is_as_large_as_what_runs_does_not_linger() -> None:
    assert [plan.rows for plan in queue(BRIEF_COSTS, 8, max_rows=64).poll(MS, 1, 1).ready] == [8]
    batcher = queue(BRIEF_COSTS, 20, max_rows=64)
    assert [plan.rows for plan in batcher.poll(MS, 1, 0).ready] == [20]
    for key in range(100, 119):
        assert batcher.offer(QueueItem(key, 1, 100, "s", MS, 10 * SECOND), MS) is None
    assert not batcher.poll(MS, 1, 1).ready
    assert batcher.offer(QueueItem(200, 1, 100, "other", MS, 10 * SECOND), MS) is None
    assert [plan.rows for plan in batcher.poll(MS, 1, 1).ready] == [19], "what waits counts, whatever its signature"


def test_beside_an_idle_instance_or_before_a_deadline_nothing_lingers() -> None:
    assert [plan.rows for plan in queue(BRIEF_COSTS, 1, instances=2).poll(MS, 1, 1).ready] == [1]
    assert [plan.rows for plan in queue(BRIEF_COSTS, 1).poll(MS, 1, 1, starving=True).ready] == [1]
    batcher = queue(BRIEF_COSTS, 0)
    assert batcher.offer(QueueItem(9, 1, 100, "s", MS, 2 * MS), MS) is None
    wake_at = batcher.poll(MS, 1, 1).wake_at
    assert wake_at is not None
    assert wake_at <= 2 * MS - 300 * US
    assert [plan.rows for plan in batcher.poll(wake_at, 1, 1).ready] == [1]
