"""Shows the releases to Prometheus: what the arms got, what speaks for and against, step and weight. At a scrape only.

Labels are bounded: one release a model at a time, a few arms each. Arms count what the split sent them; whom a rule
sent, and who named a version, is not in here.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.judgements import EvidenceBundle
from gateway.releases import ReleaseKind, ReleaseStatus
from gateway.telemetry.prometheus_text import MetricsText, label_text

_SECOND = 1e9


def release_metrics(text: MetricsText, bundles: Iterable[EvidenceBundle]) -> None:
    """Adds the series of every release."""
    table = [
        (label_text(model=bundle.release.plan.model_name, release=bundle.release.plan.id), bundle) for bundle in bundles
    ]
    if not table:
        return
    arms = [
        (f"{labels},{label_text(arm=arm.name, version=str(arm.version))}", arm)
        for labels, bundle in table
        for arm in bundle.arms
    ]
    text.family("sluice_release_requests_total", "counter", "Requests of each arm by outcome, without callers' faults.")
    for labels, arm in arms:
        text.value(f'{labels},outcome="ok"', arm.requests - arm.errors)
        text.value(f'{labels},outcome="failed"', arm.errors)
    text.family("sluice_release_latency_seconds", "gauge", "Latency of an arm's successful requests, by quantile.")
    for labels, arm in arms:
        text.value(f'{labels},quantile="0.5"', arm.median / _SECOND)
        text.value(f'{labels},quantile="0.99"', arm.p99 / _SECOND)
    text.family("sluice_release_compared_total", "counter", "Requests that both answered, by whether they agree.")
    for labels, bundle in table:
        counts = bundle.evidence.disagreement
        text.value(f'{labels},agree="true"', counts.total - counts.bad)
        text.value(f'{labels},agree="false"', counts.bad)
    text.family("sluice_release_copies_total", "counter", "Copies of stable's requests that the candidate was given.")
    for labels, bundle in table:
        text.value(labels, int(bundle.configuration.get("copies", 0)))
    text.family("sluice_release_copies_dropped_total", "counter", "Copies that were not run, by reason.")
    for labels, bundle in table:
        for reason, count in sorted(bundle.configuration.get("copies_dropped", {}).items()):
            text.value(f"{labels},{label_text(reason=reason)}", count)
    _progress(text, table)


def _progress(text: MetricsText, table: list[tuple[str, EvidenceBundle]]) -> None:
    text.family("sluice_release_step", "gauge", "The step that a release is on, from 0.")
    for labels, bundle in table:
        text.value(labels, bundle.release.progress.step)
    text.family("sluice_release_weight", "gauge", "The share of the traffic that an arm should have, 0 to 1.")
    for labels, bundle in table:
        for name, weight in _weights(bundle):
            text.value(f"{labels},{label_text(arm=name)}", weight / 10_000)
    text.family("sluice_release_status", "gauge", "1 for the status that a release has.")
    for labels, bundle in table:
        text.value(f"{labels},{label_text(status=bundle.release.progress.status.value)}", 1)
    text.family("sluice_release_decision", "gauge", "1 for what the evidence says now.")
    for labels, bundle in table:
        text.value(f"{labels},{label_text(decision=bundle.decision.kind.value)}", 1)
    text.family("sluice_release_decisions_total", "counter", "Decisions that changed a release.")
    for labels, bundle in table:
        text.value(labels, bundle.release.progress.decision)


def _weights(bundle: EvidenceBundle) -> list[tuple[str, int]]:
    plan, progress = bundle.release.plan, bundle.release.progress
    if progress.status is ReleaseStatus.PROMOTED:
        return [(plan.arms[0].name, 10_000)]
    if plan.kind is ReleaseKind.AB:
        return [(arm.name, arm.weight) for arm in plan.arms]
    routed = progress.status in (ReleaseStatus.RUNNING, ReleaseStatus.PAUSED) and plan.kind is ReleaseKind.CANARY
    weight = plan.steps[min(progress.step, len(plan.steps) - 1)].weight if routed and plan.steps else 0
    return [(plan.arms[0].name, weight)]
