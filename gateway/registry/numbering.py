"""Gives out version numbers: each once, for ever.

A number is taken by creating its marker, `.registry/numbers/<model>/<n>`. Invariant: markers are never removed, so a
number does not come back when its version is deleted; a publisher that dies leaves a gap.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress

from gateway.registry import layout
from gateway.registry.glances import Reader
from gateway.registry.store import AlreadyThere, Store
from gateway.versions import ModelVersion

_NUMBERS = f"{layout.OWN_FOLDER}/numbers"
_RETIRED = f"{layout.OWN_FOLDER}/retired"


class NoNumberLeft(ValueError):
    """The model has the highest version number that there is."""


def next_number(store: Store, model: str, at: str, actor: str) -> int:
    """Returns a number that no version of the model had or will have, and takes it.

    Raises:
        NoNumberLeft: the next one is none that readers know, such as after a folder 9999999999 placed by hand.
    """
    number = max(numbers_given(store, model), default=0)
    while True:
        number += 1
        if number > layout.HIGHEST_VERSION:
            raise NoNumberLeft(
                f"{model} has a version {layout.HIGHEST_VERSION}, the highest there is: no number is left; "
                "publish under another name"
            )
        try:
            store.create(f"{_NUMBERS}/{model}/{number}", _marker(at, actor))
        except AlreadyThere:
            continue
        return number


def _marker(at: str, actor: str) -> bytes:
    """Returns a content that no other marker has: a writer whose answer was lost knows its own by it."""
    return json.dumps({"at": at, "actor": actor, "id": os.urandom(12).hex()}).encode()


def numbers_given(store: Store, model: str) -> set[int]:
    """Returns every number that is taken: by a marker, or by a folder that somebody put there by hand."""
    names = [*store.names(f"{_NUMBERS}/{model}"), *store.names(model)]
    return {number for name in names if (number := layout.version_number(name)) is not None}


def numbers_present(store: Store, model: str) -> tuple[int, ...]:
    """Returns the numbers of the model's complete versions, in rising order."""
    numbers = (layout.version_number(name) for name in store.names(model))
    return tuple(
        sorted(n for n in numbers if n is not None and store.read(f"{model}/{n}/{layout.MANIFEST_FILE}") is not None)
    )


def retire(store: Store, version: ModelVersion, content: bytes) -> None:
    """Marks the version as retired; again is harmless."""
    with suppress(AlreadyThere):
        store.create(f"{_RETIRED}/{version.model_name}/{version.number}", content)


def is_retired(store: Reader, version: ModelVersion) -> bool:
    """Returns whether the version was retired."""
    return store.read(f"{_RETIRED}/{version.model_name}/{version.number}") is not None


def retired(store: Store, model: str) -> dict[int, bytes]:
    """Returns what was said when they were retired, by number."""
    found = {}
    for name in store.names(f"{_RETIRED}/{model}"):
        stored = store.read(f"{_RETIRED}/{model}/{name}")
        if (number := layout.version_number(name)) is not None and stored is not None:
            found[number] = stored.content
    return found
