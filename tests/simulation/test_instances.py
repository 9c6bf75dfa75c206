"""Several instances of a slow model: what waits is shared between them instead of given to the first that is free."""

from __future__ import annotations

import pytest

from gateway.core.plans import BatchLimits
from tests.simulation.batching_world import US, Scenario
from tests.simulation.test_staging_worlds import PROMPT, ClosedLoop, bert_like


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("instances", "speedup"), [(2, 1.25), (3, 1.2)])
def test_sixteen_callers_keep_all_instances_busy_before_anything_is_learned(
    instances: int, speedup: float, seed: int
) -> None:
    """200 answers, against instances that execute single rows without a break. With everything that waits in one batch
    it was 1.22 for two instances and 1.07 to 1.16 for three."""
    limits = BatchLimits(max_rows=32, instances=instances)
    scenario = Scenario(items=200, limits=limits, slots=2 * instances, cost=bert_like, travel=300 * US)
    world = ClosedLoop(scenario, seed, 16, PROMPT).run()
    assert 200 * bert_like(1) / instances > speedup * world.ended_at
    assert max(plan.rows for plan in world.plans[2 * instances :]) <= -(-16 // instances)
