"""What people do to a release in progress: pause, resume, promote, roll back. Each has an actor and is journalled.

What is done holds for the release as it is at that moment, whatever a gateway decides meanwhile. All functions block.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from gateway.judgements import Decision, DecisionKind, EvidenceBundle
from gateway.registry import layout
from gateway.registry.pointing import pointer_of
from gateway.registry.releasing import NotAsItWas, Written, applied, iso, mend_journal, transact
from gateway.registry.serving import ServingPointer
from gateway.registry.store import Store, StoreError
from gateway.registry.switching import NotInRegistry, PublishError, check_who
from gateway.releases import Release, ReleaseKind, ReleaseProgress, ReleaseStatus

MOST_TRIES = 100
IN_PROGRESS = (ReleaseStatus.RUNNING, ReleaseStatus.PAUSED)
Seen = EvidenceBundle
"""What a gateway has seen of the release, for the record: its evidence, arms, disagreements."""


def pause_release(
    store: Store, release_id: str, *, actor: str, reason: str, now: int, seen: Seen | None = None
) -> Release:
    """Holds a running release where it is: its weight stays, and what it shows may still roll it back."""

    def moved(release: Release) -> Decision:
        if release.progress.status is not ReleaseStatus.RUNNING:
            raise PublishError(f"{release_id} is {release.progress.status.value}, not running")
        return by_hand(release, DecisionKind.PAUSE, reason or "paused by hand", status=ReleaseStatus.PAUSED)

    return _change(store, release_id, moved, actor, now, seen)


def resume_release(
    store: Store, release_id: str, *, actor: str, reason: str, now: int, seen: Seen | None = None
) -> Release:
    """Lets a paused release go on; the time of its step starts anew."""

    def moved(release: Release) -> Decision:
        if release.progress.status is not ReleaseStatus.PAUSED:
            raise PublishError(f"{release_id} is {release.progress.status.value}, not paused")
        return by_hand(release, DecisionKind.RESUME, reason or "resumed by hand", started=now)

    return _change(store, release_id, moved, actor, now, seen)


def promote_release(
    store: Store,
    release_id: str,
    *,
    actor: str,
    reason: str,
    now: int,
    full: bool = False,
    arm: str = "",
    seen: Seen | None = None,
) -> Release:
    """Moves a release one step on, or (`full`, or on its last step) makes its candidate the stable version.

    A person may do so before the evidence is complete. Of an A/B release `arm` names who has won; a shadow release and
    the watch of a promoted one end.
    """

    def moved(release: Release) -> Decision:
        plan, progress = release.plan, release.progress
        if progress.status is ReleaseStatus.PROMOTED:
            return by_hand(release, DecisionKind.FINISH, reason or "the watch was ended by hand",
                            status=ReleaseStatus.ENDED)  # fmt: skip
        if progress.status not in IN_PROGRESS:
            raise PublishError(f"{release_id} is {progress.status.value}")
        if plan.kind is ReleaseKind.SHADOW:
            return by_hand(release, DecisionKind.FINISH, reason or "ended by hand", status=ReleaseStatus.ENDED)
        if plan.kind is ReleaseKind.AB:
            winner = next((found for found in plan.arms if found.name == arm), None)
            if winner is None:
                raise PublishError(f"say which arm of {release_id} has won: " + ", ".join(a.name for a in plan.arms))
        elif not full and progress.step + 1 < len(plan.steps):
            return by_hand(release, DecisionKind.ADVANCE, reason or "to the next step by hand",
                            step=progress.step + 1, started=now)  # fmt: skip
        return by_hand(release, DecisionKind.PROMOTE, reason or "promoted by hand",
                        status=ReleaseStatus.PROMOTED, started=now)  # fmt: skip

    return _change(store, release_id, moved, actor, now, seen, winner=arm)


def rollback_release(
    store: Store, release_id: str, *, actor: str, reason: str, now: int, seen: Seen | None = None
) -> Release:
    """Gives everything back to the stable version; a queued release is withdrawn.

    The candidate of a canary is rejected: it is no baseline later, and no candidate unless somebody insists. A/B and
    shadow releases end without blaming a version.
    """
    model = model_of(release_id)
    pointer = pointer_of(store, model)
    if pointer is not None and any(plan.id == release_id for plan in pointer.queued):
        return _withdraw(store, model, release_id, actor, reason or "withdrawn by hand", now)

    def moved(release: Release) -> Decision:
        if release.plan.kind is ReleaseKind.CANARY:
            return by_hand(release, DecisionKind.ROLLBACK, reason or "rolled back by hand",
                            status=ReleaseStatus.ROLLED_BACK)  # fmt: skip
        return by_hand(release, DecisionKind.FINISH, reason or "ended by hand", status=ReleaseStatus.ENDED)

    return _change(store, release_id, moved, actor, now, seen)


def model_of(release_id: str) -> str:
    """Returns the model whose release has that id (`<model>-r<n>`). Raises NotInRegistry."""
    model, mark, number = release_id.rpartition("-r")
    # What is not a model's name must not become a path, not even one that is only read.
    if not mark or not layout.is_model_name(model) or re.fullmatch("[0-9]{1,12}", number) is None:
        raise NotInRegistry(f"{release_id[:200]!r} is not the id of a release (<model>-r<number>)")
    return model


# ------------------------------------------------------------------ the way there


def _change(
    store: Store,
    release_id: str,
    moved: Callable[[Release], Decision],
    actor: str,
    now: int,
    seen: Seen | None,
    winner: str = "",
) -> Release:
    """Does what `moved` decides about the release as it is now, and returns it as it is then."""
    model = model_of(release_id)
    check_who(model, actor)
    for _ in range(MOST_TRIES):
        release = _current(store, model, release_id)
        decision = moved(release)
        bundle = replace(seen or EvidenceBundle(release=release, decision=decision), release=release,
                         decision=decision, at=now, actor=actor)  # fmt: skip
        try:
            transact(store, bundle, _changing(release, decision, now, winner), actor=actor)
        except NotAsItWas:
            continue
        mend_journal(store, model)
        assert decision.to is not None
        return Release(release.plan, decision.to)
    raise StoreError(f"release {release_id} is being changed by others: try again")


def _changing(
    release: Release, decision: Decision, now: int, winner: str
) -> Callable[[ServingPointer | None, Written], ServingPointer]:
    to = decision.to
    assert to is not None

    def change(before: ServingPointer | None, written: Written) -> ServingPointer:
        if before is None or before.release != release:
            raise NotAsItWas
        return applied(before, replace(to, evidence=written.sha256), at=iso(now), now=now, winner=winner)

    return change


def _current(store: Store, model: str, release_id: str) -> Release:
    pointer = pointer_of(store, model)
    release = pointer.release if pointer is not None else None
    if release is None or release.plan.id != release_id:
        other = f" ({release.plan.id} is)" if release is not None else ""
        raise NotInRegistry(f"release {release_id} is not in progress{other}")
    return release


def _withdraw(store: Store, model: str, release_id: str, actor: str, reason: str, now: int) -> Release:
    pointer = pointer_of(store, model)
    plan = next((plan for plan in pointer.queued if plan.id == release_id), None) if pointer is not None else None
    if plan is None:
        raise NotInRegistry(f"release {release_id} does not wait any more")
    to = ReleaseProgress(status=ReleaseStatus.ENDED, decision=1, detail=reason)
    queued = Release(plan, ReleaseProgress(status=ReleaseStatus.QUEUED))
    decision = Decision(kind=DecisionKind.FINISH, detail=reason, to=to)

    def change(before: ServingPointer | None, written: Written) -> ServingPointer:
        if before is None or plan not in before.queued:
            raise NotInRegistry(f"release {release_id} does not wait any more")
        return replace(before, queued=tuple(other for other in before.queued if other != plan))

    transact(store, EvidenceBundle(release=queued, decision=decision, at=now, actor=actor), change, actor=actor)
    return Release(plan, to)


def by_hand(
    release: Release,
    kind: DecisionKind,
    detail: str,
    *,
    status: ReleaseStatus = ReleaseStatus.RUNNING,
    step: int | None = None,
    started: int | None = None,
) -> Decision:
    before = release.progress
    to = ReleaseProgress(
        status=status,
        step=before.step if step is None else step,
        step_started_at=before.step_started_at if started is None else started,
        decision=before.decision + 1,
        detail=detail,
        evidence=before.evidence,
    )
    return Decision(kind=kind, detail=detail, to=to)
