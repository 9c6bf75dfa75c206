"""Looks at documents and folders again and again, and reads only what may have changed.

Invariants: what is said of a document is always its content's digest, never a time stamp; marks (a file's inode, size
and times, an object's ETag) only spare the reading, and none is believed for longer than a minute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from gateway.registry.store import SAME, Listed, Mark, Same, Stored, Written

_BELIEVED_S = 60.0


class Reader(Protocol):
    """The part of `store.Store` that following takes."""

    @property
    def location(self) -> str: ...

    @property
    def lanes(self) -> int: ...

    @property
    def listing_seconds(self) -> float: ...

    def check(self) -> None: ...

    def read(self, key: str) -> Stored | None: ...

    def reread(self, key: str, mark: Mark) -> Stored | Same | None: ...

    def mark(self, key: str) -> Mark: ...

    def names(self, folder: str) -> list[str]: ...

    def relist(self, folder: str, mark: Mark) -> Listed | Same: ...

    def sizes(self, folder: str) -> Mapping[str, int]: ...

    def digest(self, key: str) -> Written | None: ...

    def fetch(self, key: str, target: Path, most: int | None = None) -> Written: ...


class Glance(NamedTuple):
    """A document's sha256; its `content` only if it is not what the last glance saw."""

    digest: str
    content: bytes | None


class _Seen(NamedTuple):
    """`digest` "" stands for nothing there. `read_at` is when it was read in full, `at` when it was asked about."""

    digest: str
    mark: Mark
    read_at: float
    at: float


class _Folder(NamedTuple):
    names: tuple[str, ...]
    mark: Mark
    read_at: float


class Glances:
    """Owns the memory of what was seen. `now` gives seconds; where it jumps, things are read anew.

    Different keys may be asked about by several threads at a time.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._documents: dict[str, _Seen] = {}
        self._folders: dict[str, _Folder] = {}

    def document(self, reader: Reader, key: str, believe_s: float = 0.0) -> Glance | None:
        """Returns what the document is, None if there is none; what was seen `believe_s` seconds ago is believed.

        Raises StoreError.
        """
        now, seen = self._now(), self._documents.get(key)
        if seen is not None and 0 <= now - seen.at < believe_s:
            return Glance(seen.digest, None) if seen.digest else None
        trusted = seen is not None and 0 <= now - seen.read_at < _BELIEVED_S
        found = reader.reread(key, seen.mark if seen is not None and trusted else None)
        if found is SAME:
            assert seen is not None
            self._documents[key] = _Seen(seen.digest, seen.mark, seen.read_at, now)
            return Glance(seen.digest, None)
        if found is None:
            self._documents[key] = _Seen("", None, now, now)
            return None
        digest = hashlib.sha256(found.content).hexdigest()
        self._documents[key] = _Seen(digest, found.mark, now, now)
        return Glance(digest, None if seen is not None and seen.digest == digest else found.content)

    def names(self, reader: Reader, folder: str, believe_s: float = 0.0) -> tuple[str, ...]:
        """Returns the names in the folder, sorted. Raises StoreError."""
        now, seen = self._now(), self._folders.get(folder)
        if seen is not None and 0 <= now - seen.read_at < believe_s:
            return seen.names
        trusted = seen is not None and 0 <= now - seen.read_at < _BELIEVED_S
        found = reader.relist(folder, seen.mark if seen is not None and trusted else None)
        if found is SAME:
            assert seen is not None
            return seen.names
        self._folders[folder] = _Folder(found.names, found.mark, now)
        return found.names

    def keep(self, documents: Collection[str], folders: Collection[str]) -> None:
        """Forgets everything else."""
        self._documents = {key: seen for key, seen in self._documents.items() if key in documents}
        self._folders = {key: seen for key, seen in self._folders.items() if key in folders}
