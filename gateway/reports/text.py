"""A release as text for a terminal: state, criterion table, arms, decisions. Pure; plain characters, no escapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.commands.table import table
from gateway.judgements import CriterionResult, EvidenceBundle
from gateway.releases import Release, ReleaseStatus
from gateway.reports import words

_WIDTH = 12
_MOST_WORST = 5


def status_text(release: Release, live: EvidenceBundle | None, now: int) -> str:
    """Returns how a release stands; `live` is what a gateway has seen, None if none answered."""
    plan, state = release.plan, release.progress
    lines = [words.headline(release)]
    if plan.steps and state.status in (ReleaseStatus.RUNNING, ReleaseStatus.PAUSED):
        lines.append(_ladder(release))
        left = plan.steps[state.step].max_time - (now - state.step_started_at)
        waits = f"{words.span(left)} left" if left > 0 else "its time is over"
        lines.append(f"this step: since {words.span(now - state.step_started_at)}, {waits}")
    if state.detail:
        lines.append(f"last decision: {state.detail}")
    if live is None:
        lines.append("no gateway was asked: this is what the registry says")
        return "\n".join(lines)
    lines += [f"now: {live.decision.detail}", "", criteria_text(live.decision.criteria)]
    if live.arms:
        lines += ["", arms_text(live)]
    if live.worst:
        lines += ["", "worst disagreements (request ids): " + ", ".join(_id(item) for item in live.worst[:_MOST_WORST])]
    return "\n".join(lines)


def report_text(release: Release, bundles: Sequence[EvidenceBundle]) -> str:
    """Returns the whole story of a release."""
    plan = release.plan
    lines = [
        words.headline(release),
        f"started {words.instant(plan.created_at)} by {plan.actor}" + (f": {plan.reason}" if plan.reason else ""),
        "",
        "decisions:",
    ]
    for bundle in bundles:
        who = bundle.actor or bundle.gateway or "gateway"
        what = f"{words.instant(bundle.at)}  {bundle.decision.kind.value:<12} {_step(bundle):<8}"
        lines.append(f"  {what} {bundle.decision.detail}  ({who})")
    judged = next((bundle for bundle in reversed(bundles) if bundle.decision.criteria), None)
    if judged is not None:
        lines += ["", f"evidence at {words.instant(judged.at)} ({judged.decision.kind.value}):"]
        lines += [criteria_text(judged.decision.criteria)]
        if judged.arms:
            lines += ["", arms_text(judged)]
        if judged.worst:
            lines += ["", "worst disagreements (request ids): " + ", ".join(map(_id, judged.worst))]
    digests = next((bundle.digests for bundle in reversed(bundles) if bundle.digests), {})
    lines += ["", "versions (sha256 of the manifest):"]
    lines += [f"  {plan.model_name}/{number}  {digest}" for number, digest in sorted(digests.items())]
    return "\n".join(lines)


def criteria_text(criteria: Sequence[CriterionResult]) -> str:
    """Returns the criterion table."""
    head = (
        "criterion",
        "verdict",
        "evidence",
        "samples",
        "candidate",
        "stable",
        "seen [interval]",
        "tolerated",
        "size",
    )
    rows = [
        (
            line.name + ("" if line.blocks else " *"),
            words.VERDICTS[line.verdict],
            _bar(words.progress(line)),
            f"{line.samples:,}",
            f"{line.candidate_bad:,}",
            f"{line.stable_bad:,}",
            words.estimate(line),
            words.limit(line, line.tolerated),
            words.limit(line, line.limit),
        )
        for line in criteria
    ]
    if not rows:
        return "nothing is judged"
    shown = table(head, rows)
    return shown if all(line.blocks for line in criteria) else f"{shown}\n* the step does not wait for it"


def arms_text(bundle: EvidenceBundle) -> str:
    """Returns what each arm got and did."""
    head = ("arm", "version", "requests", "errors", "median", "p99")
    rows = [
        (arm.name, str(arm.version), f"{arm.requests:,}", f"{arm.errors:,}", _time(arm.median), _time(arm.p99))
        for arm in bundle.arms
    ]
    return table(head, rows)


def _ladder(release: Release) -> str:
    parts = []
    for index, step in enumerate(release.plan.steps):
        name = words.weight(step.weight) if step.weight else "shadow"
        mark = "done" if index < release.progress.step else "now" if index == release.progress.step else ""
        approval = ", approval" if step.approval else ""
        parts.append(f"[{name}{': ' + mark if mark else ''}{approval}]")
    return " -> ".join(parts)


def _bar(share: float) -> str:
    filled = int(share * _WIDTH)
    return "#" * filled + "." * (_WIDTH - filled)


def _step(bundle: EvidenceBundle) -> str:
    plan, state = bundle.release.plan, bundle.decision.to or bundle.release.progress
    if not plan.steps:
        return "-"
    basis_points = plan.steps[state.step].weight
    return words.weight(basis_points) if basis_points else "shadow"


def _time(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.2f} ms" if nanoseconds else "-"


def _id(item: Any) -> str:
    return _printable(str(item.get("request_id", "?")))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
