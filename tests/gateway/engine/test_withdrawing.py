"""A version whose model was withdrawn is gone: it neither stays loaded nor comes back with the next decision."""

from __future__ import annotations

from gateway.versions import ModelVersion
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
