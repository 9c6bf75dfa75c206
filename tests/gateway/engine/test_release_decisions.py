"""How decisions about releases come to the registry, and that an outage is nobody's fault."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.engine.evidence import Collector
from gateway.judgements import DecisionKind
from gateway.messages import InferResponse, ResponseHead
from gateway.releases import CANDIDATE, STABLE, Criteria, ReleaseStatus
from gateway.routes import RouteDecision
from gateway.tensors import DataType, TensorSpec
from tests.support.releasing import QUICK, Releasing, canary, fails
from tests.support.virtual_loop import pause, run


@pytest.mark.parametrize("weight", [2_500, 7_500, 9_000])
@pytest.mark.parametrize("burst", [1, 32])
def test_an_outage_blames_nobody_whatever_the_shares_and_whoever_fails_first(weight: int, burst: int) -> None:
    async def test() -> None:
        world = Releasing(weight)
        await world.start(canary(weight, criteria=dataclasses.replace(QUICK, error_rate=0.02)))
        working = [one.infer for one in world.replicas]

        async def bursts(count: int) -> None:
            for _ in range(count):
                asked = [world.ask() for _ in range(burst)]
                await pause(0.05)
                assert all(one.pending is not None for one in asked)

        await bursts(200 // burst + 4)
        fails(world, 1, 1.0)
        fails(world, 2, 1.0)
        await bursts(400 // burst + 4)
        await pause(1.5)  # it is judged once a second
        assert world.source.released["m"].progress.status is ReleaseStatus.PAUSED
        for one, infer in zip(world.replicas, working, strict=True):
            one.infer = infer  # type: ignore[method-assign]
        await bursts(400 // burst + 4)
        assert [bundle.decision.kind for bundle in world.book.bundles] == [DecisionKind.PAUSE]
        await world.manager.close()

    run(test())


def test_a_decision_is_written_once_although_the_registry_cannot_be_read_afterwards() -> None:
    async def test() -> None:
        world = Releasing()
        await world.start(canary(5_000))
        world.source.error = "away"
        for _ in range(5):
            await world.traffic(400)
        assert world.source.released["m"].progress.step == 1
        assert world.book.tries == 1, "what is written down again leaves an orphan among the bundles"
        world.source.error = None
        await world.traffic(600)
        assert [bundle.decision.kind for bundle in world.book.bundles] == [DecisionKind.ADVANCE, DecisionKind.PROMOTE]
        assert world.book.tries == 2
        await world.manager.close()

    run(test())


def test_what_is_undone_in_the_registry_is_decided_again() -> None:
    async def test() -> None:
        world = Releasing()
        await world.start(canary(5_000))
        before = world.source.released["m"]
        while not world.book.bundles:
            await world.traffic(50)
        world.source.released["m"] = before  # as a registry does that is put back to an older copy
        await pause(5)
        await world.traffic(600)
        assert [bundle.decision.to.step for bundle in world.book.bundles if bundle.decision.to][:2] == [1, 1]
        assert "m" in world.book.ended
        await world.manager.close()

    run(test())


def test_a_write_that_hangs_keeps_no_rollback_waiting() -> None:
    async def test() -> None:
        world = Releasing()
        await world.start(canary(5_000))
        world.book.hangs = True
        while not world.book.tries:
            await world.traffic(50)
        fails(world, 2, 1.0)
        await world.traffic(100)
        assert world.source.released["m"].progress.step == 0, "the step before is still being written down"
        assert await world.traffic(300) == {1: 300}
        world.book.hangs = False
        await pause(2)
        assert world.book.ended["m"].progress.status is ReleaseStatus.ROLLED_BACK
        assert await world.traffic(100) == {1: 100}
        await world.manager.close()

    run(test())


def test_nobody_is_sent_to_a_candidate_that_was_rolled_back_here_when_somebody_moves_the_release() -> None:
    async def test() -> None:
        world = Releasing()
        await world.start(canary())
        world.book.away = True
        fails(world, 2, 1.0)
        await world.traffic(400)
        for _ in range(3):
            now = world.source.released["m"]
            moved = dataclasses.replace(now.progress, status=ReleaseStatus.PAUSED, decision=now.progress.decision + 1)
            world.source.released["m"] = dataclasses.replace(now, progress=moved)
            assert await world.traffic(400) == {1: 400}
        world.book.away = False
        await pause(3)
        assert world.book.ended["m"].progress.status is ReleaseStatus.ROLLED_BACK
        assert world.book.bundles[-1].release.progress.decision == 3
        await world.manager.close()

    run(test())


@pytest.mark.parametrize("first", [True, False])
def test_callers_who_send_nan_to_both_speak_against_nobody(first: bool) -> None:
    head = ResponseHead("m", "1", (TensorSpec("y", DataType.FP32, (1, 1)),))
    release = canary(5_000, criteria=Criteria(score_shift=None, outcome_loss=None))
    collector = Collector(release.plan)
    collector.at_step(release)

    def batch(is_candidate: bool, value: float, at: int) -> None:
        answer = InferResponse(head, "", [np.float32([value]).tobytes()])
        arm = CANDIDATE if is_candidate else STABLE
        context = SimpleNamespace(request_id="", received_at=0, decision=RouteDecision(2, -1, 0, arm, release.plan.id))
        member: Any = SimpleNamespace(checked=SimpleNamespace(rows=1, batchable=True), context=context, nbytes=4)
        collector.answered(arm, [(member, answer)] * (16 if is_candidate else 32), at)

    for burst, value in enumerate([1.0, np.nan] * 20):
        batch(first, value, 1_000 * burst)
        batch(not first, value, 1_000 * burst + 10)
    counts = collector.evidence().nans
    assert (counts.candidate_only, counts.stable_only) == (0, 0)
    assert counts.both >= 19 * 16
