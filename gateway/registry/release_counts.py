"""What a gateway counted of its releases, in files of its own that outlive it: one small JSON file a release.

Invariants: a file is replaced whole; one that cannot be read is like none (the counting starts anew, which delays a
decision and falsifies none); nothing here raises for the disk's sake.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.registry import durable

_log = logging.getLogger("sluice.releases")
_MOST_BYTES = 16 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class ReleaseCounts:
    """Owns the files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def load(self, release_id: str) -> Mapping[str, Any] | None:
        """Returns what was saved for the release, None if there is nothing to be had."""
        return await asyncio.to_thread(self._load, release_id)

    async def save(self, release_id: str, document: Mapping[str, Any]) -> None:
        """Replaces what was saved for the release."""
        # Rendered here: what is being counted must not change in the middle of it.
        text = json.dumps(document)
        await asyncio.to_thread(self._save, release_id, text)

    async def keep_only(self, release_ids: frozenset[str]) -> None:
        """Deletes what was saved for all other releases."""
        await asyncio.to_thread(self._keep_only, release_ids)

    def _path(self, release_id: str) -> Path | None:
        return self._folder / f"{release_id}.json" if _NAME.fullmatch(release_id) else None

    def _load(self, release_id: str) -> Mapping[str, Any] | None:
        path = self._path(release_id)
        try:
            if path is None or path.stat().st_size > _MOST_BYTES:
                return None
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.warning("what was counted of release %s cannot be read: %s", release_id, error)
            return None
        return found if isinstance(found, dict) and found.get("id") == release_id else None

    def _save(self, release_id: str, text: str) -> None:
        path = self._path(release_id)
        if path is None:
            return
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            durable.write_new(fresh, text.encode())
            fresh.replace(path)
        except OSError as error:
            _log.error("what was counted of release %s cannot be written down: %s", release_id, error.strerror)
            with suppress(OSError):
                fresh.unlink(missing_ok=True)

    def _keep_only(self, release_ids: frozenset[str]) -> None:
        with suppress(OSError):
            for path in self._folder.glob("*.json*"):
                if path.name.partition(".json")[0] not in release_ids:
                    path.unlink(missing_ok=True)
