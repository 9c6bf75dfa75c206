"""The temporary folder in which a version is laid out; what killed runs left of theirs is swept away.

A run holds a lock (flock) on its folder, which the kernel drops with the process however that ends: a folder of ours
that can be locked has no owner. Invariant: a folder is removed only by who holds its lock.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "sluice-quantize-"
MOST_SWEPT = 32
_TRIES = 16


@contextmanager
def workspace() -> Iterator[Path]:
    """Yields an empty folder of this process, after sweeping; removes it at the end.

    Raises:
        OSError: the folder cannot be made.
    """
    sweep(Path(tempfile.gettempdir()))
    folder, lock = _own_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path) -> list[Path]:
    """Removes this user's folders that no living process holds, at most `MOST_SWEPT`; returns which.

    Whatever cannot be looked at or removed is left: a later run, or the machine's own cleaning, has it.
    """
    swept: list[Path] = []
    for folder in sorted(parent.glob(f"{PREFIX}*")):
        if len(swept) == MOST_SWEPT:
            break
        with suppress(OSError):
            lock = _locked(folder)
            if lock is None:
                continue
            try:
                shutil.rmtree(folder)
                swept.append(folder)
            finally:
                os.close(lock)
    return swept


def _own_folder() -> tuple[Path, int]:
    """A sweeper may come between making and locking: then the folder is gone, and another is made."""
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):
            lock = _locked(folder)
            if lock is not None and folder.is_dir():
                return folder, lock
            if lock is not None:
                os.close(lock)
    raise OSError(f"no folder of our own in {tempfile.gettempdir()}: every one was swept away")


def _locked(folder: Path) -> int | None:
    """Returns the lock (a file descriptor) of a folder of this user, None if it is another's or somebody holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid == os.getuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None
