"""The temporary folder in which a version is laid out; what killed runs left of theirs is swept away.

A run holds a lock (flock) on its folder, which the kernel drops with the process however that ends: a folder of ours
that can be locked has no owner. Invariant: a folder is removed only by who holds its lock. Where the file system has no
such locks, a run does without, and nothing is swept.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "sluice-quantizing-"
MOST_SWEPT = 32
_TRIES = 16
_NO_LOCKS = {errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK}
"""What flock on a directory says on NFS and other file systems that have none."""


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
        if lock is not None:
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


def _own_folder() -> tuple[Path, int | None]:
    """Returns a new folder and its lock, None where there are no locks.

    A sweeper may come between making and locking: then the folder is gone, and another is made.
    """
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):
            try:
                lock = _locked(folder)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                return folder, None
            if lock is not None and folder.is_dir():
                return folder, lock
            if lock is not None:
                os.close(lock)
    raise OSError(f"no folder of our own in {tempfile.gettempdir()}: every one was swept away")


def _locked(folder: Path) -> int | None:
    """Returns the lock (a file descriptor) of a folder of this user, None if it is another's or somebody holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    held = False
    try:
        if os.fstat(descriptor).st_uid == os.getuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
    except BlockingIOError:
        pass
    finally:
        if not held:
            os.close(descriptor)
    return descriptor if held else None
