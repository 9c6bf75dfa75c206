"""The releases of a registry as they were and are, read from pointers, journal and bundles. All functions block.

Invariant: what is said of a decision comes from its bundle, whose content is checked against the digest in its name.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from gateway.judgements import EvidenceBundle
from gateway.registry import journal
from gateway.registry.bundle_document import parse_bundle
from gateway.registry.document import DocumentError, Reader, parse_object
from gateway.registry.pointing import pointer_of
from gateway.registry.release_commands import model_of
from gateway.registry.release_document import read_plan, render_plan, render_rejection, render_release
from gateway.registry.releasing import PASSED_OVER, RELEASES_FOLDER
from gateway.registry.serving import ServingPointer
from gateway.registry.store import Store
from gateway.registry.switching import NotInRegistry
from gateway.registry.verifying import models_in
from gateway.releases import Release, ReleasePlan, ReleaseProgress, ReleaseStatus

MOST_ENTRIES = 1000


def state_of(store: Store, model: str) -> dict[str, Any]:
    """Returns what the model's pointer says about releases."""
    pointer = pointer_of(store, model)
    release = pointer.release if pointer is not None else None
    return {
        "model": model,
        "stable": pointer.stable if pointer is not None else None,
        "release": render_release(release) if release is not None else None,
        "queued": [render_plan(plan) for plan in pointer.queued] if pointer is not None else [],
        "rejected": [render_rejection(item) for item in pointer.rejected] if pointer is not None else [],
    }


def states(store: Store) -> list[dict[str, Any]]:
    """Returns `state_of` for every model that can be read, and what is wrong with the others."""
    found = []
    for model in models_in(store):
        try:
            found.append(state_of(store, model))
        except DocumentError as error:
            found.append({"model": model, "problem": str(error)})
    return found


def release_of(store: Store, release_id: str) -> Release:
    """Returns the release as it stands: in progress, queued, or as it ended. Raises NotInRegistry."""
    model = model_of(release_id)
    pointer = pointer_of(store, model)
    found = _in_pointer(pointer, release_id)
    if found is not None:
        return found
    bundles = bundles_of(store, release_id)
    if bundles:
        last = bundles[-1]
        stands = last.decision.to or last.release.progress
        if stands.status is ReleaseStatus.QUEUED:
            stands = replace(stands, status=ReleaseStatus.ENDED, detail=PASSED_OVER)
        return Release(last.release.plan, stands)
    plan = _plan(store, model, release_id)
    return Release(plan, ReleaseProgress(status=ReleaseStatus.ENDED, detail="it never started"))


def bundles_of(store: Store, release_id: str) -> list[EvidenceBundle]:
    """Returns the bundles of the decisions that were taken, oldest first.

    Raises:
        DocumentError: a bundle was changed after it was written.
    """
    model = model_of(release_id)
    keys = [
        str(entry["evidence"])
        for entry in journal.entries(store, model)
        if entry.get("release") == release_id and "evidence" in entry
    ]
    # What the journal could not be told is in the pointer's own history.
    pointer = pointer_of(store, model)
    for change in pointer.history if pointer is not None else ():
        keys += [key for key in change.get("evidence", ()) if f"/{release_id}/" in str(key)]
    found = []
    for key in sorted(dict.fromkeys(keys)):
        stored = store.read(key)
        if stored is None:
            continue
        digest = hashlib.sha256(stored.content).hexdigest()
        if not key.endswith(f"-{digest[:12]}.json"):
            raise DocumentError(key, ["was changed after it was written"])
        found.append(parse_bundle(stored.content))
    return found


def release_entries(store: Store, model: str | None, limit: int) -> list[dict[str, Any]]:
    """Returns the last journal entries about releases, newest first."""
    found = [entry for entry in journal.entries(store, model) if str(entry.get("action", "")).startswith("release ")]
    found.sort(key=lambda entry: str(entry.get("at", "")))  # what was entered later is told in its place
    return found[::-1][: min(limit, MOST_ENTRIES)]


def _in_pointer(pointer: ServingPointer | None, release_id: str) -> Release | None:
    if pointer is None:
        return None
    if pointer.release is not None and pointer.release.plan.id == release_id:
        return pointer.release
    waiting = next((plan for plan in pointer.queued if plan.id == release_id), None)
    return Release(waiting, ReleaseProgress(status=ReleaseStatus.QUEUED)) if waiting is not None else None


def _plan(store: Store, model: str, release_id: str) -> ReleasePlan:
    stored = store.read(f"{model}/{RELEASES_FOLDER}/{release_id}/plan.json")
    if stored is None:
        raise NotInRegistry(f"there is no release {release_id}")
    problems: list[str] = []
    plan = read_plan(Reader(parse_object("plan.json", stored.content), "", problems))
    if problems:
        raise DocumentError("plan.json", problems)
    return plan
