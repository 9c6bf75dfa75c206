from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gateway.registry.directory import DirectorySource
from gateway.registry.fetching import FetchError, fetch, missing
from gateway.registry.manifest import FileSource
from gateway.versions import ModelVersion
from tests.support.registry import ARTIFACT, CONTENT, document, publish


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "pkg.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pkg/model.bin", CONTENT)
        archive.writestr("pkg/other.bin", CONTENT.swapcase())
    return path


def registry(tmp_path: Path, wheel: Path, member: str = "pkg/model.bin", models: tuple[str, ...] = ("m",)) -> Path:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    source = {"package": "pkg", "version": "1.0", "sha256": digest, "member": member}
    for model in models:
        folder = publish(tmp_path / "registry", model, 1, files=[document()["files"][0] | {"source": source}])
        (folder / ARTIFACT).unlink()
    return tmp_path / "registry"


class Index:
    """Stands for the package index: copies one wheel, counts how often it was asked."""

    def __init__(self, wheel: Path) -> None:
        self.wheel, self.asked = wheel, 0

    def __call__(self, source: FileSource, folder: Path) -> Path:
        self.asked += 1
        assert (source.package, source.version) == ("pkg", "1.0")
        target = folder / "pkg-1.0-py3-none-any.whl"
        target.write_bytes(self.wheel.read_bytes())
        return target


def run(root: Path, tmp_path: Path, index: Index) -> int:
    lines: list[Any] = []
    return fetch(missing(DirectorySource(root)), tmp_path / "cache", lines.append, index)


def test_fetched_once_and_then_offline(tmp_path: Path, wheel: Path) -> None:
    root, index = registry(tmp_path, wheel, models=("a", "b")), Index(wheel)
    assert run(root, tmp_path, index) == 2
    assert index.asked == 1
    for model in ("a", "b"):
        DirectorySource(root).verify(ModelVersion(model, 1))
        assert [path.name for path in (root / model / "1" / ARTIFACT).parent.iterdir()] == ["model.py"]
    assert run(root, tmp_path, index) == 0
    assert index.asked == 1
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_file_is_fetched_again(tmp_path: Path, wheel: Path) -> None:
    root, index = registry(tmp_path, wheel), Index(wheel)
    run(root, tmp_path, index)
    (root / "m" / "1" / ARTIFACT).write_bytes(CONTENT.swapcase())
    assert run(root, tmp_path, index) == 1
    assert (root / "m" / "1" / ARTIFACT).read_bytes() == CONTENT


def test_another_wheel_than_pinned_is_refused(tmp_path: Path, wheel: Path) -> None:
    root = registry(tmp_path, wheel)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("pkg/extra", b"")
    with pytest.raises(FetchError, match="the index serves another file"):
        run(root, tmp_path, Index(wheel))
    assert not (root / "m" / "1" / ARTIFACT).exists()


@pytest.mark.parametrize(
    ("member", "message"), [("pkg/other.bin", "is not the file"), ("pkg/none.bin", "cannot be taken")]
)
def test_another_member_than_described_is_refused(tmp_path: Path, wheel: Path, member: str, message: str) -> None:
    root = registry(tmp_path, wheel, member)
    with pytest.raises(FetchError, match=message):
        run(root, tmp_path, Index(wheel))
    assert list((root / "m" / "1" / ARTIFACT).parent.iterdir()) == []


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, wheel: Path) -> None:
    root = registry(tmp_path, wheel)
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "m" / "1" / ARTIFACT).parent.rmdir()
    (root / "m" / "1" / ARTIFACT).parent.symlink_to(outside)
    with pytest.raises(FetchError, match="leads out"):
        run(root, tmp_path, Index(wheel))
    assert list(outside.iterdir()) == []


def test_a_broken_manifest_stops_the_fetch(tmp_path: Path, wheel: Path) -> None:
    root = registry(tmp_path, wheel)
    (root / "m" / "1" / "manifest.json").write_text("{}")
    with pytest.raises(FetchError, match=r"manifest\.json"):
        missing(DirectorySource(root))
