"""What becomes visible is on the disk before: the order of flushes, links and renames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.registry.folder_store import FolderStore
from gateway.registry.publishing import PublishOptions, publish_version
from tests.support.registry import ARTIFACT, prepared


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Every fsync (with the path as it was then), link and rename, in order."""
    found: list[tuple[str, ...]] = []
    fsync = os.fsync

    def flushed(handle: int) -> None:
        found.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def recorded(name: str, call: Any) -> Any:
        return lambda a, b: (found.append((name, str(a), str(b))), call(a, b))[1]

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "link", recorded("link", os.link))
    monkeypatch.setattr(os, "rename", recorded("rename", os.rename))
    return found


def test_nothing_is_visible_before_it_is_on_the_disk(tmp_path: Path, calls: list[tuple[str, ...]]) -> None:
    root = tmp_path / "registry"
    root.mkdir()
    store = FolderStore(root)
    publish_version(store, prepared(tmp_path / "one"), "m", actor="a", options=PublishOptions(serve=True))
    calls.clear()
    publish_version(store, prepared(tmp_path / "two"), "m", actor="a", options=PublishOptions(serve=True))
    at = {call: index for index, call in reversed(list(enumerate(calls)))}
    renames = {call[2]: call for call in calls if call[0] == "rename"}

    version = renames[str(root / "m/2")]
    for name in (ARTIFACT, "manifest.json", "manifest.sha256", ".", "artifacts", "artifacts/python"):
        assert at["fsync", os.path.normpath(f"{version[1]}/{name}")] < at[version]
    pointer = renames[str(root / "m/serving.json")]
    (claim,) = [call for call in calls if call[0] == "link" and "/claims/" in call[2]]
    assert at[version] < at["fsync", str(root / "m")] < at[claim]
    for path in (pointer[1], claim[1], os.path.dirname(claim[1])):
        assert at["fsync", path] < at[claim]
    assert at[claim] < at["fsync", os.path.dirname(claim[2])] < at[pointer]
    # What was returned from is on the disk too.
    assert ("fsync", str(root / "m")) in calls[at[pointer] :]
    assert calls[-1] == ("fsync", str(root / "journal.ndjson"))
