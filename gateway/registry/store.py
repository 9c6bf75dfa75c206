"""The store port: what a registry needs from the place where it lies, be it a folder or a bucket.

Keys are relative paths with "/". Three guarantees carry everything above: a version is complete or absent; `create`
never overwrites; of two `replace` calls that started from the same content, at most one wins. What a call returned
from is durable. All calls block: make them off the event loop.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

Step = Callable[[str], None]
"""Hears the name of each step as it is reached. Tests kill the process there; production passes `no_step`."""


def no_step(_: str) -> None:
    """Ignores a step."""


class StoreError(Exception):
    """The store cannot do what was asked; the message says why and what to do."""


class Unfit(StoreError):
    """The place can be reached and cannot hold a registry: two writers could overwrite each other there."""


class AlreadyThere(StoreError):
    """Something of that name exists, and nothing was changed."""


class Changed(StoreError):
    """The content is not the one that was read, and nothing was changed: read again and decide again."""


Mark: TypeAlias = Hashable
"""Tells cheaply that something is still what it was: equal marks, equal content. None tells nothing."""


class Unchanged(enum.Enum):
    """The type of SAME."""

    SAME = "same"


SAME: Final = Unchanged.SAME
"""What was asked about is what it was."""
ABSENT: Final = "absent"
"""The mark of what is not there."""
Same = Literal[Unchanged.SAME]


@dataclass(frozen=True, slots=True)
class Stored:
    """A small document and the tag of exactly this content, for `Store.replace`."""

    content: bytes
    tag: str
    mark: Mark = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Listed:
    """The names of what lies in a folder, sorted."""

    names: tuple[str, ...]
    mark: Mark = None


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: bytes and sha256 in lower-case hex."""

    size: int
    sha256: str
    mark: Mark = field(default=None, compare=False)


class Writing(Protocol):
    """One version on its way into the store; nobody sees it before `commit` returns."""

    def add(self, path: str, source: Path | bytes) -> Written:
        """Writes one file of the version. `path` was checked by `layout.relative_problem`."""
        ...

    def written(self, path: str) -> Written:
        """Returns what reading the file back from the store gives."""
        ...

    def commit(self, manifest: bytes) -> None:
        """Writes the manifest last and makes the version visible, complete. Raises AlreadyThere."""
        ...

    def abandon(self) -> None:
        """Removes what was written, unless it was committed. May be called again."""
        ...


class Store(Protocol):
    """Where a registry lies."""

    @property
    def location(self) -> str:
        """Returns the place for messages, without secrets."""
        ...

    @property
    def lanes(self) -> int:
        """Returns how many requests at a time it is worth making: 1 where each is quick."""
        ...

    @property
    def listing_seconds(self) -> float:
        """Returns how long a follower should believe a listing: 0 where listing costs nothing."""
        ...

    def check(self) -> None:
        """Returns if this place can hold a registry, or if that cannot be found out from here.

        Raises:
            Unfit: it cannot.
            StoreError: it cannot be reached.
        """
        ...

    def read(self, key: str) -> Stored | None:
        """Returns the document, None if there is none. Reads at most one byte more than a document may have."""
        ...

    def reread(self, key: str, mark: Mark) -> Stored | Same | None:
        """As `read`, but SAME if the document is surely the one that was read with `mark`."""
        ...

    def mark(self, key: str) -> Mark:
        """Returns the mark of a file of any size: ABSENT if it is not there, None if nothing can be said."""
        ...

    def relist(self, folder: str, mark: Mark) -> Listed | Same:
        """As `names`, but SAME if the names are surely those that were listed with `mark`."""
        ...

    def create(self, key: str, content: bytes) -> str:
        """Writes a new document and returns its tag. Raises AlreadyThere."""
        ...

    def replace(self, key: str, content: bytes, tag: str) -> str:
        """Writes over the content with `tag` and returns the new tag. Raises Changed."""
        ...

    def touch(self) -> None:
        """Tells those who follow that some pointer was changed. Only a hint: a failure is none of the caller's."""
        ...

    def append(self, key: str, line: bytes) -> None:
        """Adds one line (without line end) to a log, whole or not at all."""
        ...

    def lines(self, key: str) -> Iterator[bytes]:
        """Yields the lines of a log, oldest first; what a crash tore is left out."""
        ...

    def names(self, folder: str) -> list[str]:
        """Returns the names of what lies in the folder, sorted; none if there is no such folder."""
        ...

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Returns the size of every file below the folder, by its path there; links are left out."""
        ...

    def digest(self, key: str) -> Written | None:
        """Returns size and sha256 of a file of any size; None if it is not there. Raises StoreError for a link out."""
        ...

    def fetch(self, key: str, target: Path, most: int | None = None) -> Written:
        """Copies a file to a new local file and returns what was copied.

        Of a file with more than `most` bytes nothing is copied; what is returned then has its size and no sha256.
        """
        ...

    def begin(self, folder: str) -> Writing:
        """Starts writing a version's folder."""
        ...

    def remove(self, folder: str) -> None:
        """Removes a folder and all in it; for a version the manifest goes first. Nothing there is no error."""
        ...

    def leftovers(self, older_than_s: float, *, remove: bool) -> list[str]:
        """Finishes or finds what crashed publishers left, and with `remove` removes it; returns a line about each."""
        ...
