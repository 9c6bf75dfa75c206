"""Counts what a release shows: one collector for each release, fed by what happens on the data plane.

Caller mistakes and cancels count against nobody; what both arms share cancels in pairs (`core.pairing`). Invariants:
only requests that were routed by the release count, never those that name a version, never copies; counts only grow;
everything kept is bounded. `document` and the constructor's `found` carry the counts over a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from gateway.core.comparable import Comparable, equal_shares, stable_share
from gateway.core.disagreement import Disagreement
from gateway.core.outcome_matching import Outcome, OutcomeMatching
from gateway.core.pairing import FailurePairing, LatencyPairing, block_length
from gateway.core.score_bins import ScoreBins
from gateway.engine.answer_evidence import AnswerEvidence
from gateway.engine.answer_looks import MOST_OUTPUTS
from gateway.engine.answer_notes import AnsweredBatch, AnsweredRun, AnswerNotes, Answers
from gateway.engine.arm_stats import ArmStats
from gateway.engine.batch import PendingRequest
from gateway.errors import ErrorCode
from gateway.judgements import ArmCounts
from gateway.messages import InferResponse, Instant, Nanos, RequestContext
from gateway.releases import CANDIDATE, STABLE, Arm, Evidence, PairCounts, RateCounts, Release, ReleaseKind, ReleasePlan

FAULTS = frozenset({
    ErrorCode.BACKEND_FAILED, ErrorCode.BACKEND_UNREACHABLE, ErrorCode.INTERNAL, ErrorCode.DEADLINE_EXCEEDED,
    ErrorCode.OVERLOADED, ErrorCode.MODEL_NOT_READY,
})  # fmt: skip
"""Failures that may be the version's fault; all others are the caller's own."""


class Collector:
    """Everything that was seen of one release."""

    def __init__(self, plan: ReleasePlan, found: Mapping[str, Any] | None = None) -> None:
        """`found` is what `document` gave in an earlier life."""
        found = found or {}
        criteria = plan.criteria
        self.plan = plan
        self.candidate = plan.arms[0].name
        self.failures = FailurePairing(
            _pairs(found, "errors"), RateCounts(*found.get("alone", (0, 0))), found.get("in_a_row", 0)
        )
        allowed = criteria.latency_increase or 0.0
        quantiles = criteria.latency_quantiles if criteria.latency_increase is not None else ()
        self.latency = {
            round(q * 10_000): LatencyPairing(
                block_length(q), allowed, _pairs(found.get("latency", {}), str(round(q * 10_000)))
            )
            for q in quantiles
        }
        self.comparable = Comparable()
        self.looks = AnswerEvidence(
            plan,
            FailurePairing(_pairs(found, "nans")),
            {name: ScoreBins(*saved) for name, saved in list(found.get("scores", {}).items())[:MOST_OUTPUTS]},
            OutcomeMatching(_pairs(found, "outcomes"), found.get("outcome_samples", 0)),
        )
        self.nans, self.scores, self.outcomes = self.looks.nans, self.looks.scores, self.looks.outcomes
        self.disagreement = Disagreement(found.get("disagreement"))
        self.arms: dict[str, ArmStats] = {}
        for arm in (*plan.arms, Arm(STABLE, plan.stable)):
            saved = found.get("arms", {}).get(arm.name, (0, 0, {}))
            self.arms[arm.name] = ArmStats(
                arm.version, saved[0], saved[1], {int(index): count for index, count in saved[2].items()}
            )
        self.step: int = found.get("step", 0)
        self.step_samples: int = found.get("step_samples", 0)
        self.candidate_samples: int = found.get("candidate_samples", 0)
        self.shadow_samples: int = found.get("shadow_samples", 0)
        self.shadow_drops: dict[str, int] = dict(found.get("shadow_drops", {}))
        self._notes = AnswerNotes()
        self.copies_only = self._gets_copies_only()
        self.changes = 0
        """Grows with everything that is counted."""
        self.alarm: Callable[[], None] = lambda: None
        """Called when the candidate has failed as often in a row as it may: that is not to wait for the next look."""

        self.copy: Callable[[Answers], None] = lambda answers: None
        """Called with what stable answered: copies of it may be run on the candidate."""
        self.copies_wanted: Callable[[], bool] = lambda: True
        """Whether there is room for copies; where there is none they are still offered, to be counted."""

    def at_step(self, release: Release) -> None:
        """Begins to count for the step that the release is on, if that is another one."""
        step = release.progress.step
        if step != self.step:
            self.look()
        self.comparable.equal = equal_shares(release)
        self.failures.solo = stable_share(release) == 0
        if step != self.step:
            self.step = step
            self.copies_only = self._gets_copies_only()
            self.step_samples = 0
            self.changes += 1
            self.failures.part()
            self.nans.part()
            for pairing in self.latency.values():
                pairing.part()
            for bins in self.scores.values():
                bins.part()

    @property
    def compares(self) -> bool:
        """Whether executions of the candidate and of stable may be compared in this step."""
        return not self.copies_only or self.plan.kind is ReleaseKind.AB

    def _gets_copies_only(self) -> bool:
        """Whether the candidate gets nothing but copies in this step."""
        return not self.plan.steps or self.plan.steps[min(self.step, len(self.plan.steps) - 1)].weight == 0

    # ------------------------------------------------------------------ the data plane

    def failed(self, arm: str, context: RequestContext, code: ErrorCode, finished_at: Instant) -> None:
        """A request that was routed to `arm` failed. Those that went well are told by `answered`."""
        if code not in FAULTS:
            return
        self.look()  # what went well before it comes first
        stats = self.arms.get(arm)
        if stats is None:
            return
        self.changes += 1
        stats.requests += 1
        stats.errors += 1
        self._sampled(arm, 1)
        if arm in (self.candidate, STABLE):
            self.failures.request(arm == self.candidate, True, finished_at)
        self._count_the_row()

    def _count_the_row(self) -> None:
        most = self.plan.criteria.consecutive_failures
        if most is not None and self.failures.in_a_row >= most:
            self.alarm()

    def executed(self, is_candidate: bool, rows: int, elapsed: Nanos, rest: Nanos, *, beside: bool) -> None:
        """One execution of a version in the release ended well; it had rested before for `rest`.

        `beside`: another version of the model ran on the same replica meanwhile.
        """
        if self.comparable.says(is_candidate, beside=beside):
            for pairing in self.latency.values():
                pairing.observe(is_candidate, rows, elapsed, rest, equal=self.comparable.equal)

    def answered(self, arm: str, answers: Answers, at: Instant) -> bool:
        """The version that is `arm` answered requests, in one batch; returns whether it is time to `look`.

        Only those count that the release's split sent there.
        """
        if self.copies_only and not self.copies_wanted():
            # Their number and times are all there is to them: nothing of them need be kept for a look.
            self._count([AnsweredBatch(arm, answers, at)])
            return False
        return self._notes.add(arm, answers, at) or self.failures.failing

    @property
    def full(self) -> bool:
        """Whether a look cannot wait any longer."""
        return self._notes.full or self.failures.failing

    def look(self) -> None:
        """Counts and looks at the answers that wait; one that cannot be looked at says nothing."""
        self.looks.paired = not self.copies_only
        self._count(self._notes.take())
        self.looks.look()

    def _count(self, batches: Sequence[AnsweredBatch]) -> None:
        release_id = self.plan.id
        run = AnsweredRun("", "")
        for batch in batches:
            # Whom a rule sent here is no fair sample of the callers.
            answers = [
                one
                for one in batch.answers
                if (decision := one[0].context.decision) is not None
                and decision.rule < 0
                and decision.release_id == release_id
            ]
            for arm, sent in groupby(answers, _sent_to):
                if arm != run.sent_to or batch.arm != run.answered_by:
                    self._went_well(run)
                    run = AnsweredRun(arm, batch.arm)
                run.add(list(sent), batch.at)
        self._went_well(run)

    def _went_well(self, run: AnsweredRun) -> None:
        """Requests of one arm were answered."""
        count, arm, stats = len(run.answers), run.sent_to, self.arms.get(run.sent_to)
        if stats is not None:
            self.changes += count
            stats.requests += count
            stats.latency.add_all(run.spans)
            self._sampled(arm, count)
            if arm == STABLE and not self.copies_only:
                self.failures.stable_went_well(run.ended)
                self._count_the_row()  # now it is known whose fault the candidate's failures were
            elif arm == self.candidate:
                for at in run.ended:
                    self.failures.request(True, False, at)
        if run.answered_by == STABLE:
            self.copy(run.answers)
        if run.answered_by in (STABLE, self.candidate):
            self.looks.take(run.answers, run.ended, is_candidate=run.answered_by == self.candidate)

    def _sampled(self, arm: str, count: int) -> None:
        if arm == self.candidate:
            self.candidate_samples += count
            if not self.copies_only:
                self.step_samples += count

    def knows(self, request_id: str) -> bool:
        """Whether an outcome of this request would be one of the release's."""
        self.look()
        return self.outcomes.knows(request_id)

    def outcome(self, outcome: Outcome) -> bool:
        """Takes what became known of a request; returns whether it was one of the release's."""
        self.look()
        self.changes += 1
        return self.outcomes.report(outcome)

    # ------------------------------------------------------------------ what follows

    def evidence(self) -> Evidence:
        """Returns the counts as a decision needs them."""
        self.look()
        return Evidence(
            errors=self.failures.counts,
            alone=self.failures.alone,
            nans=self.nans.counts,
            latency={quantile: pairing.counts for quantile, pairing in self.latency.items()},
            disagreement=RateCounts(self.disagreement.different, self.disagreement.requests),
            outcomes=self.outcomes.counts,
            scores={output: bins.counts for output, bins in self.scores.items() if len(bins.edges)},
            consecutive_failures=self.failures.in_a_row,
            recent=self.failures.recent,
            candidate_samples=self.candidate_samples,
            shadow_samples=self.shadow_samples,
            step_samples=self.step_samples,
            outcome_samples=self.outcomes.matched,
        )

    def arm_counts(self) -> tuple[ArmCounts, ...]:
        """Returns what each arm got and did, the candidate first."""
        return tuple(
            ArmCounts(
                name=name, version=stats.version, requests=stats.requests, errors=stats.errors,
                median=stats.latency.quantile(0.5), p99=stats.latency.quantile(0.99),
            )
            for name, stats in self.arms.items()
        )  # fmt: skip

    def document(self) -> dict[str, Any]:
        """Returns the counts as plain data."""
        self.look()
        return {
            "id": self.plan.id,
            "errors": _numbers(self.failures.counts),
            "alone": [self.failures.alone_bad, self.failures.alone_total],
            "in_a_row": self.failures.in_a_row,
            "nans": _numbers(self.nans.counts),
            "latency": {str(quantile): _numbers(pairing.counts) for quantile, pairing in self.latency.items()},
            "scores": {
                output: [bins.edges.tolist(), bins.stable.tolist(), bins.candidate.tolist()]
                for output, bins in self.scores.items()
                if len(bins.edges)
            },
            "outcomes": _numbers(self.outcomes.counts),
            "outcome_samples": self.outcomes.matched,
            "disagreement": self.disagreement.document(),
            "arms": {
                name: [stats.requests, stats.errors, {str(index): count for index, count in stats.latency.items()}]
                for name, stats in self.arms.items()
            },
            "step": self.step,
            "step_samples": self.step_samples,
            "candidate_samples": self.candidate_samples,
            "shadow_samples": self.shadow_samples,
            "shadow_drops": self.shadow_drops,
        }


def _sent_to(one: tuple[PendingRequest, InferResponse]) -> str:
    decision = one[0].context.decision
    return decision.arm if decision is not None else ""


def _pairs(found: Mapping[str, Any], name: str) -> PairCounts:
    return PairCounts(*found.get(name, (0, 0, 0, 0)))


def _numbers(counts: PairCounts) -> list[int]:
    return [counts.candidate_only, counts.stable_only, counts.both, counts.neither]


__all__ = ["CANDIDATE", "FAULTS", "STABLE", "ArmStats", "Collector"]
