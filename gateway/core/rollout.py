"""What follows for a release from what was seen: hold, go on, promote, roll back, pause, or say that it cannot be told.

Pure: the same release, evidence and instant always give the same decision. Invariants: nothing is advanced or promoted
without evidence that every criterion's stated fault is absent; a fault that both arms share is nobody's; a paused
release goes no further, but what it shows may still roll it back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from gateway.core.criteria import (
    ALONE,
    DISAGREEMENT,
    ERRORS,
    NANS,
    OUTCOMES,
    criterion_table,
    samples_to_see,
)
from gateway.judgements import CriterionResult, Decision, DecisionKind, Verdict
from gateway.releases import (
    Evidence,
    RateCounts,
    Release,
    ReleaseKind,
    ReleasePlan,
    ReleaseProgress,
    ReleaseStatus,
    Step,
    WallInstant,
)
from gateway.routes import BUCKETS

_FEWEST_RECENT = 20
IN_PROGRESS = (ReleaseStatus.RUNNING, ReleaseStatus.PAUSED)


def decide(release: Release, evidence: Evidence, now: WallInstant, *, intervals: bool = True) -> Decision:
    """Returns what follows from `evidence`; without `intervals` its table has no intervals, which changes nothing."""
    plan, progress = release.plan, release.progress
    table = tuple(
        replace(line, blocks=_blocks(plan, progress, evidence, line))
        for line in criterion_table(plan.criteria, evidence, intervals=intervals)
    )
    if progress.status is ReleaseStatus.PROMOTED:
        return _watched(release, table, now)
    if progress.status not in IN_PROGRESS:
        return Decision(kind=DecisionKind.HOLD, detail=f"the release is {progress.status.value}", criteria=table)
    if not plan.judged:
        return Decision(kind=DecisionKind.HOLD, detail="not judged: a person decides", criteria=table)
    fault = _fault(plan.criteria.consecutive_failures, evidence, table)
    if fault:
        return _moved(release, DecisionKind.ROLLBACK, fault, table, status=ReleaseStatus.ROLLED_BACK)
    if progress.status is ReleaseStatus.PAUSED:
        return Decision(kind=DecisionKind.HOLD, detail=progress.detail or "paused", criteria=table)
    if _failing(evidence.recent[0]) and _failing(evidence.recent[1]):
        seen = " and ".join(f"{counts.bad} of {counts.total}" for counts in evidence.recent)
        why = f"both arms fail together ({seen} of the last requests): nobody is blamed"
        return _moved(release, DecisionKind.PAUSE, why, table, status=ReleaseStatus.PAUSED)
    if plan.kind is ReleaseKind.AB:
        return Decision(kind=DecisionKind.HOLD, detail="shares are fixed; nothing speaks against it", criteria=table)
    return _stepped(release, evidence, table, now)


def needed_samples(plan: ReleasePlan, step: Step, evidence: Evidence) -> int:
    """Returns how many candidate requests (copies, where it gets none) the step has to see, whatever came before.

    So many that a fault of the smallest stated rate would have shown at least once with the stated power.
    """
    criteria = plan.criteria
    if step.weight == 0:
        rates = [criteria.disagreement_rate]
    else:
        rates = [criteria.error_rate, criteria.nan_rate if evidence.nans.total else None]
    smallest = min((rate for rate in rates if rate is not None), default=0.05)
    return samples_to_see(smallest, criteria.power)


def _watched(release: Release, table: tuple[CriterionResult, ...], now: WallInstant) -> Decision:
    """After promotion only outcomes that arrive late can still speak against it."""
    plan, progress = release.plan, release.progress
    late = next((line for line in table if line.name == OUTCOMES and line.verdict is Verdict.FAILED), None)
    if late is not None and plan.judged:
        why = f"after promotion: {_said(late)}"
        return _moved(release, DecisionKind.ROLLBACK, why, table, status=ReleaseStatus.ROLLED_BACK)
    if now >= progress.step_started_at + plan.watch_after:
        why = "promoted; the time to watch it is over"
        return _moved(release, DecisionKind.FINISH, why, table, status=ReleaseStatus.ENDED)
    return Decision(kind=DecisionKind.HOLD, detail="promoted; outcomes are still awaited", criteria=table)


def _stepped(release: Release, evidence: Evidence, table: tuple[CriterionResult, ...], now: WallInstant) -> Decision:
    plan, progress = release.plan, release.progress
    step = plan.steps[progress.step]
    missing = _missing(plan, step, evidence, table)
    if missing:
        if now - progress.step_started_at >= step.max_time:
            why = f"inconclusive: the step's time is over without enough evidence ({missing})"
            return _moved(release, DecisionKind.INCONCLUSIVE, why, table, status=ReleaseStatus.PAUSED)
        return Decision(kind=DecisionKind.HOLD, detail=f"waits for evidence: {missing}", criteria=table)
    if step.approval:
        if progress.awaiting:
            return Decision(kind=DecisionKind.HOLD, detail=progress.detail, criteria=table)
        why = f"the evidence of {weight_text(step.weight)} is complete; waits for approval"
        return _moved(release, DecisionKind.AWAIT, why, table, awaiting=True)
    why = f"every criterion holds at {weight_text(step.weight)} with {evidence.step_samples} requests in this step"
    if progress.step + 1 < len(plan.steps):
        return _moved(release, DecisionKind.ADVANCE, why, table, step=progress.step + 1, step_started_at=now)
    if plan.kind is ReleaseKind.SHADOW:
        return _moved(release, DecisionKind.FINISH, why, table, status=ReleaseStatus.ENDED)
    return _moved(release, DecisionKind.PROMOTE, why, table, status=ReleaseStatus.PROMOTED, step_started_at=now)


def weight_text(weight: int) -> str:
    """Returns a weight as people write it: "shadow", "2.5 %"."""
    return f"{weight / 100:g} %" if weight else "shadow"


def _blocks(plan: ReleasePlan, progress: ReleaseProgress, evidence: Evidence, line: CriterionResult) -> bool:
    """Whether the step waits until this criterion holds.

    What every release has must be seen; what only some have (floating outputs, scores, outcomes) must hold once it is.
    Latencies must hold at the largest share below 100 %; before, they may only speak against the candidate.
    """
    if plan.kind is ReleaseKind.AB or progress.status not in IN_PROGRESS or line.name == ALONE:
        return False
    weights = [step.weight for step in plan.steps]
    if weights[progress.step] >= BUCKETS and line.samples > 0:
        # Stable gets nothing any more, so that nothing can be added to the comparison: it held when this step began.
        return False
    if line.name == DISAGREEMENT:
        return plan.shadow_share > 0 and (0 in weights or evidence.disagreement.total > 0)
    if weights[progress.step] == 0:
        return False
    if line.name.startswith("latency"):
        # A small share seldom runs under the conditions that stable runs under: a later step says more, and sooner.
        return not any(weights[progress.step] < later < BUCKETS for later in weights[progress.step + 1 :])
    return line.samples > 0 or line.name == ERRORS


def _missing(plan: ReleasePlan, step: Step, evidence: Evidence, table: Sequence[CriterionResult]) -> str:
    """Returns what the step still waits for, empty if for nothing."""
    waits = []
    needed = needed_samples(plan, step, evidence)
    if evidence.step_samples < needed:
        waits.append(f"{evidence.step_samples} of {needed} requests in this step")
    for line in table:
        if line.blocks and line.verdict is not Verdict.ENOUGH:
            done = max(0, min(99, round(100 * line.log_for / line.enough_at))) if line.samples else 0
            waits.append(f"{line.name} {done} %")
    return ", ".join(waits)


def _fault(most_failures: int | None, evidence: Evidence, table: Sequence[CriterionResult]) -> str:
    """Returns what speaks against the candidate, empty if nothing does."""
    in_a_row = evidence.consecutive_failures
    if most_failures is not None and in_a_row >= most_failures and not _failing(evidence.recent[1]):
        return f"{in_a_row} failures of the candidate in a row while stable was well"
    shared = _failing(evidence.recent[1])  # what stable suffers too is not the candidate's alone
    failed = [line for line in table if line.verdict is Verdict.FAILED and not (shared and line.name == ALONE)]
    return "; ".join(_said(line) for line in failed)


def _said(line: CriterionResult) -> str:
    """Returns a failed criterion in words."""
    odds = f"evidence {_power_of_ten(line.log_against)}, needed {_power_of_ten(line.fail_at)}"
    if line.name == OUTCOMES or line.name in (ERRORS, NANS):
        what = f"{line.samples} pairs, in {line.candidate_bad} the candidate alone was bad, in {line.stable_bad} stable"
    elif line.name.startswith("latency"):
        what = f"slower than allowed in {line.candidate_bad} of {line.samples} comparable pairs"
    elif line.estimate is not None and line.limit is not None and line.name not in (DISAGREEMENT, ALONE):
        what = f"the distribution moved by {line.estimate:.3f}, allowed {line.limit:g}"
    else:
        what = f"{line.candidate_bad} of {line.samples}, allowed {100 * (line.limit or 0):.3g} %"
    return f"{line.name}: {what} ({odds})"


def _power_of_ten(log_value: float) -> str:
    return f"10^{log_value / math.log(10):.1f}"


def _failing(counts: RateCounts) -> bool:
    return counts.total >= _FEWEST_RECENT and 2 * counts.bad >= counts.total


def _moved(
    release: Release,
    kind: DecisionKind,
    detail: str,
    table: tuple[CriterionResult, ...],
    *,
    status: ReleaseStatus = ReleaseStatus.RUNNING,
    step: int | None = None,
    step_started_at: WallInstant | None = None,
    awaiting: bool = False,
) -> Decision:
    before = release.progress
    to = ReleaseProgress(
        status=status,
        step=before.step if step is None else step,
        step_started_at=before.step_started_at if step_started_at is None else step_started_at,
        decision=before.decision + 1,
        awaiting=awaiting,
        detail=detail,
        evidence=before.evidence,
    )
    return Decision(kind=kind, detail=detail, criteria=table, to=to)
