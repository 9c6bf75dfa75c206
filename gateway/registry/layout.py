"""Where things lie in a registry on disk, and which names are allowed there (design: "The registry on disk").

Decides paths and names only; reads no content. Invariant: a path made here from a valid name never leaves the root.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from gateway.versions import ModelVersion

MANIFEST_FILE = "manifest.json"
SERVING_FILE = "serving.json"
STAGING_FOLDER = ".staging"
JOURNAL_FILE = "journal.ndjson"
MANIFEST_DIGEST_FILE = "manifest.sha256"
"""The manifest's own sha256, as sha256sum writes it; versions that were published have it."""
OWN_FOLDER = ".registry"
"""What the writers keep beside the models: numbers given out, claims on pointers, versions retired."""
CHANGED_KEY = f"{OWN_FOLDER}/changed"
"""In a bucket, written anew after a pointer was: whoever sees it unchanged need not look at every pointer."""
ARTIFACTS_FOLDER = "artifacts"

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""The one pattern for model names, in every place where a name becomes a path, a metric label or a Triton name."""
_VERSION = re.compile(r"[1-9][0-9]{0,9}")
HIGHEST_VERSION = 9_999_999_999
"""The last number that `version_number` reads."""


def is_model_name(name: str) -> bool:
    """Returns whether `name` may name a model."""
    return MODEL_NAME.fullmatch(name) is not None and name != JOURNAL_FILE


def version_number(folder: str) -> int | None:
    """Returns the number that the folder name stands for; None unless it is a canonical positive integer (no `01`)."""
    return int(folder) if _VERSION.fullmatch(folder) else None


def model_path(root: Path, model_name: str) -> Path:
    """Returns the model's folder. Raises ValueError if the name is not allowed."""
    if not is_model_name(model_name):
        raise ValueError(f"{model_name!r} is not a model name ({MODEL_NAME.pattern})")
    return root / model_name


def version_path(root: Path, version: ModelVersion) -> Path:
    """Returns the version's folder. Raises ValueError if name or number are not allowed."""
    if version.number < 1:
        raise ValueError(f"{version.number} is not a version number (1, 2, 3 …)")
    return model_path(root, version.model_name) / str(version.number)


def serving_path(root: Path, model_name: str) -> Path:
    """Returns the path of the model's pointer. Raises ValueError if the name is not allowed."""
    return model_path(root, model_name) / SERVING_FILE


def relative_problem(path: str) -> str | None:
    """Returns why `path` cannot name a file inside a version folder, or None if it can."""
    if not path:
        return "is empty"
    if "\\" in path or "\0" in path or any(ord(character) < 32 for character in path):
        return "has a backslash or a control character"
    pure = PurePosixPath(path)
    if pure.is_absolute():
        return "is absolute"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "has an empty, '.' or '..' part"
    return None
