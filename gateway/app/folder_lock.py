"""Keeps a second gateway out of a folder that belongs to one.

Invariant: the lock goes with the process, however that ends; nothing has to be cleaned up.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

_log = logging.getLogger("sluice")
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})


class FolderInUse(Exception):
    """Another gateway uses the folder; the message says what to do."""


class FolderLock:
    """Owns the lock on a `folder`; `setting` is its name in the configuration."""

    def __init__(self, folder: Path, setting: str) -> None:
        """Takes the lock. Goes on without one where the file system has none.

        Raises:
            FolderInUse: somebody else has it.
        """
        self._handle: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if error.errno in _TAKEN:
                raise FolderInUse(
                    f"another gateway uses {folder}: stop it, or give this one its own folder ({setting})"
                ) from None
            _log.warning("%s cannot be locked (%s): let no other gateway use it", folder, error.strerror)

    def release(self) -> None:
        """Lets others in. Harmless when that was done before."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
