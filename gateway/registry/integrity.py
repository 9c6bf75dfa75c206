"""Proves that a version's files are the ones its manifest lists, before anything loads them.

Invariants: a file is read only if its real path lies inside the version's own folder (no links out, no traversal) and
it is a regular file; content is streamed, so memory does not grow with the artifact.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from gateway.registry.layout import MANIFEST_DIGEST_FILE, MANIFEST_FILE, relative_problem
from gateway.registry.manifest import FileEntry, Manifest

_CHUNK = 1 << 20


class IntegrityError(ValueError):
    """A version's files are not what its manifest says; `problems` names every file concerned and why."""

    def __init__(self, version: str, problems: list[str]) -> None:
        super().__init__(f"{version}: " + "; ".join(problems))
        self.problems = problems


class ArtifactsNotFetched(IntegrityError):
    """All that is wrong: files that come from a pinned package were not fetched yet."""


def manifest_digest(manifest: bytes) -> bytes:
    """Returns the content of the digest file, as `sha256sum manifest.json` prints it."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST_FILE}\n".encode()


def check_manifest(version: str, manifest: bytes, line: bytes | None) -> None:
    """Returns if the manifest is the one that was published; `line` is its digest file, None if there is none.

    Raises:
        IntegrityError: it was changed.
    """
    if line is not None and line != manifest_digest(manifest):
        raise IntegrityError(version, [f"{MANIFEST_FILE} has another sha256 than {MANIFEST_DIGEST_FILE} says"])


def sha256_of(path: Path) -> str:
    """Returns the sha256 of the file's content in lower-case hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def safe_path(folder: Path, relative: str) -> Path:
    """Returns the path of a regular file inside `folder`.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: the name or a link leads out of the folder, or it is not a regular file.
    """
    if why := relative_problem(relative):
        raise ValueError(why)
    path = folder / relative
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise ValueError("is a link that leads out of the version's folder")
    if not stat.S_ISREG(real.stat().st_mode):
        raise ValueError("is not a regular file")
    return path


def verify_version(folder: Path, manifest: Manifest) -> None:
    """Returns if every listed file is there, unchanged.

    Reads every byte once (blocking): call it off the event loop.

    Raises:
        ArtifactsNotFetched: only fetchable files are missing; the message says how to fetch them.
        IntegrityError: with every problem found.
    """
    problems, missing = [], []
    for entry in manifest.files:
        problem = _problem_of(folder, entry)
        if problem is None:
            continue
        if problem == _MISSING and entry.can_be_had:
            missing.append(entry.path)
        else:
            problems.append(f"{entry.path} {problem}")
    name = str(manifest.version)
    if problems:
        raise IntegrityError(name, problems + [f"{path} was not fetched" for path in missing])
    if missing:
        raise ArtifactsNotFetched(
            name, [f"{', '.join(missing)} not fetched yet: run `make models` (or `sluice models fetch`)"]
        )


_MISSING = "is missing"


def _problem_of(folder: Path, entry: FileEntry) -> str | None:
    try:
        path = safe_path(folder, entry.path)
        size = path.stat().st_size
        if size != entry.size:
            return f"has {size} bytes, the manifest says {entry.size}"
        return None if sha256_of(path) == entry.sha256 else "has another sha256 than the manifest says"
    except FileNotFoundError:
        return _MISSING
    except (ValueError, OSError) as error:
        return str(error)
