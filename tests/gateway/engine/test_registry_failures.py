"""A registry that fails or hangs costs nobody more than the version that was to be read."""

from __future__ import annotations

import asyncio

from gateway.core.reconciling import SwapPolicy
from gateway.errors import SourceUnreadable
from gateway.versions import ModelVersion, VersionRecord
from tests.support.swapping import Swapping
from tests.support.virtual_loop import pause, run


async def _transient() -> None:
    world = Swapping(policy=SwapPolicy.RESOURCE)
    world.manager.start()
    await world.want(1)
    record = world.source.record

    async def fail(version: ModelVersion) -> VersionRecord:
        raise SourceUnreadable("the connection was reset")

    world.source.record = fail  # type: ignore[method-assign]
    world.source.wanted["m"] = (2,)
    await world.look()
    assert "the connection was reset" in world.manager.failures()[ModelVersion("m", 2)]
    assert world.service.model_ready("m", "1"), "what serves keeps its place"
    world.source.record = record  # type: ignore[method-assign]
    await pause(120)
    assert world.service.model_ready("m", "2")
    assert world.manager.failures() == {}
    await world.manager.close()


def test_one_failed_read_does_not_bar_a_version_for_ever() -> None:
    run(_transient())


async def _hung() -> None:
    world = Swapping()
    world.manager.start()
    await world.want(1)
    await world.want(1, model="n")
    record, reads = world.source.record, []

    async def hang(version: ModelVersion) -> VersionRecord:
        if version.number == 2:
            reads.append(version)
            await asyncio.Event().wait()
        return await record(version)

    world.source.record = hang  # type: ignore[method-assign]
    world.source.wanted["m"] = (2,)
    world.manager.watch.look_now()
    await pause(1)
    assert reads == [ModelVersion("m", 2)]
    world.die(0)
    await pause(1)
    world.come_back(0)
    await pause(5)
    assert world.service.model_ready("n", "1"), "another model does not wait for the registry"
    await pause(15)
    assert world.service.model_ready("m", None), "nor does the version that served"
    assert "still being read" in world.manager.failures()[ModelVersion("m", 2)]
    world.source.record = record  # type: ignore[method-assign]
    await pause(120)
    assert world.service.model_ready("m", "2")
    await world.manager.close()


def test_a_read_that_hangs_stops_nobody_s_recovery() -> None:
    run(_hung())
