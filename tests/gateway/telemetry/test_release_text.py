"""Releases on /metrics: arms, comparisons, step and weight."""

from __future__ import annotations

from gateway.releases import Arm, ReleaseKind
from gateway.telemetry.prometheus_text import MetricsText
from gateway.telemetry.release_text import release_metrics
from tests.support.evidence import bundle_of
from tests.support.releases import plan, running


def shown(*bundles: object) -> dict[str, float]:
    text = MetricsText()
    release_metrics(text, bundles)  # type: ignore[arg-type]
    lines = [line.rpartition(" ") for line in text.render().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_without_a_release_there_is_nothing() -> None:
    assert shown() == {}


def test_arms_comparisons_and_progress() -> None:
    bundle = bundle_of(running(plan(), 2), configuration={"copies": 7, "copies_dropped": {"no_room": 3}})
    found = shown(bundle)
    arm = 'model="m",release="r1",arm="candidate",version="2"'
    assert found[f'sluice_release_requests_total{{{arm},outcome="ok"}}'] == 2998
    assert found[f'sluice_release_requests_total{{{arm},outcome="failed"}}'] == 2
    assert found[f'sluice_release_latency_seconds{{{arm},quantile="0.99"}}'] == 0.009
    own = 'model="m",release="r1"'
    assert found[f'sluice_release_compared_total{{{own},agree="false"}}'] == 1
    assert found[f"sluice_release_copies_total{{{own}}}"] == 7
    assert found[f'sluice_release_copies_dropped_total{{{own},reason="no_room"}}'] == 3
    assert found[f"sluice_release_step{{{own}}}"] == 2
    assert found[f'sluice_release_weight{{{own},arm="candidate"}}'] == 0.05
    assert found[f'sluice_release_status{{{own},status="running"}}'] == 1


def test_fixed_shares_of_an_ab_release() -> None:
    arms = (Arm("b", 2, 3_000), Arm("c", 3, 2_000))
    found = shown(bundle_of(running(plan(kind=ReleaseKind.AB, arms=arms, judged=False))))
    assert found['sluice_release_weight{model="m",release="r1",arm="c"}'] == 0.2
