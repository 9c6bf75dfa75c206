"""File events in a registry's folder, as a hint to look now (extra `events`).

Invariant: nothing depends on them. Looks go on at their interval whether events come, are missed, come twice or storm,
or cannot be had (no watchfiles, a network file system, no inotify watches left).
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from gateway.registry.layout import is_model_name

_log = logging.getLogger("sluice.registry")
_MOST_FOLDERS = 4096
_GATHER_MS = 50
_STEP_MS = 20


def available() -> bool:
    """Returns whether the package that hears events is there."""
    return importlib.util.find_spec("watchfiles") is not None


async def follow(root: Path, hint: Callable[[], None]) -> None:
    """Calls `hint` after something changed in `root` or in a model's folder, until cancelled or events fail."""
    import watchfiles

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every change
    try:
        while True:
            folders = await asyncio.to_thread(_folders, root)
            # Not recursive: what is written inside versions, or in staging, is nobody's business, and much.
            heard = watchfiles.awatch(
                *folders, watch_filter=None, debounce=_GATHER_MS, step=_STEP_MS, recursive=False,
                ignore_permission_denied=True,
            )  # fmt: skip
            async with aclosing(heard):
                async for changes in heard:
                    hint()
                    if any(os.path.dirname(path) == str(root) for _, path in changes):
                        break  # a model may have come or gone
    except (OSError, RuntimeError) as error:
        _log.info("registry: no file events (%s); changes are found by looking", error)


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        models = sorted(entry.path for entry in entries if is_model_name(entry.name) and entry.is_dir())
    return [str(root), *models[:_MOST_FOLDERS]]
