"""What the manager does with a version that no replica can execute."""

from __future__ import annotations

import pytest

from gateway.core.reconciling import SwapPolicy
from gateway.versions import ModelVersion
from tests.support.swapping import Swapping
from tests.support.virtual_loop import run

V2 = ModelVersion("m", 2)


@pytest.mark.parametrize("policy", list(SwapPolicy))
def test_what_fits_no_replica_takes_nothing_away(policy: SwapPolicy) -> None:
    """Also where the old version must make room first: that the new one does not fit is known before."""

    async def story() -> None:
        world = Swapping(policy=policy)
        world.manager.start()
        await world.want(1)
        reason = "m/2 has no target that runs here (tensorrt-10.13.2-sm90: there is no GPU here)"
        world.replicas[0].misfit = world.replicas[0].fault = lambda version: reason if version == V2 else None
        await world.want(2)
        assert reason in world.manager.failures()[V2]
        assert world.service.table.routes["m"].targets == ((1, 10_000),)
        assert world.service.server_ready()
        assert world.replicas[0].loads.count(ModelVersion("m", 1)) == 1, "version 1 was never away"
        await world.manager.close()

    run(story())
