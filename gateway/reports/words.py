"""How releases are said in words and figures: weights, spans, verdicts, estimates. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.judgements import CriterionResult, Verdict
from gateway.releases import Release, ReleaseKind, ReleaseStatus

_EXPLAINED = {
    "errors": "how much more often the candidate failed than its partner",
    "errors alone": "failures at 100 %, without a partner",
    "nan": "how much more often the candidate answered NaN or infinity",
    "disagreement": "answers to copies that differ from stable's",
    "scores": "how far the distribution of the outputs moved (Kolmogorov-Smirnov distance)",
    "outcomes": "how much more often the truth spoke against the candidate",
}
VERDICTS = {
    Verdict.FAILED: "failed",
    Verdict.ENOUGH: "holds",
    Verdict.OPEN: "open",
    Verdict.NO_DATA: "no data",
}


def explained(line: CriterionResult) -> str:
    """Returns what the criterion measures."""
    slower = "how often the candidate was slower than allowed, in comparable batches"
    return _EXPLAINED.get(line.name, slower)


def weight(basis_points: int) -> str:
    return f"{basis_points / 100:g} %"


def span(nanoseconds: int) -> str:
    """Returns a span as people say it: "350 ms", "12 s", "3 min", "2 h", "5 d"."""
    seconds = nanoseconds / 1e9
    for limit, unit, size in ((1, "ms", 1e-3), (120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if abs(seconds) < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def instant(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def estimate(line: CriterionResult) -> str:
    """Returns what was seen, with the interval that holds at every look."""
    if line.estimate is None:
        return "-"
    if line.low is None or line.high is None:
        return percent(line, line.estimate)
    return f"{percent(line, line.estimate)} [{percent(line, line.low)}, {percent(line, line.high)}]"


def limit(line: CriterionResult, value: float | None) -> str:
    return "-" if value is None else percent(line, value)


def percent(line: CriterionResult, value: float) -> str:
    """Returns a value in the criterion's own unit."""
    if line.name == "scores":
        return f"{value:.3f}"
    if abs(value) < 5e-5:
        value = 0.0  # never "-0.00"
    signed = line.name in ("errors", "nan", "outcomes")
    shown = f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"
    return f"{shown} pp" if signed else f"{shown} %"


def progress(line: CriterionResult) -> float:
    """Returns how far the evidence for the candidate has come, 0 to 1."""
    return max(0.0, min(1.0, line.log_for / line.enough_at)) if line.samples and line.enough_at > 0 else 0.0


def headline(release: Release) -> str:
    """Returns what is tried against what, and how far it has come, in one line."""
    plan, state = release.plan, release.progress
    arms = ", ".join(
        f"{arm.name} {plan.model_name}/{arm.version}"
        + (f" at {weight(arm.weight)}" if plan.kind is ReleaseKind.AB else "")
        for arm in plan.arms
    )
    where = ""
    if plan.steps and state.status in (ReleaseStatus.RUNNING, ReleaseStatus.PAUSED):
        step = plan.steps[state.step]
        shown = f"at {weight(step.weight)}" if step.weight else "on copies only"
        where = f", step {state.step + 1} of {len(plan.steps)} ({shown})"
    status = state.status.value.replace("_", " ")
    return f"{plan.id}: {arms} against stable {plan.model_name}/{plan.stable}; {status}{where}"
