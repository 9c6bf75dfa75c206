"""Copies and what is counted of a release: outcomes, answers that find no room, and whose work is live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.outcome_matching import Outcome
from gateway.engine.shadow import MOST_COPIES
from tests.gateway.engine.test_shadow import Copying


def test_the_truth_about_a_copied_request_judges_both_answers_and_others_are_not_known() -> None:
    copying = Copying()
    copying.live()
    copying.answer()
    copying.idle()
    copying.answer(lambda data: data[4:8] + data[:4])
    copying.live()
    copying.answer()
    collector = copying.watch.collector
    collector.look()
    assert collector.shadow_samples == 1
    assert collector.outcome(Outcome("q1", label=(0,)))
    assert collector.evidence().outcomes.total == 1
    assert not collector.outcome(Outcome("q2", label=(0,))), "only one version answered it"


def test_answers_that_find_no_room_are_counted_at_once_and_let_go() -> None:
    copying = Copying()
    for _ in range(MOST_COPIES + 40):
        copying.live()
        copying.answer()
    collector = copying.watch.collector
    collector.look()
    assert len(copying.watch.shadow._waiting) == MOST_COPIES
    copying.live()
    copying.answer()
    assert not collector._notes.take(), "nothing of it waits"
    assert collector.arms["stable"].requests == MOST_COPIES + 41
    assert collector.arms["stable"].latency.count == MOST_COPIES + 41
    assert copying.watch.drops() == {"no_room": 41}


def test_one_timer_looks_for_spare_time_and_copies_are_not_live_work(monkeypatch: pytest.MonkeyPatch) -> None:
    copying = Copying()
    looks: list[int] = []
    call_at = copying.clock.call_at

    def spy(at: int, callback: Callable[[], None]) -> Any:
        if callback == copying.watch.shadow._look:
            looks.append(copying.clock.now())
        return call_at(at, callback)

    monkeypatch.setattr(copying.clock, "call_at", spy)
    copying.live()
    copying.answer()
    live_at = copying.clock.now()
    copying.idle(60)
    assert [call.request.version.number for call in copying.backend.calls] == [2]
    copying.answer()
    assert copying.watch.shadow._spare._busy_at == live_at
    copying.live()
    copying.answer()
    copying.live()  # stays, so that there is no spare time
    looks.clear()
    for _ in range(20):
        copying.idle(5)
    assert len(looks) == len(set(looks)) > 1
