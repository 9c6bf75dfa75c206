"""Copies: only in spare time, compared, bounded, and without any effect on callers."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.spare import LiveWork, SpareTime
from gateway.engine.copy_comparison import compare_copies
from gateway.engine.evidence import Collector
from gateway.engine.release_watch import ReleaseWatch
from gateway.engine.shadow import MOST_COPIES
from gateway.engine.switched_observer import SwitchedObserver
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import InferRequest, RequestContext
from gateway.releases import OutputRule, RateCounts
from gateway.routes import Route, RouteTable
from gateway.versions import VersionState
from tests.gateway.engine.test_routing import Releasing
from tests.support.engine import MILLISECOND, SECOND, Caller
from tests.support.releases import plan, running


class Copying(Releasing):
    """Version 2 sees copies of what version 1 answered; `step` 0 of the plan is copies only."""

    def __init__(self, step: int = 0, weight: int = 0, **changes: Any) -> None:
        super().__init__()
        self.release = running(plan(**changes), step)
        self.route = Route("m", ((2, weight), (1, 10_000 - weight)), "salt", arms=("candidate", "stable"),
                           release_id="r1")  # fmt: skip
        self.service.publish(RouteTable(3, {"m": self.route}), {"m": self.all})
        self.watch = ReleaseWatch(self.release, self.service, self.clock, None, lambda: None)
        self.watch.follow(self.release)
        self.switch = SwitchedObserver(self.observer)
        self.switch.listen({"r1": self.watch.collector}, copies=False)
        for served in self.all.values():
            served.scheduler._observer = self.switch
        self.service._observer = self.switch
        self.serial = 0

    def live(self, value: float = 1.0, headers: dict[bytes, bytes] | None = None) -> Caller:
        """One caller's request."""
        self.serial += 1
        caller = Caller()
        now = self.clock.now()
        context = RequestContext(f"q{self.serial}", now, now + 10 * SECOND, "grpc", headers=headers)
        request = InferRequest(self.head(1), "", [struct.pack("<2f", value, 1.0)])
        caller.pending = self.service.submit(request, context, caller)
        self.clock.settle()
        return caller

    def answer(self, change: Callable[[bytes], bytes] | None = None) -> None:
        """Lets the backend answer all that it has; `change` is what version 2 makes of the tensor."""
        while self.backend.calls:
            call = self.backend.calls.pop(0)
            if change is not None and call.request.version.number == 2:
                data = change(b"".join(bytes(chunk) for chunk in call.request.chunks[0]))
                call.request.chunks = [[data]]
            call.echo()
            self.clock.settle()

    def idle(self, milliseconds: int = 50) -> None:
        self.clock.advance(milliseconds * MILLISECOND)
        self.clock.settle()


def test_what_stable_answered_is_copied_compared_and_told_to_nobody() -> None:
    world = Copying()
    callers = [world.live(n) for n in range(5)]
    world.answer()
    assert all(caller.response is not None for caller in callers)
    seen = set()
    for _ in range(2):  # a few rows beside live work, the rest when the gateway counts as idle
        world.idle()
        seen |= {call.request.version.number for call in world.backend.calls}
        world.answer()
    assert seen == {2}
    evidence = world.watch.collector.evidence()
    assert evidence.disagreement == RateCounts(0, 5)
    assert (evidence.shadow_samples, evidence.step_samples, evidence.candidate_samples) == (5, 5, 0)
    assert world.watch.copies == 5
    assert world.observer.requests == [None] * 5, "copies are not counted as requests"


def test_what_differs_is_counted_and_the_worst_are_kept() -> None:
    world = Copying(segment_header="x-country", capture_inputs=True)
    for n in range(4):
        world.live(n + 2.0, {b"x-country": b"de" if n % 2 else b"fr"})
    world.answer()
    world.idle()
    world.answer(lambda data: struct.pack(f"<{len(data) // 4}f", *[2 * v for (v,) in struct.iter_unpack("<f", data)]))
    found = world.watch.collector.disagreement
    assert (found.requests, found.different) == (4, 4)
    summary = found.summary()
    assert summary["outputs"]["x"]["requests"] == 4
    assert summary["outputs"]["x"]["mean_relative"] == pytest.approx(1.0)
    assert summary["outputs"]["x"]["max_absolute"] == pytest.approx(5.0)
    assert {name: part["x"]["requests"] for name, part in summary["segments"].items()} == {"de": 2, "fr": 2}
    worst = found.worst
    assert {item["request_id"] for item in worst} == {"q1", "q2", "q3", "q4"}
    assert worst[0]["inputs"][0]["name"] == "x"


def test_inputs_are_kept_only_if_the_operator_says_so() -> None:
    world = Copying()
    world.live(3.0)
    world.answer()
    world.idle()
    world.answer(lambda data: bytes(len(data)))
    assert "inputs" not in world.watch.collector.disagreement.worst[0]


def test_a_rule_decides_what_is_equal() -> None:
    for rule, different in ((OutputRule("x", "close", 10.0, 0.0), 0), (OutputRule("x", "close", 0.1, 0.0), 1)):
        world = Copying(outputs=(rule,))
        world.live(3.0)
        world.answer()
        world.idle()
        world.answer(lambda data: struct.pack("<2f", 4.0, 1.0))
        assert world.watch.collector.disagreement.different == different


def test_nothing_is_copied_beside_live_work_of_the_candidate() -> None:
    world = Copying(step=4, weight=5_000)
    while {call.request.version.number for call in world.backend.calls} != {1, 2}:
        world.live()
    for call in [call for call in world.backend.calls if call.request.version.number == 1]:
        world.backend.calls.remove(call)
        call.echo()
    busy = len(world.backend.calls)
    world.clock.settle()
    world.idle(500)
    assert len(world.backend.calls) <= busy, "copies wait while the candidate has live work"
    world.answer()
    world.idle(500)
    assert [call.request.version.number for call in world.backend.calls] == [2], "now there is time"


def test_a_candidate_that_fails_a_copy_did_not_answer_the_same() -> None:
    world = Copying()
    world.live()
    world.answer()
    world.idle()
    for call in list(world.backend.calls):
        world.backend.calls.remove(call)
        call.answer(GatewayError(ErrorCode.BACKEND_FAILED, "planted"))
    world.clock.settle()
    found = world.watch.collector.disagreement
    assert (found.requests, found.different, found.failed) == (1, 1, 1)
    assert found.worst[0]["failed"] == "backend_failed"


def test_a_backend_that_cannot_be_reached_blames_nobody() -> None:
    world = Copying()
    world.live()
    world.answer()
    world.idle()
    for call in list(world.backend.calls):
        world.backend.calls.remove(call)
        call.answer(GatewayError(ErrorCode.BACKEND_UNREACHABLE, "away"))
    world.clock.settle()
    assert world.watch.collector.disagreement.requests == 0
    assert world.watch.drops() == {"not_answered": 1}


def test_what_waits_is_bounded_and_drops_are_counted() -> None:
    world = Copying()
    world.all[2].state = VersionState.LOADING
    for _ in range(MOST_COPIES + 10):
        world.live()
        world.answer()
    assert world.watch.drops() == {"no_room": 10}
    world.watch.close()
    assert world.watch.drops() == {"no_room": 10, "release_over": MOST_COPIES}
    assert world.all[1].scheduler.tap is None


def test_only_the_sampled_share_is_copied() -> None:
    world = Copying(shadow_share=2_000)
    for _ in range(200):
        world.live()
        world.answer()
    world.idle(2000)
    for _ in range(100):
        world.answer()
        world.idle(100)
    assert 15 <= world.watch.copies <= 70


def test_who_names_a_version_is_neither_counted_nor_copied() -> None:
    world = Copying()
    caller = world.ask((1.0, 2.0), version="1")
    world.clock.settle()
    world.answer()
    assert caller.response is not None
    world.idle()
    assert world.backend.calls == []
    assert world.watch.collector.evidence().candidate_samples == 0
    assert world.watch.collector.arms["stable"].requests == 0


def test_counts_outlive_the_process() -> None:
    world = Copying(step=3, weight=5_000)
    for n in range(60):
        world.live(n)
        world.answer()
        world.idle(5)
    world.watch.collector.disagreement.bad(2.0, {"request_id": "w"})
    document = world.watch.document()
    again = Collector(world.release.plan, document)
    again.at_step(world.release)
    before, after = world.watch.collector.evidence(), again.evidence()
    assert before.errors.total > 10
    for name in ("errors", "alone", "nans", "latency", "disagreement", "outcomes", "candidate_samples", "step_samples"):
        assert getattr(after, name) == getattr(before, name), name
    assert again.arm_counts() == world.watch.collector.arm_counts()
    assert again.disagreement.worst == world.watch.collector.disagreement.worst
    compare_copies(again, [])


# ---------------------------------------------------------------------- spare time


def test_an_idle_gateway_gives_all_and_a_busy_one_a_few_percent() -> None:
    spare, now = SpareTime(duty_permille=100), 0
    assert spare.rows(LiveWork(0, 0, 0), now, 32) == 32
    spare.began(now)
    assert spare.rows(LiveWork(0, 0, 0), now, 32) == 0, "one batch of copies at a time"
    spare.ended(10 * MILLISECOND)
    busy = LiveWork(0, 2, 0)
    assert spare.rows(busy, 11 * MILLISECOND, 32) == 0
    assert spare.rows(busy, 99 * MILLISECOND, 32) == 0
    assert spare.rows(busy, 100 * MILLISECOND, 32) == 8, "10 ms of 100"
    assert spare.rows(LiveWork(1, 2, 0), 200 * MILLISECOND, 32) == 0, "somebody waits"
    assert spare.rows(LiveWork(0, 0, 1), 200 * MILLISECOND, 32) == 0, "the candidate has work"
    assert spare.rows(LiveWork(0, 0, 0), 221 * MILLISECOND, 32) == 32
    late = spare.next_look(230 * MILLISECOND) + 5 * MILLISECOND
    assert spare.rows(LiveWork(0, 0, 0), late, 32) == 8, "woken late: the machine is busy"


def test_live_work_that_was_over_before_anybody_looked_is_live_work() -> None:
    spare = SpareTime()
    idle = LiveWork(0, 0, 0)
    spare.began(0)
    spare.ended(1 * MILLISECOND)
    for now in range(5 * MILLISECOND, 495 * MILLISECOND, 5 * MILLISECOND):
        spare.lived(now - MILLISECOND)
        spare.next_look(now - 5 * MILLISECOND)
        assert spare.rows(idle, now, 32) == 0
    spare.next_look(500 * MILLISECOND)
    assert spare.rows(idle, 500 * MILLISECOND, 32) == 8, "1 ms of 500"
    spare.next_look(515 * MILLISECOND)
    assert spare.rows(idle, 515 * MILLISECOND, 32) == 32


def test_copies_never_take_more_than_their_share_of_a_busy_time() -> None:
    rng = random.Random(4)
    spare, now, taken = SpareTime(duty_permille=50), 0, 0
    until = 20 * SECOND
    while now < until:
        work = LiveWork(rng.choice([0, 0, 3]), rng.choice([1, 2]), rng.choice([0, 0, 1]))
        if spare.rows(work, now, 8):
            spare.began(now)
            took = rng.randrange(MILLISECOND, 20 * MILLISECOND)
            now += took
            taken += took
            spare.ended(now)
        else:
            following = spare.next_look(now)
            assert following > now
            now = following
    assert 0 < taken <= until * 0.06
