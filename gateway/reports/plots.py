# ruff: noqa: E501 (markup in strings)
"""The plots of a release report, as SVG: weight over time, evidence over decisions, intervals, arms. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from gateway.judgements import ArmCounts, CriterionResult, EvidenceBundle, Verdict
from gateway.reports import words

_COLOURS = {Verdict.FAILED: "bad", Verdict.ENOUGH: "good", Verdict.OPEN: "doubt", Verdict.NO_DATA: "old"}


def weights_plot(bundles: Sequence[EvidenceBundle]) -> str:
    """The candidate's share over time, as steps; every decision is a dot."""
    if len(bundles) < 2:
        return ""
    first, last = bundles[0].at, max(bundles[-1].at, bundles[0].at + 1)
    left, wide, top, high = 60.0, 740.0, 16.0, 170.0

    def x(at: int) -> float:
        return left + (at - first) / (last - first) * wide

    def y(basis_points: int) -> float:
        return top + high - math.sqrt(basis_points / 10_000) * high  # small shares matter: a root scale

    parts = [
        f"<line x1='{left}' x2='{left + wide}' y1='{y(value):.1f}' y2='{y(value):.1f}' stroke='var(--line)'/>"
        f"<text class=soft x='{left - 8}' y='{y(value) + 4:.1f}' text-anchor='end'>{value // 100} %</text>"
        for value in (0, 100, 500, 2500, 5000, 10_000)
    ]
    shares = [share_after(bundle) for bundle in bundles]
    path = f"M{x(bundles[0].at):.1f} {y(shares[0]):.1f}"
    for before, bundle, share in zip(shares, bundles[1:], shares[1:], strict=False):
        path += f" L{x(bundle.at):.1f} {y(before):.1f} L{x(bundle.at):.1f} {y(share):.1f}"
    parts.append(f"<path d='{path}' fill='none' stroke='var(--new)' stroke-width='2.5'/>")
    for bundle, share in zip(bundles, shares, strict=True):
        colour = {"rollback": "bad", "pause": "doubt", "inconclusive": "doubt"}.get(bundle.decision.kind.value, "new")
        what = f"{words.instant(bundle.at)}: {bundle.decision.kind.value}, {bundle.decision.detail}"
        parts.append(
            f"<circle cx='{x(bundle.at):.1f}' cy='{y(share):.1f}' r='5' fill='var(--{colour})'><title>{escape(what)}</title></circle>"
        )
    parts.append(f"<text class=soft x='{left}' y='{top + high + 22}'>{words.instant(first)}</text>")
    parts.append(
        f"<text class=soft x='{left + wide}' y='{top + high + 22}' text-anchor='end'>{words.span(last - first)} later</text>"
    )
    return f"<svg viewBox='0 0 820 {top + high + 34:.0f}' role=img aria-label='Share of the candidate over time'>{''.join(parts)}</svg>"


def evidence_plot(bundles: Sequence[EvidenceBundle]) -> str:
    """Each criterion's evidence at each decision: against the candidate (1 rolls back) and for it (1 is enough)."""
    judged = [bundle for bundle in bundles if bundle.decision.criteria]
    names = list(dict.fromkeys(line.name for bundle in judged for line in bundle.decision.criteria if line.samples))
    if not names:
        return ""
    left, wide, row = 150.0, 300.0, 64.0
    parts = [
        "<text class=soft x='150' y='12'>for the candidate (1 = enough)</text>",
        "<text class=soft x='500' y='12'>against it (1 = roll back)</text>",
    ]
    for index, name in enumerate(names):
        top = 22 + index * row
        lines = [next((li for li in b.decision.criteria if li.name == name), None) for b in judged]
        parts.append(f"<text x='0' y='{top + 28:.0f}'>{escape(name)}</text>")
        for offset, key in ((left, "for"), (left + 350, "against")):
            values = [_ratio(line, key) for line in lines]
            parts.append(_curve(values, offset, top, wide, row - 16, "good" if key == "for" else "bad"))
    height = 26 + len(names) * row
    return f"<svg viewBox='0 0 820 {height:.0f}' role=img aria-label='Evidence at each decision'>{''.join(parts)}</svg>"


def intervals_plot(criteria: Sequence[CriterionResult]) -> str:
    """What was seen with its interval, scaled so that every criterion's stated size lies on the same line."""
    rows = [line for line in criteria if line.estimate is not None and line.limit]
    if not rows:
        return ""
    zero, unit = 330.0, 150.0
    parts = []
    for index, line in enumerate(rows):
        y = 28 + index * 44
        assert line.estimate is not None
        assert line.limit is not None
        low, mid, high = (
            zero + max(-1.1, min(2.2, (value if value is not None else line.estimate) / line.limit)) * unit
            for value in (line.low, line.estimate, line.high)
        )
        colour = _COLOURS[line.verdict]
        parts.append(
            f"<text x='0' y='{y + 4}'>{escape(line.name)}</text>"
            f"<line x1='{low:.1f}' x2='{high:.1f}' y1='{y}' y2='{y}' stroke='var(--{colour})' stroke-width='3'/>"
            f"<circle cx='{mid:.1f}' cy='{y}' r='5' fill='var(--{colour})'/>"
            f"<text class=soft x='0' y='{y + 19}'>{escape(words.estimate(line))}</text>"
        )
    height = 40 + len(rows) * 44
    axis = (
        f"<line x1='{zero}' x2='{zero}' y1='10' y2='{height - 22}' stroke='var(--line)'/>"
        f"<text class=soft x='{zero}' y='{height - 6}' text-anchor='middle'>none</text>"
        f"<line x1='{zero + unit}' x2='{zero + unit}' y1='10' y2='{height - 22}' stroke='var(--bad)' stroke-dasharray='4 3'/>"
        f"<text class=soft x='{zero + unit}' y='{height - 6}' text-anchor='middle'>size</text>"
    )
    return f"<svg viewBox='0 0 700 {height}' role=img aria-label='What was seen, with intervals'>{axis}{''.join(parts)}</svg>"


def arms_plot(arms: Sequence[ArmCounts]) -> str:
    """Median and 99th percentile of each arm, and the share of its requests that failed."""
    most = max((arm.p99 for arm in arms), default=0)
    if not most:
        return ""
    parts, y = [], 6.0
    for arm in arms:
        failed = f"{arm.errors / arm.requests:.2%} failed" if arm.requests else "no requests"
        parts.append(f"<text x='0' y='{y + 12:.0f}'>{escape(arm.name)} (version {arm.version})</text>")
        parts.append(f"<text class=soft x='0' y='{y + 30:.0f}'>{arm.requests:,} requests, {failed}</text>")
        for offset, value, colour, name in ((0, arm.median, "new", "median"), (18, arm.p99, "old", "p99")):
            length = value / most * 360
            parts.append(
                f"<rect x='250' y='{y + offset:.1f}' width='{max(length, 1):.1f}' height='14' rx='2' fill='var(--{colour})'/>"
                f"<text x='{258 + length:.1f}' y='{y + offset + 12:.1f}'>{name} {value / 1e6:.2f} ms</text>"
            )
        y += 48
    return f"<svg viewBox='0 0 780 {y:.0f}' role=img aria-label='Latency of each arm'>{''.join(parts)}</svg>"


def share_after(bundle: EvidenceBundle) -> int:
    """Returns the candidate's share (basis points) once the decision was taken."""
    plan, state = bundle.release.plan, bundle.decision.to or bundle.release.progress
    if state.status.value == "promoted":
        return 10_000
    if state.status.value in ("rolled_back", "queued"):
        return 0
    if state.status.value == "ended":
        return 10_000 if bundle.release.progress.status.value == "promoted" else 0
    return plan.steps[state.step].weight if plan.steps else sum(arm.weight for arm in plan.arms)


def _ratio(line: CriterionResult | None, key: str) -> float | None:
    if line is None or not line.samples:
        return None
    value, bound = (line.log_for, line.enough_at) if key == "for" else (line.log_against, line.fail_at)
    return max(-0.2, min(1.5, value / bound)) if bound else None


def _curve(values: Sequence[float | None], left: float, top: float, wide: float, high: float, colour: str) -> str:
    def y(value: float) -> float:
        return top + high - (value + 0.2) / 1.7 * high

    gap = wide / max(1, len(values) - 1)
    points = [(left + index * gap, y(value)) for index, value in enumerate(values) if value is not None]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return (
        f"<line x1='{left}' x2='{left + wide}' y1='{y(1):.1f}' y2='{y(1):.1f}' stroke='var(--{colour})' stroke-dasharray='4 3'/>"
        f"<line x1='{left}' x2='{left + wide}' y1='{y(0):.1f}' y2='{y(0):.1f}' stroke='var(--line)'/>"
        f"<polyline points='{line}' fill='none' stroke='var(--new)' stroke-width='2'/>"
        + "".join(f"<circle cx='{a:.1f}' cy='{b:.1f}' r='3.5' fill='var(--new)'/>" for a, b in points)
    )
