"""Evidence bundles as JSON: the record of one decision about a release, complete enough to decide it again.

Invariant: what was rendered parses to the same value again; numbers are written as they are, infinity as null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from gateway.judgements import ArmCounts, CriterionResult, Decision, DecisionKind, EvidenceBundle, Verdict
from gateway.registry.document import DocumentError, Reader, parse_object
from gateway.registry.release_document import read_progress, read_release, render_progress, render_release
from gateway.releases import Evidence, PairCounts, RateCounts

NAME = "evidence bundle"
FORM = 1
_COUNTS = ("consecutive_failures", "candidate_samples", "shadow_samples", "step_samples", "outcome_samples")


def render_bundle(bundle: EvidenceBundle) -> bytes:
    """Returns the bundle's file."""
    decision = bundle.decision
    document = {
        "form": FORM,
        "decision": {"kind": decision.kind.value, "detail": decision.detail,
                     "to": render_progress(decision.to) if decision.to is not None else None},
        "at_ns": bundle.at,
        "actor": bundle.actor,
        "gateway": bundle.gateway,
        "criteria": [render_criterion(result) for result in decision.criteria],
        "evidence": render_evidence(bundle.evidence),
        "arms": [asdict(arm) for arm in bundle.arms],
        "digests": {str(number): digest for number, digest in sorted(bundle.digests.items())},
        "disagreements": dict(bundle.disagreements),
        "worst": [dict(item) for item in bundle.worst],
        "configuration": dict(bundle.configuration),
        "release": render_release(bundle.release),
    }  # fmt: skip
    return (json.dumps(_finite(document), indent=1, allow_nan=False) + "\n").encode()


def parse_bundle(content: bytes) -> EvidenceBundle:
    """Returns the bundle in `content`. Raises DocumentError with every problem found."""
    problems: list[str] = []
    reader = Reader(parse_object(NAME, content), "", problems)
    if reader.integer("form", minimum=1) != FORM:
        reader.problem("form", f"must be {FORM}: it was written by another version of Sluice")
    decision = reader.child("decision")
    to = None if decision.null("to") else read_progress(decision.child("to"))
    bundle = EvidenceBundle(
        release=read_release(reader.child("release")),
        decision=Decision(
            kind=decision.choice("kind", DecisionKind),
            detail=decision.text("detail"),
            criteria=tuple(_criterion(item) for item in reader.objects("criteria")),
            to=to,
        ),
        evidence=read_evidence(reader.child("evidence")),
        at=reader.integer("at_ns"),
        actor=reader.text("actor", ""),
        gateway=reader.text("gateway", ""),
        arms=tuple(_arm(item) for item in reader.objects("arms")),
        digests={int(k): str(v) for k, v in reader.mapping("digests").items() if k.isdecimal()},
        disagreements=reader.mapping("disagreements"),
        worst=tuple(item for item in reader.items("worst") if isinstance(item, dict)),
        configuration=reader.mapping("configuration"),
    )
    decision.close()
    reader.close()
    if problems:
        raise DocumentError(NAME, problems)
    return bundle


def render_evidence(evidence: Evidence) -> dict[str, Any]:
    """Returns the JSON object of the counts."""
    return {
        "errors": asdict(evidence.errors),
        "alone": asdict(evidence.alone),
        "nans": asdict(evidence.nans),
        "latency": {str(quantile): asdict(pairs) for quantile, pairs in sorted(evidence.latency.items())},
        "disagreement": asdict(evidence.disagreement),
        "outcomes": asdict(evidence.outcomes),
        "scores": {name: [list(stable), list(other)] for name, (stable, other) in sorted(evidence.scores.items())},
        "recent": [asdict(rate) for rate in evidence.recent],
        **{name: getattr(evidence, name) for name in _COUNTS},
    }


def read_evidence(reader: Reader) -> Evidence:
    """Returns the counts that `reader` stands on; problems are noted there."""
    latency, scores = reader.child("latency"), {}
    for name, pair in reader.mapping("scores").items():
        if not _is_histograms(pair):
            reader.problem(f"scores.{name}", "must be two lists of counts of the same length")
        else:
            scores[name] = (tuple(pair[0]), tuple(pair[1]))
    quantiles = [key for key in reader.mapping("latency") if key.isdecimal()]
    recent = [_rate(item) for item in reader.objects("recent")]
    if len(recent) != 2:
        reader.problem("recent", "must be two: candidate, stable")
        recent = [RateCounts(), RateCounts()]
    evidence = Evidence(
        errors=_pairs(reader.child("errors")),
        alone=_rate(reader.child("alone")),
        nans=_pairs(reader.child("nans")),
        latency={int(key): _pairs(latency.child(key)) for key in quantiles},
        disagreement=_rate(reader.child("disagreement")),
        outcomes=_pairs(reader.child("outcomes")),
        scores=scores,
        recent=(recent[0], recent[1]),
        **{name: reader.integer(name, 0) for name in _COUNTS},
    )
    latency.close()
    reader.close()
    return evidence


def render_criterion(result: CriterionResult) -> dict[str, Any]:
    return _finite(asdict(result) | {"verdict": result.verdict.value})  # type: ignore[no-any-return]


def _criterion(reader: Reader) -> CriterionResult:
    logs: dict[str, Any] = {
        key: 0.0 if reader.null(key) else reader.number(key, minimum=-1e300)
        for key in ("log_against", "fail_at", "log_for", "enough_at")
    }
    optional: dict[str, Any] = {
        key: None if reader.null(key) else reader.number(key, minimum=-1e300)
        for key in ("estimate", "low", "high", "limit", "tolerated")
    }
    result = CriterionResult(
        name=reader.text("name"),
        verdict=reader.choice("verdict", Verdict),
        samples=reader.integer("samples"),
        candidate_bad=reader.integer("candidate_bad"),
        stable_bad=reader.integer("stable_bad"),
        blocks=reader.boolean("blocks", False),
        **logs,
        **optional,
    )
    reader.close()
    return result


def _pairs(reader: Reader) -> PairCounts:
    pairs = PairCounts(**{field.name: reader.integer(field.name) for field in fields(PairCounts)})
    reader.close()
    return pairs


def _rate(reader: Reader) -> RateCounts:
    rate = RateCounts(reader.integer("bad"), reader.integer("total"))
    reader.close()
    if rate.bad > rate.total:
        reader.problem("bad", "is more than total")
    return rate


def _arm(reader: Reader) -> ArmCounts:
    arm = ArmCounts(
        name=reader.text("name"),
        version=reader.integer("version", minimum=1),
        **{key: reader.integer(key, 0) for key in ("requests", "errors", "median", "p99")},
    )
    reader.close()
    return arm


def _is_histograms(pair: object) -> bool:
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(bins, list) for bins in pair):
        return False
    return len(pair[0]) == len(pair[1]) and all(type(n) is int and n >= 0 for bins in pair for n in bins)


def _finite(value: Any) -> Any:
    """Returns the value with null for what JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
