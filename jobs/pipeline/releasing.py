"""The last step of a pipeline: the version comes to its callers, at once or by a release, whose end is waited for.

Decides by what a release is known: its candidate, in the model's pointer or in the registry's journal. So a step that
was killed after it had started a release follows that one, also if it has ended meanwhile.
"""

from __future__ import annotations

from typing import Any

from gateway.registry.opening import open_store
from gateway.registry.pointing import pointer_of
from gateway.registry.release_history import MOST_ENTRIES, bundles_of, release_entries, release_of
from gateway.registry.serving import ServingPointer
from gateway.registry.store import Store
from gateway.releases import Release, ReleaseStatus
from jobs.pipeline.steps import Run, StepFailed, registry_of, sluice

SERVED, PROMOTED, ROLLED_BACK, ENDED, PUBLISHED = "served", "promoted", "rolled back", "ended", "published"


def release(run: Run, version: int) -> dict[str, Any]:
    """Returns how it ended: served, promoted, rolled back, ended without either, or not asked for."""
    model, wanted, where = run.pipeline.model, run.pipeline.release, registry_of(run)
    if wanted.kind == "none":
        return {"outcome": PUBLISHED}
    store = open_store(where)
    pointer = pointer_of(store, model)
    known = known_release(store, pointer, model, version) if wanted.kind == "start" else None
    if known is None and pointer is not None and pointer.stable == version:
        return {"outcome": SERVED}
    if known is None and (wanted.kind == "serve" or pointer is None or pointer.stable is None):
        more = wanted.options if wanted.kind == "serve" else ()
        _done(run, "models", "serve", model, str(version), "--registry", where, *more)
        run.reached("release: served")
        return {"outcome": SERVED}
    if known is None:
        told = ("--registry", where, "--reason", f"pipeline {run.name}", *wanted.options)
        _done(run, "releases", "start", model, "--candidate", str(version), *told)
        run.reached("release: started")
        known = known_release(store, pointer_of(store, model), model, version)
        if known is None:
            raise StepFailed(f"the release of {model} {version} was started and is not in the registry")
    return _followed(run, store, known, version)


def known_release(store: Store, pointer: ServingPointer | None, model: str, version: int) -> str | None:
    """Returns the id of the newest release whose candidate is that version, in progress, waiting or over."""
    if pointer is not None:
        plans = [*pointer.queued, *([pointer.release.plan] if pointer.release is not None else [])]
        for plan in plans:
            if any(arm.version == version for arm in plan.arms):
                return plan.id
    for entry in release_entries(store, model, MOST_ENTRIES):
        if entry.get("version") == version and entry.get("release"):
            return str(entry["release"])
    return None


def outcome_of(store: Store, found: Release, version: int) -> str | None:
    """Returns how a release ended, None while it goes on. A promoted one may still be watched for late outcomes."""
    status = found.progress.status
    if status is ReleaseStatus.PROMOTED:
        return PROMOTED
    if status is ReleaseStatus.ROLLED_BACK:
        return ROLLED_BACK
    if status is not ReleaseStatus.ENDED:
        return None
    taken = [bundle.decision.to.status for bundle in bundles_of(store, found.plan.id) if bundle.decision.to]
    pointer = pointer_of(store, found.plan.model_name)
    stable = pointer is not None and pointer.stable == version
    return PROMOTED if stable or ReleaseStatus.PROMOTED in taken else ENDED


def _followed(run: Run, store: Store, known: str, version: int) -> dict[str, Any]:
    """Waits until the release is over, and says what changes meanwhile."""
    said = ""
    while True:
        found = release_of(store, known)
        line = _line(found)
        if line != said:
            run.say(line)
            said = line
        outcome = outcome_of(store, found, version)
        if outcome is not None:
            result: dict[str, Any] = {"outcome": outcome, "release": known, "detail": found.progress.detail}
            if outcome != PROMOTED:
                result["refused"] = [f"release {known} of version {version}: {outcome}: {found.progress.detail}"]
            return result
        run.pause()


def _line(found: Release) -> str:
    plan, progress = found.plan, found.progress
    where = ""
    if plan.steps and progress.status in (ReleaseStatus.RUNNING, ReleaseStatus.PAUSED):
        weight = plan.steps[progress.step].weight
        share = f"{weight / 100:g} %" if weight else "copies only"
        where = f", step {progress.step + 1} of {len(plan.steps)} ({share})"
    hint = ""
    if progress.status is ReleaseStatus.PAUSED:
        hint = f"; it waits for: sluice releases resume | promote | rollback {plan.id}"
    return f"release {plan.id} is {progress.status.value.replace('_', ' ')}{where}: {progress.detail}{hint}"


def _done(run: Run, *arguments: str) -> None:
    """Runs a command of Sluice. Raises StepFailed, Stopped."""
    code, said = sluice(run, *arguments)
    if code != 0:
        raise StepFailed(f"sluice {arguments[0]} {arguments[1]} ended with {code}: {said[-1500:]}")
