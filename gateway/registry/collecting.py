"""Removes what nobody needs: what crashed publishers left, and versions that were retired long enough ago.

Invariants: a version that a pointer names is never removed; what may still be written by somebody is left alone; every
version removed is in the journal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.registry import journal, numbering
from gateway.registry.document import DocumentError
from gateway.registry.pointing import pointer_of
from gateway.registry.publishing import recover
from gateway.registry.store import Store
from gateway.registry.switching import check_who, now
from gateway.registry.verifying import models_in
from gateway.versions import ModelVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Ages:
    """In seconds: how long a retired version is kept, and how long unfinished work of unknown owners is."""

    retired_s: float = 7 * 86_400.0
    unfinished_s: float = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was removed, or would be: a line about each, journal entries written for dead publishers, versions kept."""

    leftovers: tuple[str, ...]
    versions: tuple[ModelVersion, ...]
    recovered: int


def collect(store: Store, *, actor: str, reason: str = "", ages: Ages | None = None, remove: bool = True) -> Collected:
    """Removes everything that is not needed; with `remove` False only says what that would be."""
    ages = ages or Ages()
    check_who("gc", actor)
    leftovers = store.leftovers(ages.unfinished_s, remove=remove)
    removed: list[ModelVersion] = []
    recovered = 0
    for model in models_in(store):
        recovered += recover(store, model) if remove else 0
        for number in _removable(store, model, ages.retired_s):
            version = ModelVersion(model, number)
            removed.append(version)
            if remove:
                store.remove(f"{model}/{number}")
                journal.note(
                    store,
                    journal.Entry(at=now(), actor=actor, action="remove", model=model, version=number, reason=reason),
                )
    return Collected(leftovers=tuple(leftovers), versions=tuple(removed), recovered=recovered)


def _removable(store: Store, model: str, retired_s: float) -> list[int]:
    marks = numbering.retired(store, model)
    present = [number for number in numbering.numbers_present(store, model) if number in marks]
    if not present:
        return []
    try:
        pointer = pointer_of(store, model)
    except DocumentError:
        return []
    # Whatever else the pointer names (a release's arms, a shadow) counts as needed: any number in it keeps its version.
    needed = set(pointer.needed) | _numbers(pointer.other.get("shadow")) if pointer else set()
    return [number for number in present if number not in needed and _age(marks[number]) >= retired_s]


def _numbers(value: object) -> set[int]:
    if isinstance(value, dict):
        return set().union(*(_numbers(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(_numbers(item) for item in value))
    return {value} if isinstance(value, int) else set()


def _age(mark: bytes) -> float:
    """Returns the seconds since the version was retired; 0 if the mark cannot be read, so that it is kept."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(json.loads(mark)["at"])).total_seconds()
    except (ValueError, KeyError, TypeError):
        return 0.0
