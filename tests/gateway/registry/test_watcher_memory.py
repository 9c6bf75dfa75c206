"""What the watcher forgets, and what it keeps although others come and go."""

from __future__ import annotations

from pathlib import Path

from gateway.registry.folder_store import FolderStore
from gateway.registry.switching import stop_serving
from gateway.registry.watcher import RegistryWatcher
from tests.support.versions import MODEL, publish, switch


def test_what_served_last_is_forgotten_when_the_model_is_withdrawn(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    root.mkdir()
    publish(root, tmp_path, 1)
    watcher = RegistryWatcher(lambda: FolderStore(root), str(root), tmp_path / "cache")
    watcher.look()
    watcher._state.set_last_good(MODEL, 1)
    stop_serving(FolderStore(root), MODEL, actor="test")
    watcher.look()
    watcher._state.set_last_good(MODEL, 1)  # what was decided before comes late
    assert watcher.last_good(MODEL) is None
    again = RegistryWatcher(lambda: FolderStore(root), str(root), tmp_path / "cache")
    switch(root, 1)
    again.look()
    assert again.last_good(MODEL) is None
