"""Nothing that would break callers of the version that served last gets their traffic, whichever way it came in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from gateway.tensors import DataType, TensorSpec
from gateway.versions import ModelVersion, VersionRecord
from tests.support.engine import METADATA
from tests.support.releases import plan, running, steps
from tests.support.swapping import Source, Swapping
from tests.support.virtual_loop import pause, run

V1, V2, V3 = (ModelVersion("m", number) for number in (1, 2, 3))
RENAMED = replace(METADATA, inputs=(TensorSpec("z", DataType.FP32, (-1, 2)),))


def play(story: Callable[[Swapping], Awaitable[None]], source: Source | None = None, renamed: int = 2) -> None:
    """Plays `story` in a world in which version `renamed` of `m` would break callers of all others."""

    async def whole() -> None:
        world = Swapping(source=source)
        other = ModelVersion("m", renamed)
        world.source.records[other] = VersionRecord(RENAMED)
        for one in world.replicas:
            one.metadata_of = lambda version: RENAMED if version == other else METADATA
        world.manager.start()
        await story(world)
        await world.manager.close()

    run(whole())


def routed(world: Swapping) -> int:
    return world.service.table.routes["m"].targets[0][0]


def test_a_version_that_was_wanted_beside_the_stable_one() -> None:
    async def story(world: Swapping) -> None:
        await world.want(1)
        await world.want(1, 2)
        assert world.service.model_ready("m", "2"), "whoever asks for it by number gets it"
        assert world.manager.failures() == {}
        await world.want(2)
        assert routed(world) == 1
        assert "input 'x' is gone" in world.manager.failures()[V2]
        assert world.service.server_ready()
        await world.want(2, 1)
        assert routed(world) == 1, "in no order"
        world.source.breaking = True
        await world.want(2)
        assert routed(world) == 2
        assert world.manager.failures() == {}

    play(story)


def test_a_version_beside_the_stable_one_is_no_stand_in_for_it() -> None:
    async def story(world: Swapping) -> None:
        await world.want(1)
        await world.want(1, 2)
        world.replicas[0].fault = lambda version: "no memory" if version == V1 else None
        world.replicas[0].versions.discard(V1)
        await pause(20)
        assert world.service.model_ready("m", "2")
        assert not world.service.model_ready("m", None)
        world.replicas[0].fault = lambda version: None
        await pause(61)
        assert routed(world) == 1
        assert world.service.model_ready("m", None)

    play(story)


def test_after_a_loss_with_nothing_ready() -> None:
    async def story(world: Swapping) -> None:
        await world.want(1)
        world.die(0)
        world.source.wanted["m"] = (2,)
        world.replicas[0].fault = lambda version: "no memory" if version == V1 else None
        world.come_back(0)
        await pause(20)
        assert "input 'x' is gone" in world.manager.failures()[V2]
        assert not world.service.model_ready("m", None)
        world.replicas[0].fault = lambda version: None
        await pause(61)
        assert routed(world) == 1
        assert world.service.model_ready("m", None)

    play(story)


def test_after_a_restart_what_was_recorded_of_it_counts() -> None:
    source = Source()
    source.wanted["m"], source.served["m"] = (2,), 1

    async def story(world: Swapping) -> None:
        world.replicas[0].fault = lambda version: "no memory" if version == V1 else None
        await world.look()
        await pause(20)
        assert "input 'x' is gone" in world.manager.failures()[V2]
        source.breaking = True
        await world.want(2)
        assert routed(world) == 2
        assert world.service.model_ready("m", None)

    play(story, source)


def test_a_withdrawn_model_binds_nobody() -> None:
    async def story(world: Swapping) -> None:
        await world.want(1)
        await world.want()
        await world.want(2)
        assert routed(world) == 2
        await world.want(3)
        assert "input 'z' is gone" in world.manager.failures()[V3]

    play(story)


def test_leave_for_the_stable_version_is_none_for_one_on_trial() -> None:
    async def story(world: Swapping) -> None:
        await world.want(1)
        world.source.breaking = True
        await world.release(running(plan(steps=steps(5000))))
        await pause(20)
        route = world.service.table.routes["m"]
        assert {number for number, weight in route.targets if weight} == {1}
        assert "input 'x' is gone" in world.manager.failures()[V2]

    play(story)
