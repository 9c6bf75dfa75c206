"""Starting a release: who may start, in whose place, and under which id.

Invariants: a release starts only with versions that are complete, not retired and not rolled back before (unless
somebody insists); one release of a model is in progress at a time; an id is never used twice. All functions block.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from gateway.judgements import Decision, DecisionKind, EvidenceBundle
from gateway.messages import ModelMetadata
from gateway.registry.document import Reader
from gateway.registry.layout import MANIFEST_FILE
from gateway.registry.pointing import pointer_of
from gateway.registry.recorded import metadata_of
from gateway.registry.release_commands import IN_PROGRESS, MOST_TRIES, by_hand
from gateway.registry.release_document import read_plan, render_plan
from gateway.registry.releasing import (
    NotAsItWas,
    Written,
    bundle_folder,
    first_progress,
    mend_journal,
    transact,
)
from gateway.registry.serving import ServingPointer
from gateway.registry.store import AlreadyThere, Step, Store, StoreError, no_step
from gateway.registry.switching import PublishError, check_not_rejected, check_servable, check_who, manifest_of, pin
from gateway.releases import Release, ReleasePlan, ReleaseStatus, SupersedePolicy
from gateway.versions import ModelVersion

MOST_QUEUED = 10
Breaking = Callable[[ModelMetadata, ModelMetadata], list[str]]


def start_release(
    store: Store,
    plan: ReleasePlan,
    *,
    now: int,
    if_running: SupersedePolicy | None = None,
    breaking: Breaking = lambda old, new: [],
    step: Step = no_step,
) -> tuple[ReleasePlan, ReleaseStatus]:
    """Starts or queues what `plan` says and returns it as it was written, with RUNNING or QUEUED.

    Its id, salt (unless given), stable version and time are set here. `if_running` says what to do while another one is
    in progress; by default what that one's plan says. The watch of a promoted one ends. `breaking` says what would
    break callers of the one version if the other answered them (`core.compatibility`): such a version cannot share
    their traffic.

    Raises:
        PublishError: it cannot start; the message says why and what to do.
    """
    model = plan.model_name
    check_who(model, plan.actor)
    for number in (arm.version for arm in plan.arms):
        check_servable(store, ModelVersion(model, number))
    pin(store, model, plan.actor)
    pointer = pointer_of(store, model)
    if pointer is None or pointer.stable is None:
        raise PublishError(f"{model} is not served: serve the version that the new one is compared with first")
    plan = replace(plan, stable=pointer.stable, created_at=now)
    policy = if_running or (pointer.release.plan.on_newer if pointer.release else SupersedePolicy.REFUSE)
    _check(pointer, plan, policy)
    _check_callers(store, plan, breaking)
    plan = _claimed(store, plan)
    step("claimed")
    for _ in range(MOST_TRIES):
        pointer = pointer_of(store, model)
        running = pointer.release if pointer is not None else None
        waits = running is not None and _busy(running) and policy is SupersedePolicy.QUEUE
        first = first_progress(now)
        bundle = EvidenceBundle(
            release=Release(plan, replace(first, status=ReleaseStatus.QUEUED) if waits else first),
            decision=Decision(kind=DecisionKind.START, detail=plan.reason or ("queued" if waits else "started")),
            at=now,
            actor=plan.actor,
        )
        ended = _superseded(running, plan, now) if running is not None and not waits else None
        try:
            transact(store, bundle, _starting(plan, running, policy, now), actor=plan.actor, step=step, ended=ended)
        except NotAsItWas:
            continue
        mend_journal(store, model)
        return plan, bundle.release.progress.status
    raise StoreError(f"the releases of {model} are being changed by others: try again")


def _starting(
    plan: ReleasePlan, running: Release | None, policy: SupersedePolicy, now: int
) -> Callable[[ServingPointer | None, Written], ServingPointer]:
    def change(before: ServingPointer | None, written: Written) -> ServingPointer:
        if before is None or before.release != running:
            raise NotAsItWas
        _check(before, plan, policy)
        if running is not None and _busy(running) and policy is SupersedePolicy.QUEUE:
            return replace(before, queued=(*before.queued, plan))
        return replace(before, release=Release(plan, replace(first_progress(now), evidence=written.sha256)))

    return change


def _check_callers(store: Store, plan: ReleasePlan, breaking: Breaking) -> None:
    """Raises PublishError if an arm could not answer the callers of the stable version."""
    stable = _metadata(store, ModelVersion(plan.model_name, plan.stable))
    for arm in plan.arms:
        version = ModelVersion(plan.model_name, arm.version)
        tried = _metadata(store, version)
        problems = breaking(stable, tried) if stable is not None and tried is not None else []
        if problems:
            raise PublishError(f"{version} would break callers of version {plan.stable}: {'; '.join(problems)}")


def _metadata(store: Store, version: ModelVersion) -> ModelMetadata | None:
    stored = store.read(f"{version.model_name}/{version.number}/{MANIFEST_FILE}")
    return metadata_of(manifest_of(stored.content, version)) if stored is not None else None


def _check_readable(plan: ReleasePlan) -> None:
    """Raises PublishError if what would be written could not be read again."""
    problems: list[str] = []
    read_plan(Reader(render_plan(plan), "", problems))
    if problems:
        raise PublishError("; ".join(problems))


def _busy(release: Release) -> bool:
    return release.progress.status in IN_PROGRESS


def _check(pointer: ServingPointer, plan: ReleasePlan, policy: SupersedePolicy) -> None:
    """Raises PublishError unless the release may start, or wait, beside what the pointer says."""
    model, running = plan.model_name, pointer.release
    if running is not None and _busy(running):
        if policy is SupersedePolicy.REFUSE:
            raise PublishError(
                f"release {running.plan.id} of {model} is in progress: promote it or roll it back first, or say what "
                "to do with this one (--if-running queue or supersede)"
            )
        if policy is SupersedePolicy.QUEUE and len(pointer.queued) >= MOST_QUEUED:
            raise PublishError(f"{MOST_QUEUED} releases of {model} wait already")
    if pointer.stable != plan.stable:
        raise PublishError(f"{model}/{plan.stable} is no longer the one that is served: start again")
    for arm in plan.arms:
        if arm.version == pointer.stable:
            raise PublishError(f"{model}/{arm.version} is the stable version already")
        if not plan.retry:
            check_not_rejected(pointer, ModelVersion(model, arm.version))


def _superseded(running: Release, newer: ReleasePlan, now: int) -> EvidenceBundle:
    """The record of a release that ends because a newer one takes its place."""
    decision = by_hand(running, DecisionKind.SUPERSEDE, f"superseded by {newer.id}", status=ReleaseStatus.ENDED)
    return EvidenceBundle(release=running, decision=decision, at=now, actor=newer.actor)


def _claimed(store: Store, plan: ReleasePlan) -> ReleasePlan:
    """Returns the plan with an id that no release had before, and takes it.

    Raises:
        PublishError: the plan is wrong.
    """
    taken = store.names(f"{plan.model_name}/releases")
    number = max((int(name.rpartition("-r")[2]) for name in taken if name.rpartition("-r")[2].isdecimal()), default=0)
    while True:
        number += 1
        release_id = f"{plan.model_name}-r{number}"
        found = replace(plan, id=release_id, salt=plan.salt or release_id)
        _check_readable(found)
        try:
            store.create(
                f"{bundle_folder(found)}/plan.json", (json.dumps(render_plan(found), indent=1) + "\n").encode()
            )
        except AlreadyThere:
            continue
        return found
