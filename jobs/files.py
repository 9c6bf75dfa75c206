"""Files that are there whole or not at all, and still there after a power cut."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path  # the keeper starts quicker without it

MAX_JSON_BYTES = 4 << 20


def sync_folder(folder: str | Path) -> None:
    """Makes renames and new names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _part(path: str | Path) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{os.getpid()}.part")


def replace(path: str | Path, content: bytes, *, mode: int = 0o600) -> None:
    """Writes `content` to `path`; whoever reads it sees the old or the new, never half."""
    part = _part(path)
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    sync_folder(os.path.dirname(path))


def claim(path: str | Path, document: Mapping[str, Any]) -> bool:
    """Writes `document` to `path` unless something is there already; returns whether it was us."""
    part = _part(path)
    with open(part, "w", encoding="utf-8") as file:
        json.dump(document, file)
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(part)
    return True


def read_json(path: str | Path) -> dict[str, Any] | None:
    """Returns the document at `path`; None if there is none, or none that can be read."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
