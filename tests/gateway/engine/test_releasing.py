"""The version manager with a release: two versions ready and routed at once, promotion, rollback, restart."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.core.release_routes import route_of
from gateway.core.routing import decide
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import ModelMetadata
from gateway.releases import Release, ReleaseStatus
from gateway.tensors import DataType, TensorSpec
from gateway.versions import ModelVersion, VersionState
from tests.support.engine import METADATA
from tests.support.releases import plan, running
from tests.support.swapping import Swapping
from tests.support.virtual_loop import pause, run


def targets(world: Swapping) -> tuple[tuple[int, int], ...]:
    return world.service.table.routes["m"].targets


def as_(release: Release, status: ReleaseStatus) -> Release:
    return Release(release.plan, dataclasses.replace(release.progress, status=status))


async def started(step: int = 3, replicas: int = 1, seed: int = 0) -> Swapping:
    world = Swapping(seed, replicas)
    world.manager.start()
    await world.want(1)
    await world.release(running(plan(), step))
    return world


def test_both_versions_are_ready_and_share_the_traffic() -> None:
    async def test() -> None:
        world = await started()
        assert targets(world) == ((2, 2_500), (1, 7_500))
        route = world.service.table.routes["m"]
        for n in range(200):
            pending = world.ask(key=f"k{n}").pending
            assert pending is not None
            assert pending.scheduler.version.number == decide(route, f"k{n}", {}, {}).version
        await world.manager.close()

    run(test())


def test_a_candidate_gets_nothing_before_it_is_ready_everywhere() -> None:
    async def test() -> None:
        world = Swapping(0, replicas=2)
        world.manager.start()
        await world.want(1)
        world.replicas[1].load_seconds = lambda: 30.0
        world.source.released["m"] = running(plan(), 5)
        world.source.wanted["m"] = (1, 2)
        world.manager.watch.look_now()
        await pause(10)
        assert ModelVersion("m", 2) in world.replicas[0].versions
        assert targets(world) == ((1, 10_000),)
        await pause(30)
        assert targets(world) == ((2, 10_000), (1, 0))
        await world.manager.close()

    run(test())


def test_a_candidate_that_cannot_be_loaded_changes_nothing() -> None:
    async def test() -> None:
        world = Swapping()
        world.replicas[0].fault = lambda version: "is broken" if version.number == 2 else None
        world.manager.start()
        await world.want(1)
        await world.release(running(plan(), 5))
        assert targets(world) == ((1, 10_000),)
        assert world.manager.failures() == {ModelVersion("m", 2): "is broken"}
        assert world.service.server_ready()
        await world.manager.close()

    run(test())


def test_a_candidate_that_would_break_callers_gets_no_share() -> None:
    async def test() -> None:
        world = Swapping()
        other = dataclasses.replace(METADATA, inputs=(TensorSpec("other", DataType.FP32, (-1, 2)),))
        found: dict[int, ModelMetadata] = {1: METADATA, 2: other}
        world.replicas[0].metadata_of = lambda version: found[version.number]
        world.source.records = {}
        world.manager.start()
        await world.want(1)
        await world.release(running(plan(), 5))
        assert targets(world) == ((1, 10_000),)
        assert ModelVersion("m", 2) in world.manager.failures()
        await world.manager.close()

    run(test())


def test_whoever_is_on_trial_never_stands_in_for_stable() -> None:
    async def test() -> None:
        world = await started(step=1)
        world.replicas[0].fault = lambda version: "gone" if version.number == 1 else None
        world.die(0)
        world.come_back(0)
        await pause(5)
        assert targets(world) == ((2, 100), (1, 9_900)), "the share of the candidate is all that is answered"
        route = world.service.table.routes["m"]
        answered = refused = 0
        for n in range(500):
            expected = decide(route, f"k{n}", {}, {}).version
            if expected == 1:
                with pytest.raises(GatewayError) as refusal:
                    world.ask(key=f"k{n}")
                assert refusal.value.code is ErrorCode.MODEL_NOT_READY
                refused += 1
            else:
                pending = world.ask(key=f"k{n}").pending
                assert pending is not None
                assert pending.scheduler.version.number == 2
                answered += 1
        assert answered + refused == 500
        assert answered < 20
        await world.manager.close()

    run(test())


def test_promotion_flips_at_once_and_keeps_the_old_version_at_hand_while_it_is_watched() -> None:
    async def test() -> None:
        world = await started(step=5)
        promoted = as_(running(plan(), 5), ReleaseStatus.PROMOTED)
        world.source.released["m"] = promoted
        await world.want(2, 1)
        route = world.service.table.routes["m"]
        assert (route.targets, route.arms, route.release_id) == (((2, 10_000),), ("candidate",), "r1")
        assert world.replicas[0].versions == {ModelVersion("m", 1), ModelVersion("m", 2)}
        del world.source.released["m"]
        await world.want(2)
        await pause(5)
        assert world.replicas[0].versions == {ModelVersion("m", 2)}
        assert world.service.table.routes["m"].release_id == ""
        await world.manager.close()

    run(test())


def test_a_rollback_drains_the_candidate_and_lets_nobody_in_again() -> None:
    async def test() -> None:
        world = await started(step=4)
        world.replicas[0].infer_seconds = lambda: 1.0
        before = [world.ask(key=f"k{n}") for n in range(40)]
        assert {caller.pending.scheduler.version.number for caller in before if caller.pending} == {1, 2}
        # Decided here; the registry still says what it said.
        world.source.released["m"] = as_(running(plan(), 4), ReleaseStatus.ROLLED_BACK)
        world.manager.publish()
        assert targets(world) == ((1, 10_000),), "at once, before anything is awaited"
        after = [world.ask(key=f"k{n}") for n in range(40)]
        assert {caller.pending.scheduler.version.number for caller in after if caller.pending} == {1}
        await pause(20)
        assert all(caller.response is not None for caller in (*before, *after)), "requests in flight finish"
        world.manager.trigger()
        await pause(5)
        assert world.replicas[0].versions == {ModelVersion("m", 1)}
        await world.manager.close()

    run(test())


def test_rolling_back_a_promoted_version_brings_the_old_one_back_at_once() -> None:
    async def test() -> None:
        world = await started(step=5)
        world.source.released["m"] = as_(running(plan(), 5), ReleaseStatus.PROMOTED)
        await world.want(2, 1)
        world.source.released["m"] = as_(running(plan(), 5), ReleaseStatus.ROLLED_BACK)
        world.manager.publish()
        assert targets(world) == ((1, 10_000),)
        world.manager.trigger()
        await pause(10)
        assert world.replicas[0].versions == {ModelVersion("m", 1)}
        await world.manager.close()

    run(test())


def test_after_a_restart_the_gateway_is_ready_when_it_routes_as_before() -> None:
    async def test() -> None:
        world = await started(step=3)
        expected = route_of(running(plan(), 3), 1, {1, 2})
        await world.manager.close()
        again = Swapping(1, source=world.source)
        again.replicas[0].load_seconds = lambda: 2.0
        again.manager.start()
        for _ in range(200):
            await pause(0.05)
            if again.service.server_ready():
                break
            assert not again.manager._settled.is_set()
        assert again.service.table.routes["m"].targets == expected.targets
        assert again.service.versions["m"][2].state is VersionState.READY
        await again.manager.close()

    run(test())
