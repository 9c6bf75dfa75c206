"""A registry that fails for a moment says nothing about what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import SourceUnreadable
from gateway.registry.folder_store import FolderStore
from gateway.registry.store import StoreError, Written
from gateway.registry.watcher import RegistryWatcher
from gateway.versions import ModelVersion
from tests.support.versions import MODEL, publish


class Failing(FolderStore):
    """Lists everything and gives no file."""

    def fetch(self, key: str, target: Path, most: int | None = None) -> Written:
        raise StoreError("the connection was reset")


def test_a_read_that_fails_is_not_the_versions_fault(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    root.mkdir()
    publish(root, tmp_path, 1)
    watcher = RegistryWatcher(lambda: Failing(root), str(root), tmp_path / "cache")
    watcher.look()
    with pytest.raises(SourceUnreadable, match="the connection was reset"):
        watcher.look_up(ModelVersion(MODEL, 1))
    (root / MODEL / "1/artifacts/python/model.py").unlink()
    with pytest.raises(ValueError, match=r"model\.py is missing") as caught:
        watcher.look_up(ModelVersion(MODEL, 1))
    assert not isinstance(caught.value, SourceUnreadable), "what is not there is a finding"
