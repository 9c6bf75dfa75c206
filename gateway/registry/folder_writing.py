"""One version on its way into a registry folder: written in staging, flushed, moved into its place in one rename."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

from gateway.registry import durable, layout
from gateway.registry.store import AlreadyThere, Step, StoreError, Written


class FolderWriting:
    """A version that is written below the staging folder and moved into its place when it is complete."""

    def __init__(self, root: Path, folder: str, staged: Path, step: Step) -> None:
        self._root = root
        self._folder = folder
        self._staged = staged
        self._version = staged / "version"
        self._step = step
        self._version.mkdir()

    def add(self, path: str, source: Path | bytes) -> Written:
        target = self._version / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                durable.write_new(target, source)
                written = Written(len(source), hashlib.sha256(source).hexdigest())
            else:
                written = durable.copy_new(source, target)
        except OSError as error:
            raise failed(f"{path} cannot be written", error) from error
        self._step(f"wrote {path}")
        return written

    def written(self, path: str) -> Written:
        return durable.digest_of(self._version / path)

    def commit(self, manifest: bytes) -> None:
        place = self._root / self._folder
        try:
            durable.write_new(self._version / layout.MANIFEST_FILE, manifest)
            for parent, _, _ in os.walk(self._version):
                durable.sync_folder(Path(parent))
            self._step("wrote manifest.json")
            durable.make_folder(place.parent)
            os.rename(self._version, place)
            self._step("placed")
            durable.sync_folder(place.parent)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise AlreadyThere(f"{self._folder} is there already") from error
            raise failed(f"{self._folder} cannot be placed", error) from error
        self.abandon()

    def abandon(self) -> None:
        shutil.rmtree(self._staged, ignore_errors=True)


def failed(what: str, error: OSError) -> StoreError:
    """Returns the error to raise, with what to do about it."""
    reason = error.strerror or str(error)
    hint = {
        errno.ENOSPC: ": free some space",
        errno.EDQUOT: ": free some space",
        errno.EROFS: ": the registry is read-only here",
        errno.EACCES: ": this user may not write there",
        errno.EPERM: ": the file system has no hard links, or this user may not write there",
    }.get(error.errno or 0, "")
    return StoreError(f"{what} ({reason}){hint}")
