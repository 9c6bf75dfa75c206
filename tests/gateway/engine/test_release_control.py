"""The control of releases: judged by what happened, acted on at once, written down, kept over restarts."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.core.outcome_matching import Outcome
from gateway.errors import ErrorCode
from gateway.judgements import DecisionKind
from gateway.releases import ReleaseStatus
from gateway.versions import ModelVersion
from tests.support.engine import SECOND
from tests.support.releases import steps
from tests.support.releasing import QUICK, Releasing, canary, fails
from tests.support.virtual_loop import pause, run


def test_a_failing_candidate_is_rolled_back_and_gets_nothing_more() -> None:
    async def test() -> None:
        world = Releasing()
        await world.start(canary())
        fails(world, 2, 1.0)
        await world.traffic(400)
        assert world.book.bundles[-1].decision.kind is DecisionKind.ROLLBACK
        assert "in a row" in world.book.bundles[-1].decision.detail
        sent = await world.traffic(300)
        assert sent == {1: 300}
        await pause(10)
        assert world.replicas[0].versions == {ModelVersion("m", 1)}
        assert world.control.watches == {}
        assert world.counts.saved == {}
        await world.manager.close()

    run(test())


def test_a_rollback_is_in_force_at_once_although_the_registry_is_away() -> None:
    async def test() -> None:
        world = Releasing()
        await world.start(canary())
        world.book.away = True
        fails(world, 2, 1.0)
        await world.traffic(400)
        assert world.source.released["m"].progress.status is ReleaseStatus.RUNNING, "nobody could write it down"
        assert await world.traffic(300) == {1: 300}
        world.book.away = False
        await pause(3)
        assert world.book.ended["m"].progress.status is ReleaseStatus.ROLLED_BACK
        assert await world.traffic(100) == {1: 100}
        await world.manager.close()

    run(test())


def test_a_rollback_that_could_not_be_written_down_is_decided_again_after_a_restart() -> None:
    async def test() -> None:
        world = Releasing()
        await world.start(canary())
        world.book.away = True
        fails(world, 2, 1.0)
        await world.traffic(400)
        await world.manager.close()
        again = Releasing(1, source=world.source)
        again.counts = world.counts
        again.control._keeper = world.counts
        await again.start(world.source.released["m"])
        await pause(1)
        assert again.book.ended["m"].progress.status is ReleaseStatus.ROLLED_BACK
        assert await again.traffic(100) == {1: 100}
        await again.manager.close()

    run(test())


def test_an_equal_candidate_advances_and_is_promoted() -> None:
    async def test() -> None:
        world = Releasing()
        await world.start(canary(5_000))
        for _ in range(30):
            await world.traffic(200)
            if "m" in world.book.ended:
                break
        kinds = [bundle.decision.kind for bundle in world.book.bundles]
        assert kinds == [DecisionKind.ADVANCE, DecisionKind.PROMOTE]
        assert await world.traffic(50) == {2: 50}
        await pause(10)
        assert world.replicas[0].versions == {ModelVersion("m", 2)}
        bundle = world.book.bundles[0]
        assert bundle.gateway == "gw-test"
        assert {arm.name for arm in bundle.arms} == {"candidate", "stable"}
        assert all(arm.requests > 20 for arm in bundle.arms)
        await world.manager.close()

    run(test())


def test_nothing_is_promoted_without_data() -> None:
    async def test() -> None:
        world = Releasing()
        short = tuple(dataclasses.replace(step, max_time=30 * SECOND) for step in steps(5_000, 10_000))
        await world.start(canary(steps=short))
        await pause(120)
        [bundle] = world.book.bundles
        assert bundle.decision.kind is DecisionKind.INCONCLUSIVE
        assert world.source.released["m"].progress.status is ReleaseStatus.PAUSED
        await world.manager.close()

    run(test())


def test_a_fault_of_both_pauses_and_blames_nobody() -> None:
    async def test() -> None:
        world = Releasing()
        await world.start(canary(5_000))
        fails(world, 1, 1.0)
        fails(world, 2, 1.0)
        await world.traffic(300)
        await pause(1.5)  # it is judged once a second
        [bundle] = world.book.bundles
        assert bundle.decision.kind is DecisionKind.PAUSE
        assert world.source.released["m"].progress.status is ReleaseStatus.PAUSED
        await world.manager.close()

    run(test())


@pytest.mark.parametrize("code", [ErrorCode.INVALID_REQUEST, ErrorCode.CANCELLED])
def test_what_is_the_callers_fault_counts_for_nobody(code: ErrorCode) -> None:
    async def test() -> None:
        world = Releasing()
        await world.start(canary(10_000 - 1))
        watch = world.control.watches["m"]
        for _ in range(50):
            caller = world.ask()
            assert caller.pending is not None
            if code is ErrorCode.CANCELLED:
                caller.pending.withdraw()
            else:
                assert world.switch is not None
                world.switch.request_done(caller.pending.context, None, code, 0, 0, 0, "m", "")
                caller.pending.withdraw()
        await pause(1)
        assert watch.collector.evidence().candidate_samples == 0
        assert world.book.bundles == []
        await world.manager.close()

    run(test())


def test_somebody_else_was_quicker() -> None:
    async def test() -> None:
        world = Releasing()
        await world.start(canary())
        world.book.rival = ReleaseStatus.PAUSED
        fails(world, 2, 1.0)
        await world.traffic(500)
        await pause(3)
        # The pause of a person came first; the paused release shows the same fault and is rolled back on that.
        assert world.book.bundles[-1].release.progress.status is ReleaseStatus.PAUSED
        assert world.book.ended["m"].progress.status is ReleaseStatus.ROLLED_BACK
        await world.manager.close()

    run(test())


def test_late_outcomes_roll_a_promoted_version_back() -> None:
    async def test() -> None:
        world = Releasing()
        criteria = dataclasses.replace(QUICK, outcome_loss=0.02)
        release = canary(5_000, criteria=criteria, watch_after=3600 * SECOND)
        await world.start(release)
        answered: dict[int, list[str]] = {1: [], 2: []}
        for _ in range(600):
            pending = world.ask().pending
            assert pending is not None
            answered[pending.scheduler.version.number].append(pending.context.request_id)
            await pause(0.002)
        await pause(1)
        progress = dataclasses.replace(world.source.released["m"].progress, status=ReleaseStatus.PROMOTED,
                                       step_started_at=world.wall + world.clock.now())  # fmt: skip
        world.book.put(dataclasses.replace(world.source.released["m"], progress=progress))
        await pause(3)
        assert await world.traffic(20) == {2: 20}
        stable = world.control.report([Outcome(name, good=True) for name in answered[1]])
        matched = world.control.report([Outcome(name, good=n % 3 > 0) for n, name in enumerate(answered[2])])
        assert (stable, matched) == (len(answered[1]), len(answered[2]))
        assert world.control.report([Outcome("nobody", good=False)]) == 0
        await pause(3)
        assert world.book.bundles[-1].decision.kind is DecisionKind.ROLLBACK
        assert await world.traffic(50) == {1: 50}
        await world.manager.close()

    run(test())


def test_counts_that_cannot_be_used_are_begun_anew() -> None:
    async def test() -> None:
        world = Releasing()
        world.counts.saved["r1"] = {"id": "r1", "errors": "nonsense", "arms": [1]}
        await world.start(canary())
        await world.traffic(100)
        assert world.control.watches["m"].collector.evidence().candidate_samples > 0
        await world.manager.close()

    run(test())


def test_without_releases_the_hot_path_is_the_inner_observers_own() -> None:
    async def test() -> None:
        world = Releasing()
        world.manager.start()
        await world.want(1)
        assert world.switch is not None
        assert world.switch.request_done == world.observer.request_done
        assert world.switch.requests_done == world.observer.requests_done
        await world.manager.close()

    run(test())
