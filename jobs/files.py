"""Files that are there whole or not at all, and still there after a power cut."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 4 << 20


def sync_folder(folder: str | Path) -> None:
    """Makes renames and new names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Writes `content` to `path`; whoever reads it sees the old or the new, never half."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def claim(path: Path, document: dict[str, Any]) -> bool:
    """Writes `document` to `path` unless something is there already; returns whether it was us."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(document), encoding="utf-8")
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    finally:
        part.unlink()
    return True


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns the document at `path`; None if there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
