"""What the manager does with versions that are not what they should be, and with callers of those that leave."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.reconciling import SwapPolicy
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import ModelMetadata
from gateway.tensors import DataType, TensorSpec
from gateway.versions import GoldenSet, ModelVersion, TensorData, VersionRecord, VersionState
from tests.support.engine import METADATA, SECOND
from tests.support.swapping import Swapping
from tests.support.virtual_loop import pause, run

V1, V2 = ModelVersion("m", 1), ModelVersion("m", 2)


def play(story: Callable[[Swapping], Awaitable[None]], **settings: Any) -> None:
    """Plays `story` in a world whose model `m` is served by version 1."""

    async def whole() -> None:
        world = Swapping(**settings)
        world.manager.start()
        await world.want(1)
        assert routed(world) == 1
        await story(world)
        await world.manager.close()

    run(whole())


def routed(world: Swapping) -> int:
    return world.service.table.routes["m"].targets[0][0]


def refused(world: Swapping, reason: str) -> None:
    """Asserts that version 2 was refused for that reason, and that version 1 serves as if nothing had been."""
    assert reason in world.manager.failures()[V2]
    assert routed(world) == 1
    assert world.service.server_ready()
    assert not any(V2 in one.versions for one in world.replicas), "nothing of it is left loaded"
    (row,) = [row for row in world.service.index() if row[1] == "1"]
    assert row[2] == "READY"


def golden(first: float) -> GoldenSet:
    spec = TensorSpec("x", DataType.FP32, (3, 2))
    given = struct.pack("<6f", *range(6))
    return GoldenSet(
        (TensorData(spec, given),), (TensorData(spec, struct.pack("<6f", first, *range(1, 6))),), {"x": (1e-3, 0.0)}
    )


def test_wrong_files_never_reach_a_replica() -> None:
    async def story(world: Swapping) -> None:
        world.source.records[V2] = "m/2: artifacts/model.py has another sha256 than the manifest says"
        await world.want(2)
        refused(world, "artifacts/model.py")
        assert V2 not in world.replicas[0].loads

    play(story)


def test_outputs_with_other_rows_than_the_inputs_are_refused() -> None:
    async def story(world: Swapping) -> None:
        world.replicas[0].shape_of = lambda shape: (1, *shape[1:])
        await world.want(2)
        refused(world, "output 'x' has 1 row for 2 rows sent")
        world.replicas[0].shape_of = lambda shape: (3, *shape[1:])
        await world.want(2)
        refused(world, "output 'x' has 3 rows for 1 row sent")
        world.replicas[0].shape_of = lambda shape: shape
        await world.want(2)
        assert routed(world) == 2

    play(story)


def test_golden_answers_within_the_tolerance() -> None:
    async def story(world: Swapping) -> None:
        world.source.records[V2] = VersionRecord(METADATA, golden(0.5))
        await world.want(2)
        refused(world, "output 'x' differs from what was recorded in 1 of 2 values, by up to 0.5")
        world.source.records[V2] = VersionRecord(METADATA, golden(0.0005))
        await world.want(2)
        assert routed(world) == 2

    play(story)


def test_what_is_loaded_must_be_what_was_recorded() -> None:
    async def story(world: Swapping) -> None:
        world.source.records[V2] = VersionRecord(replace(METADATA, max_batch_size=4))
        await world.want(2)
        refused(world, "max_batch_size is 8, recorded is 4")

    play(story)


RENAMED = replace(METADATA, inputs=(TensorSpec("z", DataType.FP32, (-1, 2)),))
RETYPED = replace(METADATA, inputs=(TensorSpec("x", DataType.FP64, (-1, 2)),))
NARROWED = replace(METADATA, outputs=(TensorSpec("x", DataType.FP32, (-1, 3)),))


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (RENAMED, "input 'x' is gone; input 'z' is new"),
        (RETYPED, "input 'x' takes FP64"),
        (NARROWED, "output 'x' gives"),
    ],
)
def test_breaking_changes_need_leave(metadata: ModelMetadata, reason: str) -> None:
    async def story(world: Swapping) -> None:
        world.source.records[V2] = VersionRecord(metadata)
        world.replicas[0].metadata_of = lambda version: metadata if version == V2 else METADATA
        await world.want(2)
        refused(world, reason)
        assert "--allow-breaking" in world.manager.failures()[V2]
        world.source.breaking = True
        await world.want(2)  # decided anew: no waiting for the back-off
        assert routed(world) == 2

    play(story)


def test_a_failed_version_is_tried_less_and_less_often() -> None:
    async def story(world: Swapping) -> None:
        world.replicas[0].fault = lambda version: "no memory" if version == V2 else None
        await world.want(2)
        await pause(200)
        assert 7 <= world.replicas[0].loads.count(V2) <= 9, "after 1, 2, 4 … seconds, at most a minute"
        refused(world, "no memory")
        world.replicas[0].fault = lambda version: None
        await pause(61)
        assert routed(world) == 2

    play(story)


def test_what_a_leaving_version_accepted_is_answered_and_nothing_more_accepted() -> None:
    async def story(world: Swapping) -> None:
        world.replicas[0].infer_seconds = lambda: 1.0
        callers = [world.ask(1000) for _ in range(100)]
        world.source.wanted["m"] = (2,)
        while routed(world) == 1:
            callers.append(world.ask(1000))
            await pause(0.05)
        old = world.service.versions["m"][1]
        while old.state is not VersionState.DRAINING:
            await pause(0.001)
        assert not world.service.model_ready("m", "1")
        assert not all(caller.answered for caller in callers), "it has not finished"
        await pause(60)
        assert all(caller.response is not None for caller in callers)
        assert world.replicas[0].versions == {V2}
        with pytest.raises(GatewayError, match="no version '1'"):
            world.service.model_ready("m", "1")

    play(story)


def test_a_drain_has_an_end() -> None:
    async def story(world: Swapping) -> None:
        world.source.records[V2] = VersionRecord(METADATA)
        caller = world.ask(1000)
        await pause(0.0001)
        world.replicas[0].infer_seconds = lambda: 500.0
        stuck = world.ask(1000)
        await pause(0.01)
        world.replicas[0].infer_seconds = lambda: 0.001
        await world.want(2)
        assert routed(world) == 2
        await pause(10)
        assert caller.response is not None
        assert stuck.error is not None
        assert stuck.error.code is ErrorCode.MODEL_NOT_READY
        assert world.replicas[0].versions == {V2}

    play(story, drain_limit=5 * SECOND)


def test_a_version_that_is_wanted_again_while_it_drains() -> None:
    async def story(world: Swapping) -> None:
        world.replicas[0].infer_seconds = lambda: 3.0
        before = world.ask()
        await world.want(2)
        assert routed(world) == 2
        world.replicas[0].infer_seconds = lambda: 0.01
        await world.want(1)
        assert routed(world) == 1
        after = world.ask()
        await pause(5)
        assert (before.response is None, after.response is None) == (False, False)
        assert world.replicas[0].versions == {V1}

    play(story)


def test_after_a_restart_the_last_good_version_serves_while_the_new_one_fails() -> None:
    async def story(world: Swapping) -> None:
        world.source.records[V2] = "m/2: artifacts/model.py is missing"
        await world.want(2)
        again = Swapping(source=world.source)
        again.manager.start()
        await again.manager.settled()
        refused(again, "artifacts/model.py is missing")
        await again.manager.close()

    play(story)


def test_one_replica_that_cannot_load_does_not_hold_up_the_others() -> None:
    async def story(world: Swapping) -> None:
        world.replicas[1].fault = lambda version: "no memory" if version == V2 else None
        await world.want(2)
        assert routed(world) == 2
        assert [V2 in replica.ready_versions for replica in world.set.replicas] == [True, False]
        callers = [world.ask() for _ in range(50)]
        await pause(1)
        assert all(caller.response is not None for caller in callers)

    play(story, replicas=2)


def test_resource_policy_never_has_two_versions_on_one_replica() -> None:
    async def story(world: Swapping) -> None:
        for number in (2, 3, 2):
            world.source.wanted["m"] = (number,)
            while routed(world) != number:
                await pause(0.02)
                assert all(len(one.versions) <= 1 for one in world.replicas)
                assert world.service.server_ready(), "the other replica serves"
            await world.look()
        await pause(20)
        assert [one.versions for one in world.replicas] == [{V2}, {V2}]

    play(story, replicas=2, policy=SwapPolicy.RESOURCE)


def test_the_registry_being_away_changes_nothing() -> None:
    async def story(world: Swapping) -> None:
        world.source.error = "the disk is gone"
        await pause(60)
        assert world.manager.source_error == "the disk is gone"
        assert routed(world) == 1
        assert 58 < world.manager.watch.age() < 62

    play(story)


def test_a_model_is_gone_only_when_it_is_withdrawn() -> None:
    async def story(world: Swapping) -> None:
        await world.want()
        await pause(1)
        assert world.replicas[0].versions == set()
        assert not world.service.server_ready(), "nothing is never ready"
        with pytest.raises(GatewayError) as caught:
            world.ask()
        assert caught.value.code is ErrorCode.MODEL_NOT_FOUND

    play(story)


def test_orphans_are_unloaded_but_not_at_once() -> None:
    async def story(world: Swapping) -> None:
        left = ModelVersion("old", 3)
        world.replicas[0].versions.add(left)
        await pause(8)
        assert left in world.replicas[0].versions, "somebody may have loaded it a moment ago"
        await pause(12)
        assert world.replicas[0].versions == {V1}

    play(story, orphan_age=10 * SECOND, look_seconds=2.0)


def test_a_replica_that_forgot_is_noticed() -> None:
    async def story(world: Swapping) -> None:
        world.replicas[0].versions.clear()
        await pause(10)
        assert world.replicas[0].versions == {V1}
        assert world.service.server_ready()

    play(story, look_seconds=2.0)


def test_a_replica_that_does_not_answer_has_lost_nothing() -> None:
    async def story(world: Swapping) -> None:
        async def silent(version: ModelVersion) -> bool | None:
            return None

        world.replicas[0].is_ready = silent  # type: ignore[method-assign]
        await pause(30)
        assert world.service.server_ready()
        assert world.replicas[0].loads == [V1]

    play(story, look_seconds=2.0)


def test_one_load_at_a_time_although_the_pointer_moves_on() -> None:
    async def story(world: Swapping) -> None:
        gate = world.replicas[0].gate = asyncio.Event()
        for number in (2, 3, 4):
            world.source.wanted["m"] = (number,)
            await pause(2)
        gate.set()
        await pause(20)
        assert world.replicas[0].loads == [V1, V2, ModelVersion("m", 4)], "version 3 was overtaken"
        assert routed(world) == 4
        assert world.replicas[0].versions == {ModelVersion("m", 4)}

    play(story)
