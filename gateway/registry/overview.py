"""What a registry holds, as plain data for people and programs: the models, one model's versions, its history."""

from __future__ import annotations

from collections import deque
from typing import Any

from gateway.registry import journal, layout, numbering
from gateway.registry.document import DocumentError, parse_object
from gateway.registry.pointing import pointer_of
from gateway.registry.release_document import render_release
from gateway.registry.serving import ServingPointer
from gateway.registry.store import Store
from gateway.registry.verifying import models_in
from gateway.versions import ModelVersion

MOST_HISTORY = 10_000


def registry_overview(store: Store) -> dict[str, Any]:
    """Returns every model with its pointer and its versions."""
    return {"registry": store.location, "models": [model_overview(store, name) for name in models_in(store)]}


def model_overview(store: Store, model: str) -> dict[str, Any]:
    """Returns the model's pointer and versions, newest first; without versions if there is no such model.

    A version's `state` is "stable", "candidate" (of a release in progress), "also" (loaded beside it), "rejected"
    (rolled back), "published" or "retired".
    """
    present = numbering.numbers_present(store, model)
    marks = numbering.retired(store, model)
    problem = ""
    try:
        pointer = pointer_of(store, model)
    except DocumentError as error:
        pointer, problem = None, str(error)
    desired = pointer.desired if pointer else () if problem else present[-1:]
    found: dict[str, Any] = {
        "name": model,
        "generation": pointer.generation if pointer else None,
        "stable": desired[0] if desired else None,
        "also": list(desired[1:]),
        "release": render_release(pointer.release) if pointer and pointer.release else {},
        "versions": [],
    }
    for number in reversed(present):
        state = "retired" if number in marks else _state(number, desired, pointer)
        found["versions"].append(_version(store, ModelVersion(model, number), state))
    if problem:
        found["problem"] = problem
    return found


def _state(number: int, desired: tuple[int, ...], pointer: ServingPointer | None) -> str:
    release = pointer.release if pointer is not None else None
    if number in desired[:1]:
        return "stable"
    if release is not None and number in desired and any(arm.version == number for arm in release.plan.arms):
        return "candidate"
    if number in desired:
        return "also"
    rejected = pointer is not None and any(item.version == number for item in pointer.rejected)
    return "rejected" if rejected else "published"


def manifest_document(store: Store, version: ModelVersion) -> dict[str, Any] | None:
    """Returns the version's manifest as it stands, None if there is no such version. Raises DocumentError."""
    stored = store.read(f"{version.model_name}/{version.number}/{layout.MANIFEST_FILE}")
    return None if stored is None else parse_object(layout.MANIFEST_FILE, stored.content)


def history(store: Store, model: str | None, limit: int) -> list[dict[str, Any]]:
    """Returns the last `limit` entries of the journal, newest first."""
    return list(reversed(deque(journal.entries(store, model), maxlen=min(limit, MOST_HISTORY))))


def _version(store: Store, version: ModelVersion, state: str) -> dict[str, Any]:
    found: dict[str, Any] = {"version": version.number, "state": state}
    try:
        document = manifest_document(store, version) or {}
    except DocumentError as error:
        return found | {"problem": str(error)}
    files = [file for file in document.get("files") or [] if isinstance(file, dict)]
    lineage = document.get("lineage")
    origin = lineage.get("published") if isinstance(lineage, dict) else None
    sizes = [file.get("size") for file in files]
    return found | {
        "description": document.get("description", ""),
        "targets": [target.get("name") for target in document.get("targets") or [] if isinstance(target, dict)],
        "files": len(files),
        "bytes": sum(size for size in sizes if isinstance(size, int)),
        "published": origin if isinstance(origin, dict) else {},
        "metrics": document.get("metrics", {}),
        "gate": _gate(lineage),
    }


def _gate(lineage: object) -> dict[str, Any] | None:
    """Returns what the gate of `sluice quantize` said of an INT8 version ("forced": it refused and was overruled)."""
    found = lineage.get("quantization") if isinstance(lineage, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("verdict"), str):
        return None
    return {"verdict": found["verdict"], "forced": found.get("forced")}
