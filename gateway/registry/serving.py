"""The pointer of a model, `serving.json`: which of its versions should be served.

Invariants: the stable version comes first in `desired`; a pointer without a stable version serves nothing. What this
reader does not interpret (the history) is kept as it stands in `other`, so that whoever rewrites the pointer loses
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.registry.document import DocumentError, Reader, parse_object
from gateway.registry.layout import SERVING_FILE
from gateway.registry.release_document import (
    Rejection,
    read_plan,
    read_rejection,
    read_release,
    render_plan,
    render_rejection,
    render_release,
)
from gateway.releases import Release, ReleasePlan, ReleaseStatus

SCHEMA_VERSION = 1
_OTHER_KEYS = ("shadow", "history")


@dataclass(frozen=True, slots=True)
class ServingPointer:
    """`generation` grows with every change; `stable` gets the traffic; `also` stay loaded for callers who name them.

    `stable` None (`null` in the file) means that the model is not served. `allow_breaking` names the version that may
    break the callers of the one before it; it says nothing about later ones. `release` is in progress, or promoted and
    still watched; `queued` wait for it to end, in this order; `rejected` are the versions that were rolled back.
    """

    generation: int
    stable: int | None
    also: tuple[int, ...] = ()
    allow_breaking: int | None = None
    release: Release | None = None
    queued: tuple[ReleasePlan, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def desired(self) -> tuple[int, ...]:
        """The versions to serve, each once: the stable one first, then the release's; none without a stable one."""
        if self.stable is None:
            return ()
        return tuple(dict.fromkeys((self.stable, *self._released(), *self.also)))

    @property
    def needed(self) -> frozenset[int]:
        """Every version that the pointer may still come back to: none of them may be deleted."""
        plans = [*([self.release.plan] if self.release else []), *self.queued]
        named = {number for plan in plans for number in (plan.stable, *(arm.version for arm in plan.arms))}
        return frozenset({*self.desired, *named})

    def _released(self) -> tuple[int, ...]:
        """What the release needs loaded: its arms, or what it would be rolled back to."""
        if self.release is None:
            return ()
        plan, status = self.release.plan, self.release.progress.status
        if status is ReleaseStatus.PROMOTED:
            return (plan.stable,)
        in_progress = status in (ReleaseStatus.RUNNING, ReleaseStatus.PAUSED)
        return tuple(arm.version for arm in plan.arms) if in_progress else ()

    @property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """The last changes, oldest first: `generation`, `stable`, `at`, `actor`, `reason`."""
        return tuple(item for item in self.other.get("history", ()) if isinstance(item, dict))


def parse_serving(content: bytes) -> ServingPointer:
    """Returns the pointer in `content`.

    Raises:
        DocumentError: with every problem found, each with its dotted path.
    """
    problems: list[str] = []
    reader = Reader(parse_object(SERVING_FILE, content), "", problems)
    if reader.integer("schema_version", minimum=1) != SCHEMA_VERSION:
        reader.problem("schema_version", f"must be {SCHEMA_VERSION}")
    pointer = ServingPointer(
        generation=reader.integer("generation", minimum=1),
        stable=None if reader.null("stable") else reader.integer("stable", minimum=1),
        also=reader.integers("also", minimum=1) if reader.has("also") else (),
        allow_breaking=reader.integer("allow_breaking", minimum=1) if reader.has("allow_breaking") else None,
        release=read_release(reader.child("release")) if reader.mapping("release") else None,
        queued=tuple(read_plan(plan) for plan in reader.objects("releases_queued", required=False)),
        rejected=tuple(read_rejection(item) for item in reader.objects("rejected", required=False)),
        other={key: reader.mapping(key) if key != "history" else reader.items(key) for key in _OTHER_KEYS},
    )
    reader.close()
    if problems:
        raise DocumentError(SERVING_FILE, problems)
    return pointer


def release_text(pointer: ServingPointer) -> str:
    """Returns the pointer's release as JSON, empty if it has none."""
    return json.dumps(render_release(pointer.release)) if pointer.release is not None else ""


def parse_release(text: str) -> Release:
    """Returns what `release_text` wrote. Raises DocumentError."""
    problems: list[str] = []
    release = read_release(Reader(parse_object("release", text.encode()), "", problems))
    if problems:
        raise DocumentError("release", problems)
    return release


def render_serving(pointer: ServingPointer) -> bytes:
    """Returns the file's content; what `parse_serving` reads from it is `pointer` again."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "generation": pointer.generation,
        "stable": pointer.stable,
    }
    if pointer.also:
        document["also"] = list(pointer.also)
    if pointer.allow_breaking is not None:
        document["allow_breaking"] = pointer.allow_breaking
    if pointer.release is not None:
        document["release"] = render_release(pointer.release)
    if pointer.queued:
        document["releases_queued"] = [render_plan(plan) for plan in pointer.queued]
    if pointer.rejected:
        document["rejected"] = [render_rejection(rejection) for rejection in pointer.rejected]
    document |= {key: value for key, value in pointer.other.items() if value}
    return (json.dumps(document, indent=2) + "\n").encode()
