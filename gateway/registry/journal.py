"""Who did what to the registry, when and why: `journal.ndjson`, one JSON object a line, only ever added to.

Invariant: an entry is written after the change it tells of, and the change itself carries enough (the pointer's
history, the manifest's lineage) that `publishing.recover` can write the entry of a process that died in between, or
that could not write it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from gateway.registry import layout
from gateway.registry.store import Store, StoreError

_log = logging.getLogger("sluice.registry")
_MOST_TEXT = 2000
_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


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


@contextmanager
def warnings_heard() -> Iterator[list[str]]:
    """Collects what the caller should be told although all went well; otherwise it goes to the log."""
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


def note(store: Store, entry: Entry) -> bool:
    """Adds the entry to the registry's journal, and returns whether that went well.

    What it tells of has been done by then, so a failure is a warning and not an error: whoever took it for one would do
    it again, or think that the old version is still the one to serve.
    """
    document: dict[str, Any] = {"at": entry.at, "actor": entry.actor[:_MOST_TEXT], "action": entry.action}
    if entry.model:
        document["model"] = entry.model
    if entry.version is not None:
        document["version"] = entry.version
    if entry.generation is not None:
        document["generation"] = entry.generation
    document["reason"] = entry.reason[:_MOST_TEXT]
    try:
        store.append(layout.JOURNAL_FILE, json.dumps(document | entry.more).encode())
    except StoreError as error:
        later = "" if entry.action == "remove" else "; `sluice models gc`, or the next to publish, enters it"
        what = f"{entry.action} {entry.model}" + (f"/{entry.version}" if entry.version is not None else "")
        warn(f"{what}: done, but not in the journal ({error}){later}")
        return False
    return True


def warn(text: str) -> None:
    """Tells whoever listens (see `warnings_heard`) something that is no failure."""
    heard = _heard.get()
    if heard is None:
        _log.warning("registry: %s", text)
    else:
        heard.append(text)


def entries(store: Store, model: str | None = None) -> Iterator[dict[str, Any]]:
    """Yields the journal's entries, oldest first, of one model or of all. Lines that are no entry are left out."""
    for line in store.lines(layout.JOURNAL_FILE):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and (model is None or found.get("model") == model):
            yield found
