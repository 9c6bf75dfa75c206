"""Who did what to the registry, when and why: `journal.ndjson`, one JSON object a line, only ever added to.

Invariant: an entry is written after the change it tells of, and the change itself carries enough (the pointer's
history, the manifest's lineage) that `publishing.recover` can write the entry of a process that died in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.registry import layout
from gateway.registry.store import Store

_MOST_TEXT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change. `at` is UTC in ISO 8601; `more` holds what only this action has, such as a manifest's digest."""

    at: str
    actor: str
    action: str
    model: str
    version: int | None = None
    generation: int | None = None
    reason: str = ""
    more: dict[str, Any] = field(default_factory=dict)


def note(store: Store, entry: Entry) -> None:
    """Adds the entry to the registry's journal."""
    document: dict[str, Any] = {"at": entry.at, "actor": entry.actor[:_MOST_TEXT], "action": entry.action}
    if entry.model:
        document["model"] = entry.model
    if entry.version is not None:
        document["version"] = entry.version
    if entry.generation is not None:
        document["generation"] = entry.generation
    document["reason"] = entry.reason[:_MOST_TEXT]
    store.append(layout.JOURNAL_FILE, json.dumps(document | entry.more).encode())


def entries(store: Store, model: str | None = None) -> Iterator[dict[str, Any]]:
    """Yields the journal's entries, oldest first, of one model or of all. Lines that are no entry are left out."""
    for line in store.lines(layout.JOURNAL_FILE):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and (model is None or found.get("model") == model):
            yield found
