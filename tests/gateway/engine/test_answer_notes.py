"""Answers of a release are looked at many at once: nothing is seen otherwise than one by one."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.core.outcome_matching import Outcome
from gateway.engine import answer_evidence
from gateway.engine.answer_notes import ENOUGH_WAITING, MOST_WAITING, AnswerNotes, SeenAnswer, groups_of
from gateway.engine.evidence import Collector
from gateway.errors import ErrorCode
from gateway.messages import InferResponse, ResponseHead
from gateway.releases import (
    CANDIDATE,
    STABLE,
    Arm,
    Criteria,
    Release,
    ReleaseKind,
    ReleasePlan,
    ReleaseProgress,
    ReleaseStatus,
    Step,
)
from gateway.routes import RouteDecision
from gateway.tensors import DataType, TensorSpec


def collector_at(weight: int, **criteria: Any) -> Collector:
    plan = ReleasePlan(
        id="r", model_name="m", kind=ReleaseKind.CANARY, stable=1, arms=(Arm("candidate", 2, 0),),
        steps=(Step(weight, 10**12),), salt="s", criteria=Criteria(**criteria),
    )  # fmt: skip
    collector = Collector(plan)
    collector.at_step(Release(plan, ReleaseProgress(status=ReleaseStatus.RUNNING)))
    return collector


def answered(
    values: list[list[float]], request_id: str = "", *, arm: str = STABLE, batchable: bool = True, rule: int = -1
) -> tuple[Any, InferResponse]:
    rows = np.asarray(values, np.float32)
    head = ResponseHead("m", "1", (TensorSpec("y", DataType.FP32, rows.shape),))
    decision = RouteDecision(2 if arm == CANDIDATE else 1, rule, 0, arm, "r")
    member = SimpleNamespace(
        checked=SimpleNamespace(rows=len(values) if batchable else 1, batchable=batchable),
        context=SimpleNamespace(request_id=request_id, received_at=0, decision=decision),
        nbytes=8,
    )
    return member, InferResponse(head, "", [rows.tobytes()])


def told(collector: Collector, arm: str, values: list[list[float]], at: int) -> None:
    collector.answered(arm, [answered(values, arm=arm)], at)


@pytest.mark.parametrize("seed", range(5))
def test_many_at_once_are_seen_like_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    late, at_once = collector_at(2_500), collector_at(2_500)
    for at in range(400):
        count, width = int(rng.integers(1, 4)), int(rng.integers(2, 4))
        arm = CANDIDATE if rng.random() < 0.4 else STABLE
        batch = []
        for index in range(count):
            values = rng.normal(size=(int(rng.integers(1, 3)), width))
            values[rng.random(values.shape) < 0.02] = np.nan
            batch.append(answered(values.tolist(), f"{at}-{index}", arm=arm))
        late.answered(arm, batch, at)
        at_once.answered(arm, batch, at)
        at_once.look()
        if rng.random() < 0.1:
            context = batch[0][0].context
            late.failed(arm, context, ErrorCode.BACKEND_FAILED, at)
            at_once.failed(arm, context, ErrorCode.BACKEND_FAILED, at)
        if at % 90 == 0:
            truth = Outcome(f"{max(0, at - 3)}-0", label=(0,))
            assert late.outcome(truth) == at_once.outcome(truth)
    assert late.evidence() == dataclasses.replace(at_once.evidence(), scores=late.evidence().scores)
    assert late.evidence().nans.candidate_only > 0
    assert late.evidence().errors.candidate_only > 0
    assert late.arm_counts() == at_once.arm_counts()


def test_what_waits_is_bounded_in_number_and_bytes() -> None:
    notes = AnswerNotes()
    small = answered([[1.0]])
    worth = [notes.add(STABLE, [small, small], at) for at in range(MOST_WAITING // 2 - 1)]
    assert worth == [False] * (ENOUGH_WAITING // 2 - 1) + [True] * (MOST_WAITING // 2 - ENOUGH_WAITING // 2)
    assert not notes.full
    notes.add(STABLE, [small, small], 0)
    assert notes.full
    assert len(notes.take()) == MOST_WAITING // 2
    assert not notes.full
    assert notes.take() == []
    assert notes.add(CANDIDATE, [answered([[0.0] * 80_000])], 0)
    assert len(notes.take()) == 1
    assert not notes.add(STABLE, [small], 0), "the bytes of those taken no longer count"
    member, response = answered([[1.0]])
    assert notes.add(STABLE, [(member, InferResponse(response.head, "", [b"", bytes(300_000)]))], 0), "every output"


def test_failures_in_a_row_are_told_as_soon_as_stable_answers_well() -> None:
    """Which of both arms failed first is not known until then: the answer is looked at at once."""
    collector, alarms = collector_at(2_500, consecutive_failures=3), []
    collector.alarm = lambda: alarms.append("rang")
    told(collector, STABLE, [[1.0]], 1)
    context = answered([[1.0]], "c", arm=CANDIDATE)[0].context
    for at in (2, 3, 4):
        collector.failed(CANDIDATE, context, ErrorCode.BACKEND_FAILED, at)
    if not alarms:
        assert collector.answered(STABLE, [answered([[1.0]]), answered([[1.0]]), answered([[1.0]])], 5)
        assert collector.full
        collector.look()
    assert alarms
    assert not collector.full


def test_answers_of_other_shapes_arms_and_kinds_are_looked_at_apart() -> None:
    wide, narrow, whole = answered([[1.0, 2.0]]), answered([[1.0]]), answered([[1.0], [2.0]], batchable=False)
    more, other = answered([[1.0, 2.0], [3.0, 4.0]]), answered([[1.0]], batchable=False)
    seen = [
        SeenAnswer(member, answer, 0, None, is_candidate=False)
        for member, answer in (wide, narrow, whole, more, other, answered([]))
    ]
    seen.append(SeenAnswer(*wide, 1, None, is_candidate=True))
    assert groups_of(seen) == [[0, 3], [1], [2], [4], [6]]


def test_an_answer_without_rows_hides_nobodys_nan() -> None:
    collector = collector_at(2_500)
    collector.answered(CANDIDATE, [answered(rows, arm=CANDIDATE) for rows in ([], [[np.nan]], [])], 0)
    told(collector, STABLE, [[1.0]], 1)
    assert collector.evidence().nans.candidate_only == 1


def test_those_whom_the_split_did_not_send_are_neither_counted_nor_copied() -> None:
    collector = collector_at(2_500)
    copied: list[object] = []
    collector.copy = copied.extend
    by_rule, of_none, of_another = answered([[np.nan]], rule=0), answered([[np.nan]]), answered([[np.nan]])
    of_none[0].context.decision = None
    of_another[0].context.decision = RouteDecision(1, -1, 0, STABLE, "another")
    counted = answered([[1.0]])
    collector.answered(STABLE, [by_rule, of_none, of_another, counted], 0)
    assert collector.evidence().nans.stable_only == 0
    assert [arm.requests for arm in collector.arm_counts()] == [0, 1]
    assert copied == [counted]


def test_nothing_is_looked_at_when_nothing_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_evidence, "look_at", lambda *_, **__: pytest.fail("looked"))
    collector = collector_at(0, outcome_loss=None)
    told(collector, STABLE, [[1.0]], 0)
    assert collector.arm_counts()[1].requests == 0
    collector.look()
    assert collector.arm_counts()[1].requests == 1


def test_a_look_that_fails_says_nothing_and_the_next_one_counts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collector = collector_at(2_500)
    with monkeypatch.context() as patched:
        patched.setattr(answer_evidence, "look_at", lambda *_, **__: 1 / 0)
        told(collector, CANDIDATE, [[np.nan]], 0)
        assert collector.evidence().nans.candidate_only == 0
    assert "looking at answers of m" in caplog.text
    told(collector, CANDIDATE, [[np.nan]], 2)
    told(collector, STABLE, [[1.0]], 3)
    assert collector.evidence().nans.candidate_only == 1
