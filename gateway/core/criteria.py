"""The criterion table of a release: for every enabled criterion, what its counts prove.

Each criterion is tested in both directions. Against "the candidate is no worse than tolerated": all criteria together
reach their bounds with probability at most `alpha` if it holds (each gets an equal part). Against "it is worse by the
stated size": reached with probability at most 1 - `power` if that holds. Both hold at whatever time one looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from gateway.core import sequential
from gateway.judgements import CriterionResult, Verdict
from gateway.releases import Criteria, Evidence, PairCounts, RateCounts

ERRORS, ALONE, NANS, DISAGREEMENT, SCORES, OUTCOMES = (
    "errors",
    "errors alone",
    "nan",
    "disagreement",
    "scores",
    "outcomes",
)


def criterion_table(criteria: Criteria, evidence: Evidence, *, intervals: bool = True) -> tuple[CriterionResult, ...]:
    """Returns a line for every enabled criterion; without `intervals` only what a decision needs."""
    bounds = _Bounds(criteria, intervals)
    return tuple(_lines(criteria, evidence, bounds))


def tests(criteria: Criteria) -> int:
    """Returns among how many tests `alpha` is divided: of the plan, not of what happened."""
    enabled = (criteria.nan_rate, criteria.disagreement_rate, criteria.score_shift, criteria.outcome_loss)
    count = sum(limit is not None for limit in enabled) + 2 * (criteria.error_rate is not None)
    return max(1, count + (len(criteria.latency_quantiles) if criteria.latency_increase is not None else 0))


def samples_to_see(rate: float, power: float) -> int:
    """Returns how many requests show a fault of `rate` at least once with probability `power`."""
    return math.ceil(math.log(1.0 - power) / math.log1p(-rate)) if rate < 1.0 else 1


def latency_name(quantile: float) -> str:
    return f"latency p{quantile * 100:g}"


class _Bounds:
    """What an e-value has to reach, and at which level intervals are given."""

    def __init__(self, criteria: Criteria, intervals: bool) -> None:
        self.level = criteria.alpha / tests(criteria)
        self.fail_at = -math.log(self.level)
        self.enough_at = -math.log(1.0 - criteria.power)
        self.tolerance = criteria.tolerance
        self.intervals = intervals

    def verdict(self, samples: int, against: float, favour: float, fail_at: float) -> Verdict:
        if not samples:
            return Verdict.NO_DATA
        if against >= fail_at:
            return Verdict.FAILED
        return Verdict.ENOUGH if favour >= self.enough_at else Verdict.OPEN


def _lines(criteria: Criteria, evidence: Evidence, bounds: _Bounds) -> Iterator[CriterionResult]:
    if criteria.error_rate is not None:
        yield _difference(ERRORS, evidence.errors, criteria.error_rate, bounds)
        if evidence.alone.total:
            yield _alone(evidence, criteria.error_rate, bounds)
    if criteria.nan_rate is not None:
        yield _difference(NANS, evidence.nans, criteria.nan_rate, bounds)
    if criteria.latency_increase is not None:
        for quantile in criteria.latency_quantiles:
            pairs = evidence.latency.get(round(quantile * 10_000), PairCounts())
            yield _slower(latency_name(quantile), pairs, bounds)
    if criteria.disagreement_rate is not None:
        yield _rate(DISAGREEMENT, evidence.disagreement, criteria.disagreement_rate, bounds)
    if criteria.score_shift is not None:
        yield _shift(evidence, criteria.score_shift, bounds)
    if criteria.outcome_loss is not None:
        yield _difference(OUTCOMES, evidence.outcomes, criteria.outcome_loss, bounds)


def _difference(name: str, pairs: PairCounts, size: float, bounds: _Bounds) -> CriterionResult:
    """How much more often the candidate was bad than its partner."""
    one, other, total = pairs.candidate_only, pairs.stable_only, pairs.total
    tolerated = size * bounds.tolerance
    against = sequential.log_below(other, one, total, -tolerated)
    favour = sequential.log_below(one, other, total, size)
    low, high = sequential.difference_interval(one, other, total, bounds.level) if bounds.intervals else (None, None)
    return CriterionResult(
        name=name, verdict=bounds.verdict(total, against, favour, bounds.fail_at), samples=total, candidate_bad=one,
        stable_bad=other, log_against=against, fail_at=bounds.fail_at, log_for=favour, enough_at=bounds.enough_at,
        estimate=(one - other) / total if total else None, low=low, high=high, limit=size, tolerated=tolerated,
    )  # fmt: skip


def _slower(name: str, pairs: PairCounts, bounds: _Bounds) -> CriterionResult:
    """How often the candidate was the slower one although its time was divided by what is allowed."""
    one, other = pairs.candidate_only, pairs.stable_only
    total = one + other
    against, favour = sequential.log_sign(one, other), sequential.log_sign(other, one)
    low, high = sequential.rate_interval(one, total, bounds.level) if bounds.intervals else (None, None)
    return CriterionResult(
        name=name, verdict=bounds.verdict(total, against, favour, bounds.fail_at), samples=total, candidate_bad=one,
        stable_bad=other, log_against=against, fail_at=bounds.fail_at, log_for=favour, enough_at=bounds.enough_at,
        estimate=one / total if total else None, low=low, high=high, limit=0.5,
        tolerated=0.5,
    )  # fmt: skip


def _rate(
    name: str, counts: RateCounts, limit: float, bounds: _Bounds, fail_at: float | None = None
) -> CriterionResult:
    fail_at = bounds.fail_at if fail_at is None else fail_at
    against = sequential.log_above(counts.bad, counts.total, limit)
    favour = sequential.log_under(counts.bad, counts.total, limit)
    low, high = sequential.rate_interval(counts.bad, counts.total, bounds.level) if bounds.intervals else (None, None)
    return CriterionResult(
        name=name, verdict=bounds.verdict(counts.total, against, favour, fail_at), samples=counts.total,
        candidate_bad=counts.bad, log_against=against, fail_at=fail_at, log_for=favour,
        enough_at=bounds.enough_at, estimate=counts.bad / counts.total if counts.total else None, low=low, high=high,
        limit=limit, tolerated=limit,
    )  # fmt: skip


def _alone(evidence: Evidence, size: float, bounds: _Bounds) -> CriterionResult:
    """Requests without a partner are held to what stable failed at most before, plus the stated size.

    What stable failed at most is wrong with half of this test's part of `alpha`; the other half is left for the rest.
    """
    pairs = evidence.errors
    stable_bad = pairs.stable_only + pairs.both
    past = sequential.rate_interval(stable_bad, pairs.total, bounds.level)[1] if pairs.total else 0.0
    return _rate(ALONE, evidence.alone, min(0.99, past + size), bounds, bounds.fail_at + math.log(2.0))


def _shift(evidence: Evidence, limit: float, bounds: _Bounds) -> CriterionResult:
    """The output whose scores moved most: lower and upper bounds of the distance of the two distributions."""
    found = []
    shared = math.log(max(1, len(evidence.scores)))
    for stable, other in evidence.scores.values():
        seen = sequential.distance(stable, other)
        counts = sum(stable), sum(other)
        against = sequential.log_distance(seen - limit, *counts) - shared
        favour = sequential.log_distance(limit - seen, *counts)
        found.append((against, favour, seen, counts))
    if not found or not all(min(counts) for *_, counts in found):
        return CriterionResult(name=SCORES, verdict=Verdict.NO_DATA, samples=0, limit=limit, tolerated=limit,
                               fail_at=bounds.fail_at, enough_at=bounds.enough_at)  # fmt: skip
    against, favour = max(0.0, max(item[0] for item in found)), min(item[1] for item in found)
    seen, counts = max(((item[2], item[3]) for item in found), key=lambda item: item[0])
    level = bounds.fail_at + shared + math.log(2.0)
    radius = sequential.distance_radius(counts[0], level) + sequential.distance_radius(counts[1], level)
    return CriterionResult(
        name=SCORES, verdict=bounds.verdict(min(counts), against, favour, bounds.fail_at), samples=min(counts),
        log_against=against, fail_at=bounds.fail_at, log_for=favour, enough_at=bounds.enough_at, estimate=seen,
        low=max(0.0, seen - radius), high=min(1.0, seen + radius), limit=limit,
        tolerated=limit,
    )  # fmt: skip
