"""The releases of a registry: what may follow what, written by compare-and-swap on the model's pointer.

Invariants: a change holds only for the very state it was decided on; the bundle of a decision is stored before the
pointer says that it was taken, and journalled after; one release of a model at a time; a version that was rolled back
is never the baseline again, and the candidate only if somebody insists. All functions block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from gateway.judgements import EvidenceBundle
from gateway.registry import journal, layout
from gateway.registry.bundle_document import render_bundle
from gateway.registry.pointing import change_pointer
from gateway.registry.release_document import Rejection
from gateway.registry.serving import ServingPointer
from gateway.registry.store import AlreadyThere, Step, Store, no_step
from gateway.releases import Release, ReleaseKind, ReleasePlan, ReleaseProgress, ReleaseStatus

RELEASES_FOLDER = "releases"
MOST_REJECTED = 100


class NotAsItWas(Exception):
    """Somebody changed the release meanwhile; nothing was written."""


def advance(store: Store, release: Release, bundle: EvidenceBundle, *, actor: str, step: Step = no_step) -> bool:
    """Writes down `bundle.decision.to` with all that follows from it; False if the release is not as in `release`.

    Raises:
        DocumentError: the pointer cannot be used.
        StoreError: the store failed.
    """
    to, model = bundle.decision.to, release.plan.model_name
    assert to is not None, "a decision that changes nothing is not written down"
    bundle = replace(bundle, digests=bundle.digests or digests_of(store, release.plan))
    key, digest = write_bundle(store, bundle)
    step("bundled")
    to = replace(to, evidence=digest)
    at = _iso(bundle.at)

    def change(before: ServingPointer | None) -> ServingPointer:
        if before is None or before.release is None or _before(before.release) != _before(release):
            raise NotAsItWas
        return applied(before, to, at=at, now=bundle.at)

    if not _written(store, model, change, at, actor, f"release {release.plan.id}: {to.detail}"):
        return False
    step("pointed")
    note(store, bundle, to, key, actor)
    step("journalled")
    return True


def applied(pointer: ServingPointer, to: ReleaseProgress, *, at: str, now: int) -> ServingPointer:
    """Returns the pointer after the release's progress became `to`; a queued release starts where one has ended."""
    release = pointer.release
    assert release is not None
    plan, status = release.plan, to.status
    moved = replace(pointer, release=Release(plan, to))
    if status is ReleaseStatus.PROMOTED:
        moved = replace(moved, stable=plan.candidate, also=_without(pointer.also, plan.candidate))
        if plan.watch_after > 0:
            return moved
    elif status is ReleaseStatus.ROLLED_BACK:
        rejection = Rejection(plan.candidate, plan.id, to.detail, at)
        moved = replace(moved, stable=plan.stable, rejected=(*moved.rejected, rejection)[-MOST_REJECTED:])
        moved = replace(moved, also=_without(moved.also, plan.candidate))
    elif status is not ReleaseStatus.ENDED:
        return moved
    return next_queued(replace(moved, release=None), now=now)


def next_queued(pointer: ServingPointer, *, now: int) -> ServingPointer:
    """Returns the pointer with the first queued release that can still start in progress."""
    queued = list(pointer.queued)
    rejected = {rejection.version for rejection in pointer.rejected}
    while queued and pointer.stable is not None:
        plan = replace(queued.pop(0), stable=pointer.stable)
        numbers = {arm.version for arm in plan.arms}
        if plan.stable in numbers or (numbers & rejected and not plan.retry):
            continue
        return replace(pointer, release=Release(plan, first_progress(now)), queued=tuple(queued))
    return replace(pointer, queued=tuple(queued))


def first_progress(now: int) -> ReleaseProgress:
    return ReleaseProgress(status=ReleaseStatus.RUNNING, step_started_at=now, detail="started")


def write_bundle(store: Store, bundle: EvidenceBundle) -> tuple[str, str]:
    """Stores the bundle and returns its key and sha256. The name has the digest: nothing is ever written over."""
    content = render_bundle(bundle)
    digest = hashlib.sha256(content).hexdigest()
    number = bundle.decision.to.decision if bundle.decision.to is not None else 0
    key = f"{bundle_folder(bundle.release.plan)}/{number:03d}-{digest[:12]}.json"
    with suppress(AlreadyThere):  # with the same content, by a try that got no further
        store.create(key, content)
    return key, digest


def bundle_folder(plan: ReleasePlan) -> str:
    return f"{plan.model_name}/{RELEASES_FOLDER}/{plan.id}"


def digests_of(store: Store, plan: ReleasePlan) -> dict[int, str]:
    """Returns the sha256 of the manifest of every version that takes part."""
    found = {}
    for number in (plan.stable, *(arm.version for arm in plan.arms)):
        stored = store.read(f"{plan.model_name}/{number}/{layout.MANIFEST_FILE}")
        if stored is not None:
            found[number] = hashlib.sha256(stored.content).hexdigest()
    return found


def note(store: Store, bundle: EvidenceBundle, to: ReleaseProgress, key: str, actor: str) -> None:
    """Writes the journal entry of a decision that was taken."""
    plan = bundle.release.plan
    more = {"release": plan.id, "decision": to.decision, "status": to.status.value, "step": to.step,
            "evidence": key, "sha256": to.evidence}  # fmt: skip
    if plan.kind is not ReleaseKind.AB and plan.steps:
        more["weight_bp"] = plan.steps[to.step].weight
    journal.note(
        store,
        journal.Entry(
            at=_iso(bundle.at), actor=actor, action=f"release {bundle.decision.kind.value}", model=plan.model_name,
            version=plan.candidate, reason=to.detail, more=more,
        ),
    )  # fmt: skip


def _before(release: Release) -> tuple[str, ReleaseProgress]:
    return release.plan.id, release.progress


def _written(
    store: Store,
    model: str,
    change: Callable[[ServingPointer | None], ServingPointer | None],
    at: str,
    actor: str,
    reason: str,
) -> bool:
    try:
        change_pointer(store, model, change, at, actor, reason)
    except NotAsItWas:
        return False
    return True


def _without(numbers: tuple[int, ...], number: int) -> tuple[int, ...]:
    return tuple(other for other in numbers if other != number)


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="milliseconds")
