"""The reading half of a registry in a folder.

Invariants: documents are opened before they are looked at, because network file systems believe their caches otherwise;
a mark is given only to what has been at rest for a moment; no link leads out of a version, or out of the registry.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.registry import durable
from gateway.registry.document import MAX_DOCUMENT_BYTES
from gateway.registry.folder_writing import failed
from gateway.registry.integrity import safe_path
from gateway.registry.store import ABSENT, SAME, Listed, Mark, Same, Stored, StoreError, Written


class FolderReader:
    """Reads the registry below `root`, which must exist. The reading part of `store.Store`."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._base = str(self.root)  # joined by hand: a look asks about thousands of paths
        if not self.root.is_dir():
            raise StoreError(f"{root} is not a folder")

    @property
    def location(self) -> str:
        return str(self.root)

    @property
    def lanes(self) -> int:
        return 1

    @property
    def listing_seconds(self) -> float:
        return 0.0

    def check(self) -> None:
        """Nothing to find out: what a folder needs shows when something is written."""

    def read(self, key: str) -> Stored | None:
        found = self.reread(key, None)
        assert found is not SAME
        return found

    def reread(self, key: str, mark: Mark) -> Stored | Same | None:
        try:
            # Not blocking, and asked what it is: opening a pipe would wait for somebody to write into it.
            handle = os.open(f"{self._base}/{key}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(handle)
                if not stat.S_ISREG(status.st_mode):
                    raise StoreError(f"{key} is not a regular file")
                found = durable.mark_of(status)
                if mark is not None and found == mark:
                    return SAME
                with open(handle, "rb", closefd=False) as file:
                    content = file.read(MAX_DOCUMENT_BYTES + 1)
            finally:
                os.close(handle)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise failed(f"{key} cannot be read", error) from error
        return Stored(content, tag_of(content), found)

    def mark(self, key: str) -> Mark:
        folder, relative = _split(key)
        try:
            return durable.mark_of(os.stat(self._own_path(folder, relative), follow_symlinks=False))
        except FileNotFoundError:
            return ABSENT
        except (ValueError, OSError):
            return None

    def lines(self, key: str) -> Iterator[bytes]:
        try:
            with open(self.root / key, "rb") as file:
                for line in file:
                    if line.endswith(b"\n") and line != b"\n":
                        yield line[:-1]
        except FileNotFoundError:
            return
        except OSError as error:
            raise failed(f"{key} cannot be read", error) from error

    def names(self, folder: str) -> list[str]:
        found = self.relist(folder, None)
        assert found is not SAME
        return list(found.names)

    def relist(self, folder: str, mark: Mark) -> Listed | Same:
        try:
            handle = os.open(f"{self._base}/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                found = durable.mark_of(os.fstat(handle))
                if mark is not None and found == mark:
                    return SAME
                return Listed(tuple(sorted(os.listdir(handle))), found)
            finally:
                os.close(handle)
        except (FileNotFoundError, NotADirectoryError):
            return Listed(())
        except OSError as error:
            raise failed(f"{folder or self.root} cannot be listed", error) from error

    def sizes(self, folder: str) -> Mapping[str, int]:
        top, found = f"{self._base}/{folder}", {}
        try:
            for parent, _, names in os.walk(top):
                for name in names:
                    path = f"{parent}/{name}"
                    status = os.stat(path, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found[path[len(top) + 1 :]] = status.st_size
        except OSError as error:
            raise failed(f"{folder} cannot be listed", error) from error
        return found

    def digest(self, key: str) -> Written | None:
        folder, relative = _split(key)
        try:
            return durable.digest_of(self._own_path(folder, relative))
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            raise StoreError(f"{key} {error}") from error

    def fetch(self, key: str, target: Path, most: int | None = None) -> Written:
        folder, relative = _split(key)
        try:
            return durable.copy_new(self._own_path(folder, relative), target, most)
        except (ValueError, OSError) as error:
            raise StoreError(f"{key} cannot be copied: {error}") from error

    def _own_path(self, folder: str, relative: str) -> Path:
        """Returns the path of a regular file of the version; no link on the way may lead out of it or the registry.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: what is there does not count.
        """
        path = safe_path(self.root / folder, relative)
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root)):
            raise ValueError("is behind a link that leads out of the registry")
        return path


def tag_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _split(key: str) -> tuple[str, str]:
    """Returns (folder, path inside): a version's folder is two levels deep, and links must not lead out of it."""
    parts = key.split("/")
    depth = min(2, len(parts) - 1)
    return "/".join(parts[:depth]), "/".join(parts[depth:])
