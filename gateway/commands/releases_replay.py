"""`sluice releases replay BUNDLE`: decides again from recorded counts, offline, and says whether the same follows."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gateway.cli import BAD_USAGE, NO, OK
from gateway.commands.registry_access import with_registry
from gateway.core.rollout import decide
from gateway.judgements import EvidenceBundle
from gateway.registry.bundle_document import parse_bundle
from gateway.registry.document import DocumentError
from gateway.registry.release_history import bundles_of
from gateway.registry.store import Store
from gateway.reports.text import criteria_text


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when something else follows from the counts than was decided."""
    path = Path(parsed.bundle)
    if path.is_file():
        try:
            return _replay([parse_bundle(path.read_bytes())], parsed)
        except (DocumentError, OSError) as error:
            print(f"sluice: {parsed.bundle}: {error}", file=sys.stderr)
            return BAD_USAGE
    return with_registry(parsed, lambda store: _of_release(store, parsed))


def _of_release(store: Store, parsed: argparse.Namespace) -> int:
    bundles = bundles_of(store, parsed.bundle)
    if not bundles:
        print(f"sluice: {parsed.bundle} is neither a file nor a release with bundles", file=sys.stderr)
        return NO
    return _replay(bundles, parsed)


def _replay(bundles: list[EvidenceBundle], parsed: argparse.Namespace) -> int:
    results = [again(bundle) for bundle in bundles]
    if parsed.json:
        print(json.dumps({"results": results}, indent=1))
    else:
        for bundle, result in zip(bundles, results, strict=True):
            verdict = {True: "the same follows", False: "SOMETHING ELSE FOLLOWS", None: "by hand"}[result["same"]]
            print(f"{result['release']} decision {result['decision']}: {result['recorded']}: {verdict}")
            if result["same"] is False:
                print(f"  recorded: {bundle.decision.detail}\n  replayed: {result['replayed']}: {result['detail']}")
            if len(bundles) == 1 and result["same"] is not None:
                print(criteria_text(decide(bundle.release, bundle.evidence, bundle.at).criteria))
    return NO if any(result["same"] is False for result in results) else OK


def again(bundle: EvidenceBundle) -> dict[str, Any]:
    """Returns what follows from the bundle's counts; `same` is None for what a person decided."""
    decision = decide(bundle.release, bundle.evidence, bundle.at, intervals=False)
    recorded = bundle.decision
    by_hand = bool(bundle.actor)
    verdicts = [(line.name, line.verdict.value) for line in decision.criteria]
    same = (decision.kind, decision.detail) == (recorded.kind, recorded.detail) and verdicts == [
        (line.name, line.verdict.value) for line in recorded.criteria
    ]
    return {
        "release": bundle.release.plan.id,
        "decision": recorded.to.decision if recorded.to is not None else 0,
        "recorded": recorded.kind.value,
        "replayed": decision.kind.value,
        "detail": decision.detail,
        "verdicts": dict(verdicts),
        "same": None if by_hand else same,
    }
