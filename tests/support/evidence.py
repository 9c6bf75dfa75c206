"""Evidence bundles built for tests."""

from __future__ import annotations

from typing import Any

from gateway.core.rollout import decide
from gateway.judgements import ArmCounts, EvidenceBundle
from gateway.releases import Evidence, PairCounts, RateCounts, Release

GOOD = Evidence(
    errors=PairCounts(2, 2, 0, 3000),
    nans=PairCounts(0, 0, 0, 3000),
    latency={5000: PairCounts(200, 800), 9000: PairCounts(100, 300)},
    disagreement=RateCounts(1, 3000),
    scores={"y": ((900,) * 5, (880, 905, 900, 910, 905))},
    outcomes=PairCounts(30, 40, 10, 9000),
    recent=(RateCounts(0, 50), RateCounts(1, 50)),
    candidate_samples=3000,
    shadow_samples=3000,
    step_samples=3000,
    outcome_samples=9080,
)


def bundle_of(release: Release, evidence: Evidence = GOOD, at: int = 2_000_000_000, **more: Any) -> EvidenceBundle:
    """Returns the bundle that a gateway writes about what it decides on `evidence`."""
    given: dict[str, Any] = {
        "gateway": "gw-1",
        "arms": (
            ArmCounts(name="candidate", version=2, requests=3000, errors=2, median=2_100_000, p99=9_000_000),
            ArmCounts(name="stable", version=1, requests=90_000, errors=61, median=2_000_000, p99=9_500_000),
        ),
        "digests": {1: "a" * 64, 2: "b" * 64},
        "disagreements": {"y": {"flips": 0.001, "max_absolute": 0.25}},
        "worst": ({"request_id": "req-<7>", "output": "y", "max_absolute": 0.25},),
        "configuration": {"window": 50},
    }
    return EvidenceBundle(release=release, decision=decide(release, evidence, at), evidence=evidence, at=at,
                          **(given | more))  # fmt: skip
