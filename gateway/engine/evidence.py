"""Counts what a release shows: one collector for each release, fed by what happens on the data plane.

Caller mistakes and cancels count against nobody; what both arms share cancels in pairs (`core.pairing`). Invariants:
only requests that were routed by the release count, never those that name a version, never copies; counts only grow;
everything kept is bounded. `document` and the constructor's `found` carry the counts over a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.core.comparable import Comparable, equal_shares, stable_share
from gateway.core.disagreement import Disagreement
from gateway.core.log_histogram import LogHistogram
from gateway.core.outcome_matching import Outcome, OutcomeMatching
from gateway.core.pairing import FailurePairing, LatencyPairing, block_length
from gateway.core.score_bins import ScoreBins
from gateway.engine.answer_looks import MOST_OUTPUTS, look_at
from gateway.engine.batch import PendingRequest
from gateway.errors import ErrorCode
from gateway.judgements import ArmCounts
from gateway.messages import InferResponse, Instant, Nanos, RequestContext
from gateway.releases import CANDIDATE, STABLE, Arm, Evidence, PairCounts, RateCounts, Release, ReleasePlan

FAULTS = frozenset({
    ErrorCode.BACKEND_FAILED, ErrorCode.BACKEND_UNREACHABLE, ErrorCode.INTERNAL, ErrorCode.DEADLINE_EXCEEDED,
    ErrorCode.OVERLOADED, ErrorCode.MODEL_NOT_READY,
})  # fmt: skip
"""Failures that may be the version's fault; all others are the caller's own."""


class ArmStats:
    """One arm's requests, failures and latencies (from a request's last byte to its answer)."""

    __slots__ = ("errors", "latency", "requests", "version")

    def __init__(self, version: int, requests: int = 0, errors: int = 0, bins: Mapping[int, int] | None = None) -> None:
        self.version = version
        self.requests = requests
        self.errors = errors
        self.latency = LogHistogram(bins)


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
        self.nans = FailurePairing(_pairs(found, "nans"))
        allowed = criteria.latency_increase or 0.0
        quantiles = criteria.latency_quantiles if criteria.latency_increase is not None else ()
        self.latency = {
            round(q * 10_000): LatencyPairing(
                block_length(q), allowed, _pairs(found.get("latency", {}), str(round(q * 10_000)))
            )
            for q in quantiles
        }
        self.comparable = Comparable()
        self.scores: dict[str, ScoreBins] = {
            name: ScoreBins(*saved) for name, saved in list(found.get("scores", {}).items())[:MOST_OUTPUTS]
        }
        self.outcomes = OutcomeMatching(_pairs(found, "outcomes"), found.get("outcome_samples", 0))
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
        self.changes = 0
        """Grows with everything that is counted."""
        self.alarm: Callable[[], None] = lambda: None
        """Called when the candidate has failed as often in a row as it may: that is not to wait for the next look."""

    def at_step(self, release: Release) -> None:
        """Begins to count for the step that the release is on, if that is another one."""
        self.comparable.equal = equal_shares(release)
        self.failures.solo = stable_share(release) == 0
        if release.progress.step != self.step:
            self.step = release.progress.step
            self.step_samples = 0
            self.changes += 1
            self.failures.part()
            self.nans.part()
            for pairing in self.latency.values():
                pairing.part()
            for bins in self.scores.values():
                bins.part()

    @property
    def copies_only(self) -> bool:
        """Whether the candidate gets nothing but copies in this step."""
        return not self.plan.steps or self.plan.steps[min(self.step, len(self.plan.steps) - 1)].weight == 0

    # ------------------------------------------------------------------ the data plane

    def request(self, arm: str, context: RequestContext, code: ErrorCode | None, finished_at: Instant) -> None:
        """A request that was routed to `arm` ended; `code` None is success."""
        bad = code is not None
        if bad and code not in FAULTS:
            return
        stats = self.arms.get(arm)
        if stats is None:
            return
        self.changes += 1
        stats.requests += 1
        stats.errors += bad
        if not bad:
            stats.latency.add(finished_at - context.received_at)
        if arm == self.candidate:
            self.candidate_samples += 1
            if not self.copies_only:
                self.step_samples += 1
        elif arm != STABLE:
            return
        self.failures.request(arm == self.candidate, bad, finished_at)
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

    def answered(
        self, is_candidate: bool, answers: Sequence[tuple[PendingRequest, InferResponse]], at: Instant
    ) -> None:
        """Requests that the release had routed were answered, in one batch."""
        criteria = self.plan.criteria
        paired = not self.copies_only  # stable's alone would be compared with nothing
        looks = look_at(
            [answer for _, answer in answers],
            [member.checked.rows for member, _ in answers],
            nans=paired and criteria.nan_rate is not None,
            scores=paired and criteria.score_shift is not None,
            labels=criteria.outcome_loss is not None,
            label_output=self.plan.outputs[0].output if self.plan.outputs else "",
        )
        if looks.nans is not None:
            for bad in looks.nans:
                self.nans.request(is_candidate, bad, at)
        for output, values in looks.scores.items():
            bins = self.scores.get(output)
            if bins is None:
                if len(self.scores) >= MOST_OUTPUTS:
                    continue
                bins = self.scores[output] = ScoreBins()
            bins.add(values, is_candidate=is_candidate)
        if criteria.outcome_loss is not None:
            for (member, _), label in zip(answers, looks.labels, strict=True):
                self.outcomes.answered(member.context.request_id, is_candidate=is_candidate, label=label)

    def knows(self, request_id: str) -> bool:
        """Whether an outcome of this request would be one of the release's."""
        return self.outcomes.knows(request_id)

    def outcome(self, outcome: Outcome) -> bool:
        """Takes what became known of a request; returns whether it was one of the release's."""
        self.changes += 1
        return self.outcomes.report(outcome)

    # ------------------------------------------------------------------ what follows

    def evidence(self) -> Evidence:
        """Returns the counts as a decision needs them."""
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


def _pairs(found: Mapping[str, Any], name: str) -> PairCounts:
    return PairCounts(*found.get(name, (0, 0, 0, 0)))


def _numbers(counts: PairCounts) -> list[int]:
    return [counts.candidate_only, counts.stable_only, counts.both, counts.neither]


__all__ = ["CANDIDATE", "FAULTS", "STABLE", "ArmStats", "Collector"]
