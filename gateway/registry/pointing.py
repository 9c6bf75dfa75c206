"""Changes a model's pointer by compare-and-swap.

Invariants: every change adds one to the generation and one entry to the pointer's own history; a change that lost
against another one is decided again on what the other one left, never written over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gateway.registry import layout
from gateway.registry.serving import ServingPointer, parse_serving, render_serving
from gateway.registry.store import AlreadyThere, Changed, Store, StoreError

MOST_HISTORY = 50
_MOST_TRIES = 1000

Change = Callable[[ServingPointer | None], ServingPointer | None]
"""Returns what the pointer should become (its generation and history are ignored); None to leave it as it is."""


def pointer_of(store: Store, model: str) -> ServingPointer | None:
    """Returns the model's pointer, None if it has none. Raises DocumentError if it cannot be used."""
    stored = store.read(f"{model}/{layout.SERVING_FILE}")
    return None if stored is None else parse_serving(stored.content)


def change_pointer(
    store: Store,
    model: str,
    change: Change,
    at: str,
    actor: str,
    reason: str,
    more: Mapping[str, Any] | None = None,
) -> ServingPointer | None:
    """Applies `change` and returns the pointer as it is then; the very pointer that was there if nothing was to do.

    `more` is noted in the pointer's history beside who, when and why.

    Raises:
        DocumentError: the pointer that is there cannot be used, or what it should become could not.
        StoreError: the store failed, or others kept changing the pointer.
    """
    key = f"{model}/{layout.SERVING_FILE}"
    for _ in range(_MOST_TRIES):
        stored = store.read(key)
        before = None if stored is None else parse_serving(stored.content)
        wanted = change(before)
        if wanted is None:
            return before
        after = _stamped(wanted, before, at, actor, reason, more or {})
        content = render_serving(after)
        parse_serving(content)  # what could not be read again could never be changed again
        try:
            if stored is None:
                store.create(key, content)
            else:
                store.replace(key, content, stored.tag)
        except (AlreadyThere, Changed):
            continue
        store.touch()
        return after
    raise StoreError(f"{key} was changed by others {_MOST_TRIES} times in a row: try again")


def _stamped(
    wanted: ServingPointer,
    before: ServingPointer | None,
    at: str,
    actor: str,
    reason: str,
    more: Mapping[str, Any],
) -> ServingPointer:
    generation = (before.generation if before else 0) + 1
    entry: dict[str, Any] = {
        "generation": generation,
        "stable": wanted.stable,
        "at": at,
        "actor": actor[:200],
        "reason": reason[:500],
    }
    if wanted.also:
        entry["also"] = list(wanted.also)
    entry |= more
    history = [*(before.history if before else ()), entry][-MOST_HISTORY:]
    return replace(wanted, generation=generation, other={**wanted.other, "history": history})
