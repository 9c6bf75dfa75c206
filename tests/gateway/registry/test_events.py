"""File events: heard where it matters, and nothing depends on them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.registry import events
from gateway.registry.folder_store import FolderStore
from gateway.registry.switching import stop_serving
from tests.support.versions import MODEL, publish, switch
from tests.support.virtual_loop import pause


class Ear:
    """Follows a folder while the test changes it."""

    def __init__(self, root: Path) -> None:
        self.heard = asyncio.Event()
        self.count = 0
        self.task = asyncio.get_running_loop().create_task(events.follow(root, self._hint))

    def _hint(self) -> None:
        self.count += 1
        self.heard.set()

    async def hears(self, change: Callable[[], object]) -> None:
        """Makes the change until it is heard (the watch may not stand yet, which only looking makes up for)."""
        self.heard.clear()
        for _ in range(100):
            await asyncio.to_thread(change)
            try:
                async with asyncio.timeout(0.3):
                    await self.heard.wait()
                return
            except TimeoutError:
                continue
        raise AssertionError("nothing was heard")

    async def close(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


async def _heard(folder: Path) -> None:
    root = folder / "registry"
    publish(root, folder, 1)
    publish(root, folder, 2, serve=False)
    ear = Ear(root)
    numbers = iter([1, 2] * 100)
    await ear.hears(lambda: switch(root, next(numbers)))
    (root / "another").mkdir()
    counter = iter(range(1000))
    await ear.hears(lambda: (root / "another" / "serving.json").write_text(str(next(counter))))
    await ear.hears(lambda: stop_serving(FolderStore(root), MODEL, actor="test") and switch(root, 1))
    await ear.close()


def test_a_changed_pointer_is_heard_of_in_old_and_new_models(tmp_path: Path) -> None:
    asyncio.run(_heard(tmp_path))


async def _deaf(root: Path) -> None:
    await events.follow(root, lambda: None)


def test_where_events_cannot_be_had_nothing_happens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        asyncio.run(_deaf(tmp_path / "nothing"))
    assert "no file events" in caplog.text


def test_only_the_places_where_pointers_lie_are_watched(tmp_path: Path) -> None:
    for name in ("m/1/artifacts", ".staging/x", ".registry/claims", "n"):
        os.makedirs(tmp_path / name)
    (tmp_path / "file").write_text("")
    assert events._folders(tmp_path) == [str(tmp_path), str(tmp_path / "m"), str(tmp_path / "n")]


def test_the_event_loop_asks_no_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, end = threading.Event(), threading.Event()

    def hang(*paths: object) -> None:
        hanging.set()
        end.wait()
        raise OSError("at last")

    async def story() -> None:
        ear = Ear(tmp_path)
        while not hanging.is_set():
            await pause(0)
        await ear.close()

    monkeypatch.setattr("watchfiles.main.RustNotify", hang)
    try:
        asyncio.run(story())
    finally:
        end.set()
