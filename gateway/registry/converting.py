"""Makes the artifacts that the registry describes and does not carry out of another version's: INT8 out of FP32.

Knows nothing of how a graph is converted: that is handed in (`quantize.conversion.repeat`). Invariants: nothing is
placed whose sha256 and size are not the manifest's; a file appears complete or not at all; what is already there is
left alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.registry.directory import DirectorySource
from gateway.registry.fetching import FetchError, is_there, stored_versions
from gateway.registry.manifest import FileConversion, FileEntry
from gateway.versions import ModelVersion

Convert = Callable[[Path, Path, str], bytes]
"""Makes a file from a source file and a record; the last argument is the sha256 that must come out."""


@dataclass(frozen=True, slots=True)
class Unmade:
    """One file that can be made and is not there as it should be."""

    version: ModelVersion
    folder: Path
    source: Path
    entry: FileEntry
    conversion: FileConversion


def unmade(source: DirectorySource) -> list[Unmade]:
    """Returns every such file of every version below the registry's root. Raises FetchError: a manifest is unusable."""
    found = []
    for version, manifest in stored_versions(source):
        folder = source.version_path(version)
        for entry in manifest.files:
            made = entry.conversion
            if made is not None and not is_there(folder, entry):
                origin = source.version_path(ModelVersion(version.model_name, made.version)) / made.path
                found.append(Unmade(version, folder, origin, entry, made))
    return found


def make(wanted: Iterable[Unmade], convert: Convert, say: Callable[[str], None]) -> int:
    """Makes `wanted`; returns how many files were placed.

    Raises:
        FetchError: the source is not there, or something else came out.
    """
    placed = 0
    for item in wanted:
        size = f"{item.entry.size / 1e6:.1f} MB"
        say(f"{item.version}: {item.entry.path} ({size}) out of version {item.conversion.version}")
        if not item.source.is_file():
            raise FetchError(f"{item.version}: {item.source} is not there: fetch it first")
        content = convert(item.source, item.folder / item.conversion.record, item.entry.sha256)
        if len(content) != item.entry.size or hashlib.sha256(content).hexdigest() != item.entry.sha256:
            raise FetchError(f"{item.version}: what was made is not the {item.entry.path} that the manifest describes")
        _place(item.folder, item.entry.path, content)
        placed += 1
    return placed


def _place(folder: Path, path: str, content: bytes) -> None:
    target = folder / path
    if not Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(folder)):
        raise FetchError(f"{path} leads out of {folder}")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(fresh, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
