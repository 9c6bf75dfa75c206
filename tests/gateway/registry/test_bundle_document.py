"""Evidence bundles on disk: read back they are the same, and the same follows from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.rollout import decide
from gateway.registry.bundle_document import parse_bundle, render_bundle
from gateway.registry.document import DocumentError
from gateway.releases import Evidence
from tests.support.evidence import bundle_of
from tests.support.releases import plan, running


def test_what_was_written_is_read_again_and_decides_the_same() -> None:
    bundle = bundle_of(running(plan(), 2))
    again = parse_bundle(render_bundle(bundle))
    assert again == bundle
    assert decide(again.release, again.evidence, again.at) == bundle.decision


def test_a_bundle_without_any_counts_is_whole_too() -> None:
    bundle = bundle_of(running(plan(), 1), Evidence())
    assert parse_bundle(render_bundle(bundle)) == bundle


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("form",), 2, "form: must be 1"),
        (("evidence", "errors", "both"), -1, "evidence.errors.both"),
        (("evidence", "errors", "both"), 10**400, "evidence.errors.both: must be at most"),
        (("release", "plan", "criteria", "disagreement_rate"), 1e-17, "disagreement_rate: must be at least"),
        (("evidence", "disagreement"), {"bad": 5, "total": 1}, "evidence.disagreement.bad"),
        (("evidence", "scores"), {"y": [[1], [1, 2]]}, "evidence.scores.y"),
        (("evidence", "recent"), [], "evidence.recent"),
        (("decision", "kind"), "shrug", "decision.kind"),
        (("release", "plan", "arms"), [], "release.plan.arms"),
        (("surprise",), 1, "surprise: unknown key"),
    ],
)
def test_what_is_wrong_is_named(path: tuple[str, ...], value: Any, message: str) -> None:
    document = json.loads(render_bundle(bundle_of(running(plan(), 2))))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(DocumentError, match=message):
        parse_bundle(json.dumps(document).encode())
