"""Files that survive a power cut: written, flushed to the disk, and their folder entry too.

Invariant: when a function returns, what it says is on the disk.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from gateway.registry.store import Mark, Written

_CHUNK = 1 << 20
_UNSETTLED_S = 2.0


def sync_folder(folder: Path) -> None:
    """Flushes the folder's entries."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Creates the folder and those above it that are missing, each entry flushed."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Writes a file that must not exist yet; its folder entry is left to the caller. Raises FileExistsError."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def copy_new(source: Path, target: Path, most: int | None = None) -> Written:
    """Copies a regular file (links are not followed) to a new file and returns what went through.

    Nothing is copied of a file with more than `most` bytes: what is returned has its size and no sha256.

    Raises:
        OSError: not there, a link, no space.
    """
    digest, size = hashlib.sha256(), 0
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    with open(handle, "rb") as reading:
        found = os.fstat(handle)
        if most is not None and found.st_size > most:
            return Written(found.st_size, "", mark_of(found))
        with open(target, "xb") as writing:
            while chunk := reading.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if most is not None and size > most:
                    break  # it grows while it is read
                writing.write(chunk)
            writing.flush()
            os.fsync(writing.fileno())
    return Written(size, digest.hexdigest(), mark_of(found))


def mark_of(found: os.stat_result) -> Mark:
    """Returns what changes when the file or folder does, None if it changed a moment ago.

    Two changes can fall into one tick of the file system's clock, so that the second one shows in nothing: what was
    touched within the last seconds gets no mark (as in git's index).
    """
    if abs(time.time() - max(found.st_mtime, found.st_ctime)) < _UNSETTLED_S:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def digest_of(path: Path) -> Written:
    """Returns size and sha256 of the file's content, streamed."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Written(size, digest.hexdigest())
