"""The verified local copy of the versions in use: what Triton is given, and what a restart serves without the registry.

Invariants: a folder here is complete and was proved against its manifest while it was copied; what was admitted under a
number is the only content that this number can have here from then on; nothing is handed out without having been
proved in this process. All methods block and may be called from several threads.
"""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.registry import durable, layout
from gateway.registry.glances import Reader
from gateway.registry.integrity import ArtifactsNotFetched, IntegrityError, check_manifest, verify_version
from gateway.registry.manifest import Manifest, parse_manifest
from gateway.registry.store import ABSENT, Mark, StoreError
from gateway.registry.watch_state import WatchState
from gateway.versions import ModelVersion

_VERSIONS = "versions"
_STAGING = "staging"
_SPARE = 2
_BAD_S = 3600.0

_Signature = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Bad:
    """What was wrong with a version's files, and the marks that these files had: while they have them, it still is."""

    manifest: str
    marks: Mapping[str, Mark]
    problems: list[str]
    at: float


class _WrongFiles(IntegrityError):
    """`marks` are those of the files that are wrong."""

    def __init__(self, version: str, problems: list[str], marks: Mapping[str, Mark]) -> None:
        super().__init__(version, problems)
        self.marks = marks


class VersionCache:
    """Owns `folder`. `state` remembers which content each number has."""

    def __init__(self, folder: Path, state: WatchState, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._versions = folder / _VERSIONS
        self._staging = folder / _STAGING
        shutil.rmtree(self._staging, ignore_errors=True)  # what an earlier life left half copied
        self._state = state
        self._proved: dict[Path, _Signature] = {}
        self._bad: dict[ModelVersion, _Bad] = {}
        self._lock = threading.Lock()
        self._serial = itertools.count()

    def admit(self, version: ModelVersion, reader: Reader | None) -> tuple[Manifest, Path]:
        """Returns the version's manifest and its folder here; copies it from the registry unless it is here already.

        `reader` is None while the registry cannot be reached.

        Raises:
            ArtifactsNotFetched: files that come from a package were not fetched yet.
            IntegrityError: what the registry has is not what was published, or was published as something else before.
            DocumentError: the manifest cannot be used.
            StoreError: the registry cannot be read.
        """
        found = self._here(version)
        if found is not None:
            return found
        if reader is None:
            raise StoreError(f"{version} has no local copy, and the registry cannot be read")
        manifest, content = self._published(version, reader)
        self._check_again(version, manifest, reader)
        fresh = self._staging / f"{version.model_name}.{version.number}.{os.getpid()}.{next(self._serial)}"
        fresh.mkdir(parents=True)
        try:
            _copy(version, manifest, reader, fresh)
            durable.write_new(fresh / layout.MANIFEST_FILE, content)
            target = self._place(version, manifest.digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                target.rename(self._staging / f"{fresh.name}.gone")
            fresh.rename(target)
            durable.sync_folder(target.parent)
        except _WrongFiles as error:
            with self._lock:
                self._bad[version] = _Bad(manifest.digest, error.marks, error.problems, self._now())
            raise
        except OSError as error:
            raise StoreError(f"{version} cannot be copied to {self._versions}: {error.strerror}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(self._staging / f"{fresh.name}.gone", ignore_errors=True)
        self._state.pin(version, manifest.digest)
        self._note(target, manifest)
        with self._lock:
            self._bad.pop(version, None)
        return manifest, target

    def reconsider(self, model_name: str) -> None:
        """Forgets what was found wrong with the model's versions: somebody decided anew what it should serve."""
        with self._lock:
            for version in [version for version in self._bad if version.model_name == model_name]:
                del self._bad[version]

    def sizes(self, version: ModelVersion) -> Mapping[str, int] | None:
        """Returns the sizes of the version's files, by path, if there is a proved copy of it here."""
        digest = self._state.pinned(version)
        with self._lock:
            proved = self._proved.get(self._place(version, digest)) if digest is not None else None
        return {path: size for path, _, size, _, _ in proved} if proved is not None else None

    def prune(self, keep: Collection[ModelVersion]) -> None:
        """Removes every copy but those of `keep` and, of each model, the two latest others: for going back."""
        names = {self._place(version, digest) for version in keep if (digest := self._state.pinned(version))}
        for model in self._versions.glob("*"):
            try:
                others = [path for path in model.iterdir() if path not in names]
                others.sort(key=lambda path: path.lstat().st_mtime_ns, reverse=True)
            except OSError:
                continue  # none of ours, or a copy that is just being put into its place
            for path in others[_SPARE:]:
                with self._lock:
                    self._proved.pop(path, None)
                shutil.rmtree(path, ignore_errors=True)

    def _here(self, version: ModelVersion) -> tuple[Manifest, Path] | None:
        """Returns the copy if there is one that is still what was copied."""
        digest = self._state.pinned(version)
        if digest is None:
            return None
        folder = self._place(version, digest)
        try:
            manifest = parse_manifest((folder / layout.MANIFEST_FILE).read_bytes(), version)
            if manifest.digest != digest:
                return None
            with self._lock:
                proved = self._proved.get(folder)
            if proved is None or proved != _signature(folder, manifest):
                verify_version(folder, manifest)
                self._note(folder, manifest)
        except (OSError, ValueError):
            return None
        return manifest, folder

    def _check_again(self, version: ModelVersion, manifest: Manifest, reader: Reader) -> None:
        """Raises what was found wrong before, if nothing has changed since: the files are not copied again for that."""
        with self._lock:
            bad = self._bad.get(version)
        if bad is None or bad.manifest != manifest.digest or not 0 <= self._now() - bad.at < _BAD_S:
            return
        key = f"{version.model_name}/{version.number}"
        if all(mark is not None and reader.mark(f"{key}/{path}") == mark for path, mark in bad.marks.items()):
            raise IntegrityError(str(version), bad.problems)

    def _published(self, version: ModelVersion, reader: Reader) -> tuple[Manifest, bytes]:
        """Returns the manifest in the registry, which must be the one known under this number, if one is."""
        key = f"{version.model_name}/{version.number}"
        stored = reader.read(f"{key}/{layout.MANIFEST_FILE}")
        if stored is None:
            raise IntegrityError(str(version), [f"{layout.MANIFEST_FILE} is not in the registry"])
        line = reader.read(f"{key}/{layout.MANIFEST_DIGEST_FILE}")
        check_manifest(str(version), stored.content, None if line is None else line.content)
        manifest = parse_manifest(stored.content, version)
        pinned = self._state.pinned(version)
        if pinned is not None and pinned != manifest.digest:
            raise IntegrityError(str(version), [self.changed(version)])
        return manifest, stored.content

    def changed(self, version: ModelVersion) -> str:
        """Returns what to say of a number that has another content than the one it was admitted with."""
        return (
            f"{layout.MANIFEST_FILE} is not the one that was served under this number; a version never changes: "
            f"publish the new content under a new number (or, if it was meant, delete {self._state.path.parent})"
        )

    def _place(self, version: ModelVersion, digest: str) -> Path:
        return self._versions / version.model_name / f"{version.number}-{digest[:16]}"

    def _note(self, folder: Path, manifest: Manifest) -> None:
        with self._lock:
            self._proved[folder] = _signature(folder, manifest)


def _copy(version: ModelVersion, manifest: Manifest, reader: Reader, folder: Path) -> None:
    """Copies every file of the version and compares what went through with the manifest."""
    problems, missing, unread = [], [], []
    marks: dict[str, Mark] = {}
    for entry in manifest.files:
        key = f"{version.model_name}/{version.number}/{entry.path}"
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            written = reader.fetch(key, target, entry.size)
        except StoreError as error:
            absent = _absent(reader, key)
            if absent and entry.can_be_had:
                missing.append(entry.path)
            elif absent:
                problems.append(f"{entry.path} is missing")
                marks[entry.path] = ABSENT
            else:
                unread.append(str(error))
            continue
        if written.size != entry.size:
            problems.append(f"{entry.path} has {written.size} bytes, the manifest says {entry.size}")
            marks[entry.path] = written.mark
        elif written.sha256 != entry.sha256:
            problems.append(f"{entry.path} has another sha256 than the manifest says")
            marks[entry.path] = written.mark
    if problems:
        told = problems + unread + [f"{path} was not fetched" for path in missing]
        raise _WrongFiles(str(version), told, marks)
    if unread:
        raise StoreError("; ".join(unread))
    if missing:
        names = ", ".join(missing)
        raise ArtifactsNotFetched(
            str(version), [f"{names} not fetched yet: run `make models` (or `sluice models fetch`)"]
        )


def _absent(reader: Reader, key: str) -> bool:
    try:
        return reader.digest(key) is None
    except StoreError:
        return False


def _signature(folder: Path, manifest: Manifest) -> _Signature:
    """Returns what changes when somebody writes to one of the files."""
    found = []
    for entry in manifest.files:
        stat = os.stat(folder / entry.path, follow_symlinks=False)
        # (The change time of an inode moves with every new hard link too, so it is left out.)
        found.append((entry.path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode))
    return tuple(found)
