"""The releases of a registry: what may follow what, written by compare-and-swap on the model's pointer.

Invariants: a change holds only for the very state it was decided on; the bundle of a decision is stored before the
pointer says that it was taken, and journalled after; one release of a model at a time; a version that was rolled back
is never the baseline again, and the candidate only if somebody insists. All functions block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from gateway.judgements import EvidenceBundle
from gateway.registry import journal, layout
from gateway.registry.bundle_document import parse_bundle, render_bundle
from gateway.registry.pointing import change_pointer, pointer_of
from gateway.registry.release_document import Rejection, plan_problems
from gateway.registry.serving import ServingPointer
from gateway.registry.store import AlreadyThere, Step, Store, StoreError, no_step
from gateway.releases import Release, ReleaseKind, ReleasePlan, ReleaseProgress, ReleaseStatus

RELEASES_FOLDER = "releases"
MOST_REJECTED = 100
PASSED_OVER = "it never started: when its turn came, its version was the stable one or had been rolled back"


class NotAsItWas(Exception):
    """Somebody changed the release meanwhile; nothing was written."""


def advance(store: Store, release: Release, bundle: EvidenceBundle, *, actor: str, step: Step = no_step) -> bool:
    """Writes down `bundle.decision.to` with all that follows from it; False if the release is not as in `release`.

    Raises:
        DocumentError: the pointer cannot be used.
        StoreError: the store failed.
    """
    to = bundle.decision.to
    assert to is not None, "a decision that changes nothing is not written down"

    def change(before: ServingPointer | None, written: Written) -> ServingPointer:
        if before is None or before.release is None or _state(before.release) != _state(release):
            raise NotAsItWas
        return applied(before, replace(to, evidence=written.sha256), at=iso(bundle.at), now=bundle.at)

    try:
        transact(store, bundle, change, actor=actor, step=step)
    except NotAsItWas:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Written:
    """A stored bundle: where, and the sha256 of its content."""

    bundle: EvidenceBundle
    key: str
    sha256: str


Change = Callable[[ServingPointer | None, Written], ServingPointer]


def transact(
    store: Store,
    bundle: EvidenceBundle,
    change: Change,
    *,
    actor: str,
    step: Step = no_step,
    ended: EvidenceBundle | None = None,
) -> ServingPointer:
    """Stores the bundle, changes the pointer, writes the journal, in this order; returns the pointer.

    `ended` is the record of the release that had to go for this one. Raises what `change` raises.
    """
    plan = bundle.release.plan
    parts = [write_bundle(store, part) for part in (ended, bundle) if part is not None]
    step("bundled")
    waited: tuple[ReleasePlan, ...] = ()

    def changed(before: ServingPointer | None) -> ServingPointer:
        nonlocal waited
        waited = before.queued if before is not None else ()
        return change(before, parts[-1])

    after = change_pointer(
        store,
        plan.model_name,
        changed,
        iso(bundle.at),
        actor,
        f"release {plan.id}: {bundle.decision.detail}",
        {"release": plan.id, "evidence": [part.key for part in parts]},
    )
    assert after is not None
    step("pointed")
    for part in parts:
        note(store, part, actor)
    _note_queued(store, plan, waited, after, bundle.at)
    step("journalled")
    return after


def applied(pointer: ServingPointer, to: ReleaseProgress, *, at: str, now: int, winner: str = "") -> ServingPointer:
    """Returns the pointer after the release's progress became `to`; a queued release starts where one has ended.

    `winner` names the arm of an A/B release that is promoted; such a release is not watched afterwards.
    """
    release = pointer.release
    assert release is not None
    plan, status = release.plan, to.status
    moved = replace(pointer, release=Release(plan, to))
    if status is ReleaseStatus.PROMOTED:
        number = next((arm.version for arm in plan.arms if arm.name == winner), plan.candidate)
        moved = replace(moved, stable=number, also=_without(pointer.also, number))
        if plan.watch_after > 0 and plan.kind is ReleaseKind.CANARY:
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
        plan = _on(queued.pop(0), pointer.stable)
        numbers = {arm.version for arm in plan.arms}
        if plan.stable in numbers or (numbers & rejected and not plan.retry) or plan_problems(plan):
            continue
        return replace(pointer, release=Release(plan, first_progress(now)), queued=tuple(queued))
    return replace(pointer, queued=tuple(queued))


def _on(plan: ReleasePlan, stable: int) -> ReleasePlan:
    """Returns the plan with another stable version; rules to the one that it was made with mean the new one."""
    rules = tuple(replace(rule, version=stable) if rule.version == plan.stable else rule for rule in plan.rules)
    return replace(plan, stable=stable, rules=rules)


def first_progress(now: int) -> ReleaseProgress:
    return ReleaseProgress(status=ReleaseStatus.RUNNING, step_started_at=now, detail="started")


def write_bundle(store: Store, bundle: EvidenceBundle) -> Written:
    """Stores the bundle. Its name has the digest of its content, so that nothing is ever written over."""
    bundle = replace(bundle, digests=bundle.digests or digests_of(store, bundle.release.plan))
    content = render_bundle(bundle)
    digest = hashlib.sha256(content).hexdigest()
    number = bundle.decision.to.decision if bundle.decision.to is not None else 0
    key = f"{bundle_folder(bundle.release.plan)}/{number:03d}-{digest[:12]}.json"
    with suppress(AlreadyThere):  # with the same content, by a try that got no further
        store.create(key, content)
    return Written(bundle, key, digest)


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


def note(store: Store, written: Written, actor: str) -> None:
    """Writes the journal entry of a decision that was taken."""
    plan, decision = written.bundle.release.plan, written.bundle.decision
    to = decision.to or written.bundle.release.progress
    more: dict[str, Any] = {
        "release": plan.id, "decision": to.decision, "status": to.status.value, "step": to.step,
        "evidence": written.key, "sha256": written.sha256,
    }  # fmt: skip
    if plan.steps:
        more["weight_bp"] = plan.steps[to.step].weight
    entry = journal.Entry(
        at=iso(written.bundle.at), actor=actor, action=f"release {decision.kind.value}", model=plan.model_name,
        version=plan.candidate, reason=decision.detail, more=more,
    )  # fmt: skip
    journal.note(store, entry)


def mend_journal(store: Store, model: str) -> int:
    """Writes the entries of decisions whose writer died before it could, and returns how many there were.

    A journal that cannot be read is a warning: it keeps nobody from rolling back.
    """
    pointer = pointer_of(store, model)
    if pointer is None:
        return 0
    try:
        known = {entry.get("evidence") for entry in journal.entries(store, model)}
    except StoreError as error:
        journal.warn(f"the journal cannot be read: {error}")
        return 0
    missing = [
        (str(key), str(entry.get("actor", "")))
        for entry in pointer.history
        for key in entry.get("evidence", ())
        if key not in known
    ]
    for key, actor in missing:
        stored = store.read(key)
        if stored is not None:
            note(store, Written(parse_bundle(stored.content), key, hashlib.sha256(stored.content).hexdigest()), actor)
    return len(missing)


def _note_queued(
    store: Store, ended: ReleasePlan, waited: tuple[ReleasePlan, ...], after: ServingPointer, at: int
) -> None:
    """Tells the journal which of those that `waited` took the place of one that ended, and which were passed over."""
    still = {plan.id for plan in after.queued} | {ended.id}
    for plan in waited:
        if plan.id in still:
            continue
        starts = after.release is not None and after.release.plan.id == plan.id
        entry = journal.Entry(
            at=iso(at), actor=plan.actor, action="release start" if starts else "release finish",
            model=plan.model_name, version=plan.candidate, reason=f"{ended.id} has ended" if starts else PASSED_OVER,
            more={"release": plan.id, "decision": 0, "status": "running" if starts else "ended", "step": 0},
        )  # fmt: skip
        journal.note(store, entry)


def iso(at: int) -> str:
    """Returns a wall-clock instant as the journal writes it."""
    return datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="milliseconds")


def _state(release: Release) -> tuple[str, ReleaseProgress]:
    return release.plan.id, release.progress


def _without(numbers: tuple[int, ...], number: int) -> tuple[int, ...]:
    return tuple(other for other in numbers if other != number)
