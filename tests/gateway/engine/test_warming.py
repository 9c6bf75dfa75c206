"""Warming a version costs those who are served meanwhile as little as possible."""

from __future__ import annotations

import asyncio
import itertools

from tests.gateway.engine.test_manager import play, routed
from tests.support.swapping import Swapping


def test_warming_leaves_half_of_the_replica_to_who_is_served_there() -> None:
    async def story(world: Swapping) -> None:
        scripted = world.replicas[0]
        busy: list[tuple[float, float]] = []
        loop = asyncio.get_running_loop()

        def takes() -> float:
            busy.append((loop.time(), loop.time() + 0.2))
            return 0.2

        scripted.load_seconds = lambda: 0.1
        scripted.infer_seconds = takes
        await world.want(2)
        assert routed(world) == 2
        assert len(busy) >= 8, "four sizes, each twice"
        gaps = [begun - ended for (_, ended), (begun, _) in itertools.pairwise(busy)]
        assert all(0.19 < gap < 0.25 for gap in gaps), gaps

    play(story)
