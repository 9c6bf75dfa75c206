"""Says which versions of a model are served: serve one, stop the model, retire a version.

Invariants: only a version that is complete and not retired can be served; what gets traffic cannot be retired; a
release in progress is not disturbed; every change has an actor and is in the journal. All functions block.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from gateway.registry import journal, layout, numbering
from gateway.registry.document import DocumentError
from gateway.registry.manifest import Manifest, parse_manifest
from gateway.registry.pointing import change_pointer, pointer_of
from gateway.registry.serving import ServingPointer
from gateway.registry.store import Store
from gateway.versions import ModelVersion


class PublishError(ValueError):
    """What was asked for cannot be done; the message says why and what to do. Nothing visible was changed."""


class NotInRegistry(PublishError):
    """There is no such model or version."""


class BadSource(PublishError):
    """What was handed over cannot be published."""


def serve_version(
    store: Store,
    version: ModelVersion,
    *,
    actor: str,
    reason: str = "",
    also: tuple[int, ...] | None = None,
    allow_breaking: bool = False,
    retry: bool = False,
) -> ServingPointer:
    """Makes `version` the stable one and returns the pointer; `also` (if given) are those that stay loaded beside it.

    `allow_breaking` lets it take over although it would break the callers of the version before, `retry` although it
    was rolled back. Serving what is served already changes nothing.

    Raises:
        PublishError: no such version, it was retired or rolled back, or a release is in progress.
    """
    model = version.model_name
    check_who(model, actor)
    breaking = version.number if allow_breaking else None
    for number in (version.number, *(also or ())):
        check_servable(store, ModelVersion(model, number))

    def change(before: ServingPointer | None) -> ServingPointer | None:
        check_no_release(before)
        if before is None:
            return ServingPointer(1, version.number, also or (), breaking)
        if not retry and before.stable != version.number:
            check_not_rejected(before, version)
        kept = tuple(number for number in before.also if number != version.number) if also is None else also
        if (before.stable, before.also) == (version.number, kept) and breaking in (None, before.allow_breaking):
            return None
        return replace(before, stable=version.number, also=kept, allow_breaking=breaking)

    pointer = _change(store, version, "serve", change, actor, reason)
    assert pointer is not None
    return pointer


def stop_serving(store: Store, model: str, *, actor: str, reason: str = "") -> ServingPointer:
    """Takes the whole model out of service; its versions stay in the registry."""
    check_who(model, actor)
    if not numbering.numbers_present(store, model) and pointer_of(store, model) is None:
        raise NotInRegistry(f"{model} is not in the registry")

    def change(before: ServingPointer | None) -> ServingPointer | None:
        check_no_release(before)
        if before is None:
            return ServingPointer(1, None)
        return None if before.stable is None else replace(before, stable=None, also=())

    pointer = _change(store, ModelVersion(model, 0), "stop", change, actor, reason)
    assert pointer is not None
    return pointer


def retire_version(store: Store, version: ModelVersion, *, actor: str, reason: str = "") -> ServingPointer | None:
    """Marks a version that is not the stable one as retired: it can not be served again, and `gc` may delete it.

    Returns the pointer. Raises PublishError if the version is not there or gets traffic.
    """
    model = version.model_name
    check_who(model, actor)
    if version.number not in numbering.numbers_present(store, model):
        raise NotInRegistry(f"{version} is not in the registry")
    pin(store, model, actor)

    def change(before: ServingPointer | None) -> ServingPointer | None:
        check_no_release(before)
        if before is not None and before.stable == version.number:
            raise PublishError(f"{version} is the one that is served: serve another version first, or stop the model")
        if before is None or version.number not in before.also:
            return None
        return replace(before, also=tuple(number for number in before.also if number != version.number))

    mark = {"at": now(), "actor": actor, "reason": reason}
    pointer = _change(store, version, "unlist", change, actor, reason)
    numbering.retire(store, version, json.dumps(mark).encode())
    journal.note(
        store,
        journal.Entry(at=mark["at"], actor=actor, action="retire", model=model, version=version.number, reason=reason),
    )
    return pointer


def pin(store: Store, model: str, actor: str) -> None:
    """Gives a model without a pointer one that says what is served anyhow, so that a new version changes nothing."""

    def change(before: ServingPointer | None) -> ServingPointer | None:
        present = numbering.numbers_present(store, model)
        return None if before is not None else ServingPointer(1, present[-1] if present else None)

    _change(store, ModelVersion(model, 0), "pin", change, actor, "to change nothing that is served")


def check_who(model: str, actor: str) -> None:
    """Raises PublishError unless the model's name is allowed and somebody is named."""
    if not layout.is_model_name(model):
        raise PublishError(f"{model!r} is not a model name ({layout.MODEL_NAME.pattern})")
    if not actor.strip() or any(ord(character) < 32 for character in actor):
        raise PublishError("an actor is needed: who does this?")


def check_no_release(pointer: ServingPointer | None) -> None:
    """Raises PublishError if a release is in progress."""
    if pointer is not None and pointer.release is not None:
        plan, status = pointer.release.plan, pointer.release.progress.status.value
        raise PublishError(
            f"release {plan.id} of this model is {status}: promote it or roll it back first (`sluice releases`)"
        )


def check_not_rejected(pointer: ServingPointer, version: ModelVersion) -> None:
    """Raises PublishError if a release of the version was rolled back."""
    found = next((item for item in reversed(pointer.rejected) if item.version == version.number), None)
    if found is not None:
        raise PublishError(
            f"{version} was rolled back by {found.release} ({found.reason}): publish a better one, or insist (--retry)"
        )


def now() -> str:
    """Returns the time as the journal writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def manifest_of(content: bytes, version: ModelVersion) -> Manifest:
    """Returns the parsed manifest. Raises PublishError."""
    try:
        return parse_manifest(content, version)
    except DocumentError as error:
        raise PublishError(f"{version}: {error}") from error


def _change(
    store: Store,
    version: ModelVersion,
    action: str,
    change: Callable[[ServingPointer | None], ServingPointer | None],
    actor: str,
    reason: str,
) -> ServingPointer | None:
    """Changes the pointer and, if that changed something, writes the journal."""
    at = now()
    model = version.model_name
    changed = False

    def noticed(before: ServingPointer | None) -> ServingPointer | None:
        nonlocal changed
        wanted = change(before)
        changed = wanted is not None
        return wanted

    after = change_pointer(store, model, noticed, at, actor, reason, {} if action == "serve" else {"action": action})
    if changed and after is not None:
        journal.note(
            store,
            journal.Entry(at=at, actor=actor, action=action, model=model, version=version.number or None,
                          generation=after.generation, reason=reason),
        )  # fmt: skip
    return after


def check_servable(store: Store, version: ModelVersion) -> None:
    """Raises PublishError unless the version is complete and not retired."""
    stored = store.read(f"{version.model_name}/{version.number}/{layout.MANIFEST_FILE}") if version.number > 0 else None
    if stored is None:
        raise NotInRegistry(f"{version} is not in the registry")
    if version.number in numbering.retired(store, version.model_name):
        raise PublishError(f"{version} was retired: publish it again under a new number")
    manifest_of(stored.content, version)
