"""A folder with a few versions in which releases are started and moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.judgements import Decision, DecisionKind, EvidenceBundle
from gateway.registry import journal
from gateway.registry.folder_store import FolderStore
from gateway.registry.pointing import pointer_of
from gateway.registry.release_starting import start_release
from gateway.registry.serving import ServingPointer
from gateway.registry.switching import serve_version
from gateway.releases import Release, ReleasePlan
from gateway.versions import ModelVersion
from tests.support.registry import publish
from tests.support.releases import SECOND, plan

NOW = 1_700_000_000 * SECOND
WHO: dict[str, Any] = {"actor": "ann", "reason": "because", "now": NOW + SECOND}


class Died(BaseException):
    """The process was killed."""


def start(store: FolderStore, of: ReleasePlan | None = None, **more: Any) -> Release:
    begun, _ = start_release(store, of or plan(id="", salt=""), now=NOW, **more)
    pointer = pointer_now(store)
    assert pointer.release is not None
    assert begun.id
    return pointer.release


def pointer_now(store: FolderStore) -> ServingPointer:
    pointer = pointer_of(store, "m")
    assert pointer is not None
    return pointer


def decided(release: Release, kind: DecisionKind, at: int = NOW + 2 * SECOND, **changes: Any) -> EvidenceBundle:
    to = replace(release.progress, decision=release.progress.decision + 1, detail=kind.value, **changes)
    return EvidenceBundle(release=release, decision=Decision(kind=kind, detail=kind.value, to=to), at=at)


def actions(store: FolderStore) -> list[str]:
    return [str(entry["action"]) for entry in journal.entries(store, "m") if "release" in entry]


def store_with_versions(root: Path) -> FolderStore:
    for number in (1, 2, 3, 4):
        publish(root, "m", number)
    store = FolderStore(root)
    serve_version(store, ModelVersion("m", 1), actor="ann")
    return store
