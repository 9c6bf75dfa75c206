"""What follows from evidence: every kind of decision, and what must never follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.criteria import criterion_table, samples_to_see
from gateway.core.rollout import decide, needed_samples
from gateway.judgements import DecisionKind, Verdict
from gateway.releases import (
    Arm,
    Criteria,
    Evidence,
    PairCounts,
    RateCounts,
    Release,
    ReleaseKind,
    ReleaseStatus,
)
from tests.support.releases import HOUR, SECOND, plan, running, steps

GOOD = Evidence(
    errors=PairCounts(2, 2, 0, 3000),
    nans=PairCounts(0, 0, 0, 3000),
    latency={5000: PairCounts(200, 800), 9000: PairCounts(100, 300)},
    disagreement=RateCounts(1, 3000),
    step_samples=3000,
    shadow_samples=3000,
)


def judge(release: Release, evidence: Evidence = GOOD, now: int = 2 * SECOND) -> Any:
    return decide(release, evidence, now, intervals=False)


@pytest.mark.parametrize("step", range(5))
def test_complete_evidence_goes_to_the_next_step_and_starts_its_clock(step: int) -> None:
    decision = judge(running(plan(), step, decision=4))
    assert decision.kind is DecisionKind.ADVANCE
    assert (decision.to.step, decision.to.step_started_at, decision.to.decision) == (step + 1, 2 * SECOND, 5)


def test_after_the_last_step_the_candidate_is_promoted() -> None:
    decision = judge(running(plan(), 5))
    assert (decision.kind, decision.to.status) == (DecisionKind.PROMOTE, ReleaseStatus.PROMOTED)


def test_no_data_is_never_promoted_and_said_to_be_inconclusive_when_the_time_is_over() -> None:
    for step in range(6):
        release = running(plan(), step)
        assert judge(release, Evidence()).to is None
        decision = judge(release, Evidence(), SECOND + HOUR)
        assert (decision.kind, decision.to.status) == (DecisionKind.INCONCLUSIVE, ReleaseStatus.PAUSED)
        assert decision.detail.startswith("inconclusive: ")


@pytest.mark.parametrize(
    "change",
    [
        {"errors": PairCounts(0, 0, 0, 100)},
        {"latency": {5000: PairCounts(200, 800), 9000: PairCounts(3, 5)}},
        {"nans": PairCounts(0, 0, 0, 100)},
        {"step_samples": 100},
        {"disagreement": RateCounts(0, 50)},
        {"outcomes": PairCounts(1, 0, 0, 10)},
        {"scores": {"y": ((10, 10), (10, 10))}},
    ],
)
def test_one_open_criterion_holds_the_step(change: dict[str, Any]) -> None:
    decision = judge(running(plan(), 4), replace(GOOD, **change))
    assert decision.kind is DecisionKind.HOLD
    assert decision.detail.startswith("waits for evidence: ")


@pytest.mark.parametrize(
    ("weights", "step", "kind"),
    [
        ((0, 100, 5_000, 10_000), 1, DecisionKind.ADVANCE),
        ((0, 100, 5_000, 10_000), 2, DecisionKind.HOLD),
        ((0, 100, 5_000, 10_000), 3, DecisionKind.HOLD),
        ((100, 10_000), 0, DecisionKind.HOLD),
        ((100, 5_000), 1, DecisionKind.HOLD),
    ],
)
def test_latencies_must_hold_at_the_largest_share_that_leaves_stable_some(
    weights: tuple[int, ...], step: int, kind: DecisionKind
) -> None:
    decision = judge(running(plan(steps=steps(*weights)), step), replace(GOOD, latency={}))
    assert decision.kind is kind


def test_at_100_percent_nothing_waits_for_a_comparison_that_nobody_can_add_to() -> None:
    open_again = {9000: PairCounts(128, 162), 5000: PairCounts(606, 813)}
    release = running(plan(steps=steps(5_000, 10_000)), 1)
    assert judge(release, replace(GOOD, latency=open_again)).kind is DecisionKind.PROMOTE
    assert judge(release, replace(GOOD, errors=PairCounts())).kind is DecisionKind.HOLD, "nothing was ever compared"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("errors", {"errors": PairCounts(20, 0, 0, 600)}),
        ("nan", {"nans": PairCounts(20, 0, 0, 600)}),
        ("latency p90", {"latency": {5000: PairCounts(1, 1), 9000: PairCounts(60, 10)}}),
        ("disagreement", {"disagreement": RateCounts(50, 500)}),
        ("outcomes", {"outcomes": PairCounts(60, 10, 5, 500)}),
        ("scores", {"scores": {"a": ((500,) * 4, (500,) * 4), "b": ((500,) * 4, (0, 0, 0, 2000))}}),
        ("errors alone", {"alone": RateCounts(60, 600)}),
    ],
)
def test_every_criterion_alone_rolls_back(name: str, change: dict[str, Any]) -> None:
    for release in (running(plan(), 3), running(plan(), 3, status=ReleaseStatus.PAUSED)):
        decision = judge(release, replace(GOOD, **change))
        assert (decision.kind, decision.to.status) == (DecisionKind.ROLLBACK, ReleaseStatus.ROLLED_BACK)
        assert decision.detail.startswith(f"{name}: ")
        assert [line.name for line in decision.criteria if line.verdict is Verdict.FAILED] == [name]


def test_times_that_cannot_be_compared_yet_hold_the_step_of_equal_shares() -> None:
    untimed = replace(GOOD, latency={})
    assert judge(running(plan(), 3), untimed).kind is DecisionKind.ADVANCE
    for step in (4, 5):
        assert "latency p50 0 %" in judge(running(plan(), step), untimed).detail


def test_faults_of_both_arms_are_nobodys() -> None:
    both = replace(GOOD, errors=PairCounts(3, 2, 2000, 1000), recent=(RateCounts(45, 50), RateCounts(40, 50)))
    decision = judge(running(plan(), 2), both)
    assert (decision.kind, decision.to.status) == (DecisionKind.PAUSE, ReleaseStatus.PAUSED)
    assert "nobody" in decision.detail
    also_in_a_row = replace(both, consecutive_failures=50)
    assert judge(running(plan(), 2), also_in_a_row).kind is DecisionKind.PAUSE


def test_the_first_failures_in_a_row_abort_at_once() -> None:
    bad = Evidence(consecutive_failures=10, recent=(RateCounts(10, 10), RateCounts(0, 50)))
    decision = judge(running(plan(), 1), bad)
    assert decision.kind is DecisionKind.ROLLBACK
    assert "10 failures of the candidate in a row" in decision.detail
    assert judge(running(plan(), 1), replace(bad, consecutive_failures=9)).kind is DecisionKind.HOLD
    patient = plan(criteria=Criteria(consecutive_failures=None))
    assert judge(running(patient, 1), replace(bad, consecutive_failures=99)).kind is DecisionKind.HOLD


def test_a_paused_release_goes_no_further() -> None:
    decision = judge(running(plan(), 2, status=ReleaseStatus.PAUSED, detail="lunch"), GOOD, 100 * HOUR)
    assert (decision.kind, decision.detail, decision.to) == (DecisionKind.HOLD, "lunch", None)


def test_a_step_that_wants_approval_waits_for_it_and_says_so_once() -> None:
    of = plan(steps=steps(100, 10_000, approval=True))
    decision = judge(running(of, 0))
    assert (decision.kind, decision.to.awaiting, decision.to.step) == (DecisionKind.AWAIT, True, 0)
    again = judge(Release(of, decision.to), GOOD, 100 * HOUR)
    assert (again.kind, again.to) == (DecisionKind.HOLD, None)


def test_late_outcomes_roll_back_what_was_promoted_and_the_watch_ends() -> None:
    release = running(plan(watch_after=HOUR), 5, status=ReleaseStatus.PROMOTED)
    assert judge(release).to is None
    late = replace(GOOD, outcomes=PairCounts(60, 10, 5, 500), errors=PairCounts(90, 0, 0, 100))
    decision = judge(release, late)
    assert (decision.kind, decision.to.status) == (DecisionKind.ROLLBACK, ReleaseStatus.ROLLED_BACK)
    assert decision.detail.startswith("after promotion: outcomes")
    only_errors = replace(GOOD, errors=PairCounts(90, 0, 0, 100))
    assert judge(release, only_errors).to is None
    assert judge(release, GOOD, SECOND + HOUR).to.status is ReleaseStatus.ENDED


def test_a_shadow_release_ends_with_its_answer_and_promotes_nothing() -> None:
    of = plan(kind=ReleaseKind.SHADOW, steps=steps(0))
    decision = judge(running(of))
    assert (decision.kind, decision.to.status) == (DecisionKind.FINISH, ReleaseStatus.ENDED)
    assert judge(running(of), replace(GOOD, disagreement=RateCounts(100, 500))).kind is DecisionKind.ROLLBACK


def test_an_ab_release_is_judged_only_if_asked_and_never_moves() -> None:
    arms = (Arm("b", 2, 3000), Arm("c", 3, 2000))
    of = plan(kind=ReleaseKind.AB, arms=arms, steps=(), judged=False)
    bad = replace(GOOD, errors=PairCounts(60, 0, 0, 100))
    assert judge(running(of), bad, 100 * HOUR).to is None
    judged = plan(kind=ReleaseKind.AB, arms=arms[:1], steps=())
    assert judge(running(judged), GOOD, 100 * HOUR).to is None
    assert judge(running(judged), bad).kind is DecisionKind.ROLLBACK


def test_each_step_sees_enough_to_show_a_fault_once() -> None:
    assert samples_to_see(0.02, 0.99) == 228
    of = plan()
    assert needed_samples(of, of.steps[1], Evidence()) == 228
    assert needed_samples(of, of.steps[1], GOOD) == samples_to_see(0.005, 0.99) == 919
    assert needed_samples(of, of.steps[0], GOOD) == 228


def test_the_table_is_the_same_with_and_without_intervals() -> None:
    with_intervals = criterion_table(Criteria(), GOOD)
    without = criterion_table(Criteria(), GOOD, intervals=False)
    assert [line.verdict for line in with_intervals] == [line.verdict for line in without]
    errors = with_intervals[0]
    assert errors.low is not None
    assert errors.high is not None
    assert errors.low < 0 < errors.high < 0.02


def test_criteria_that_are_left_out_are_not_in_the_table_and_free_their_part_of_alpha() -> None:
    few = Criteria(nan_rate=None, latency_increase=None, disagreement_rate=None, score_shift=None, outcome_loss=None)
    table = criterion_table(few, GOOD)
    assert [line.name for line in table] == ["errors"]
    assert table[0].fail_at < criterion_table(Criteria(), GOOD)[0].fail_at


def test_deciding_twice_gives_the_same() -> None:
    assert decide(running(plan(), 2), GOOD, 5 * SECOND) == decide(running(plan(), 2), GOOD, 5 * SECOND)


def test_what_is_tolerated_is_not_rolled_back_however_well_it_is_proved() -> None:
    slight = replace(GOOD, errors=PairCounts(12_000, 10_000, 0, 978_000))  # 0.2 points worse, and certain
    assert judge(running(plan(criteria=Criteria(tolerance=0.25)), 2), slight).kind is DecisionKind.ADVANCE
    strict = judge(running(plan(criteria=Criteria(tolerance=0.0)), 2), slight)
    assert strict.kind is DecisionKind.ROLLBACK
