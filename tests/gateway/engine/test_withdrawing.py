"""A version whose model was withdrawn is gone: it neither stays loaded nor comes back with the next decision."""

from __future__ import annotations

import asyncio

from gateway.versions import ModelVersion, VersionRecord, VersionState
from tests.support.swapping import Swapping
from tests.support.virtual_loop import pause, run

V1, V3 = ModelVersion("m", 1), ModelVersion("m", 3)


async def _comes_back() -> None:
    world = Swapping()
    world.manager.start()
    await world.want(1)
    await world.want()
    await pause(30)
    world.replicas[0].loads.clear()
    await world.want(3)
    await pause(10)
    assert world.replicas[0].loads == [V3]
    await world.manager.close()


def test_a_withdrawn_version_does_not_serve_for_the_next_one() -> None:
    run(_comes_back())


async def _stays() -> None:
    world = Swapping()
    world.manager.start()
    await world.want(1)
    world.replicas[0].available = False
    await world.want()
    world.manager._versions.forget(V1)  # as if its unloading had failed
    world.come_back(0)
    await pause(60)
    assert world.replicas[0].versions == set()
    await world.manager.close()


def test_a_withdrawn_version_that_could_not_be_unloaded_is_an_orphan() -> None:
    run(_stays())


async def _changes_its_mind() -> None:
    world = Swapping()
    world.manager.start()
    await world.want(1)
    read, hang = world.source.record, asyncio.Event()

    async def record(version: ModelVersion) -> VersionRecord:
        if version == V3:
            await hang.wait()
        return await read(version)

    world.source.record = record  # type: ignore[method-assign]
    for wanted in (3, 1):
        world.source.wanted["m"] = (wanted,)
        world.manager.watch.look_now()
        await pause(2)
    hang.set()
    await world.look()
    assert [state for version, state, _ in world.observer.states if version == V3] == [
        VersionState.LOADING,
        VersionState.UNLOADED,
    ]
    await world.manager.close()


def test_a_version_that_was_wanted_only_while_it_was_read_is_not_said_to_be_loading_for_ever() -> None:
    run(_changes_its_mind())
