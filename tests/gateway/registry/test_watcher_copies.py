"""Copies that are under way while the registry changes or fails."""

from __future__ import annotations

import threading
from pathlib import Path

from gateway.registry.folder_store import FolderStore
from gateway.registry.manifest import Manifest
from gateway.registry.store import Written
from gateway.registry.watcher import RegistryWatcher
from gateway.versions import ModelVersion
from tests.support.versions import MODEL, publish, switch

V2 = ModelVersion(MODEL, 2)


class Slow(FolderStore):
    """Waits in the middle of each copy."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def fetch(self, key: str, target: Path, most: int | None = None) -> Written:
        self.reached.set()
        assert self.go_on.wait(30)
        return super().fetch(key, target, most)


def test_another_decision_does_not_disturb_a_copy_under_way(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    root.mkdir()
    publish(root, tmp_path, 1)
    publish(root, tmp_path, 2)
    store = Slow(root)
    watcher = RegistryWatcher(lambda: store, str(root), tmp_path / "cache")
    watcher.look()
    found: list[tuple[Manifest, Path] | Exception] = []

    def copy() -> None:
        try:
            found.append(watcher.look_up(V2))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=copy)
    thread.start()
    assert store.reached.wait(30)
    switch(root, 1)
    watcher.look()
    store.go_on.set()
    thread.join()
    assert not isinstance(found[0], Exception), found


def test_what_an_earlier_life_left_half_copied_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    root.mkdir()
    publish(root, tmp_path, 1)
    first = RegistryWatcher(lambda: FolderStore(root), str(root), tmp_path / "cache")
    first.look()
    (folder,) = (tmp_path / "cache").iterdir()
    (folder / "staging/old.1.1.0").mkdir(parents=True)
    RegistryWatcher(lambda: FolderStore(root), str(root), tmp_path / "cache").look()
    assert not (folder / "staging/old.1.1.0").exists()


def test_what_does_not_belong_among_the_copies_keeps_nobody_from_looking(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    root.mkdir()
    publish(root, tmp_path, 1)

    def again() -> RegistryWatcher:
        return RegistryWatcher(lambda: FolderStore(root), str(root), tmp_path / "cache")

    first = again()
    first.look()
    _, folder = first.look_up(ModelVersion(MODEL, 1))
    (folder.parent.parent / "notes.txt").write_text("mine")
    (folder.parent / "link").symlink_to("nowhere")
    assert again().look() == {MODEL: (1,)}
