"""File events in a registry's folder, as a hint to look now (extra `events`).

Invariant: nothing depends on them. Looks go on at their interval whether events come, are missed, come twice or storm,
or cannot be had (no watchfiles, a network file system, no inotify watches left).
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
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
    loop = asyncio.get_running_loop()
    stop, ended = threading.Event(), asyncio.Event()

    def tell(what: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(what)

    def listen() -> None:
        try:
            _listen(root, partial(tell, hint), stop)
        except (OSError, RuntimeError) as error:
            _log.info("registry: no file events (%s); changes are found by looking", error)
        finally:
            tell(ended.set)

    # A daemon: the folder may be on a file system that hangs.
    threading.Thread(target=listen, name="registry events", daemon=True).start()
    try:
        await ended.wait()
    finally:
        stop.set()


def _listen(root: Path, hint: Callable[[], None], stop: threading.Event) -> None:
    """Calls `hint` until told to `stop`. Blocks; begins anew when models have come or gone."""
    import watchfiles

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every change
    while not stop.is_set():
        folders = _folders(root)
        # Not recursive: what is written inside versions, or in staging, is nobody's business, and much.
        heard = watchfiles.watch(
            *folders, watch_filter=None, debounce=_GATHER_MS, step=_STEP_MS, stop_event=stop, recursive=False,
            raise_interrupt=False, ignore_permission_denied=True,
        )  # fmt: skip
        with closing(heard):
            for changes in heard:
                hint()
                if any(os.path.dirname(path) == str(root) for _, path in changes) and _folders(root) != folders:
                    break


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        models = sorted(entry.path for entry in entries if is_model_name(entry.name) and entry.is_dir())
    return [str(root), *models[:_MOST_FOLDERS]]
