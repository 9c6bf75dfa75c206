"""Says what would be published from a prepared folder or an ONNX file: a manifest without identity, and the files.

Decides what may go into a version: regular files with plain names, no links. Nothing is written here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.registry.document import MAX_DOCUMENT_BYTES, parse_object
from gateway.registry.layout import MANIFEST_DIGEST_FILE, MANIFEST_FILE, relative_problem

MOST_FILES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeOptions:
    """What a source does not say of itself. `max_batch_size` None: derived from the model's shapes."""

    max_batch_size: int | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """`document` is the manifest without model, version and files; `files` maps paths to what goes there."""

    document: Mapping[str, Any]
    files: Mapping[str, Path | bytes]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(s) if isinstance(s, bytes) else s.stat().st_size for s in self.files.values())


def describe(source: Path, options: DescribeOptions) -> Description:
    """Returns what `source` holds.

    Raises:
        ValueError: with every problem found.
        OSError: it cannot be read.
    """
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder")
    files = files_of(source)
    prepared = files.pop(MANIFEST_FILE, None)
    files.pop(MANIFEST_DIGEST_FILE, None)
    if prepared is None:
        raise ValueError(f"{source} has no {MANIFEST_FILE}")
    with open(prepared, "rb") as file:
        document = parse_object(MANIFEST_FILE, file.read(MAX_DOCUMENT_BYTES + 1))
    for key in ("schema_version", "model", "version", "files"):
        document.pop(key, None)
    if options.description:
        document["description"] = options.description
    return Description(document=document, files=dict(files))


def files_of(folder: Path) -> dict[str, Path]:
    """Returns every file below the folder by its path there.

    Raises:
        ValueError: a link, a special file, a name that cannot be published, or too many of them.
    """
    found: dict[str, Path] = {}
    problems = []
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                problems.append(f"{relative} is a link or a special file")
            elif why := relative_problem(relative):
                problems.append(f"{relative!r} {why}")
            found[relative] = path
        if len(found) > MOST_FILES:
            raise ValueError(f"{folder} has more than {MOST_FILES} files")
    if problems:
        raise ValueError("; ".join(problems))
    return found
