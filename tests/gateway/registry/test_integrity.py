from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.registry.integrity import ArtifactsNotFetched, IntegrityError, safe_path, verify_version
from gateway.registry.manifest import Manifest, parse_manifest
from tests.support.registry import ARTIFACT, CONTENT, document, publish


def manifest_of(folder: Path) -> Manifest:
    return parse_manifest((folder / "manifest.json").read_bytes())


def test_untouched_files_pass(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    verify_version(folder, manifest_of(folder))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is missing"),
        (CONTENT + b"x", f"has {len(CONTENT) + 1} bytes, the manifest says {len(CONTENT)}"),
        (CONTENT.swapcase(), "has another sha256"),
    ],
)
def test_changed_files_are_refused(tmp_path: Path, content: bytes | None, problem: str) -> None:
    folder = publish(tmp_path)
    (folder / ARTIFACT).unlink()
    if content is not None:
        (folder / ARTIFACT).write_bytes(content)
    with pytest.raises(IntegrityError, match=problem) as caught:
        verify_version(folder, manifest_of(folder))
    assert str(tmp_path) not in str(caught.value)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    outside = tmp_path / "outside.py"
    (folder / ARTIFACT).rename(outside)
    (folder / ARTIFACT).symlink_to(outside)
    with pytest.raises(IntegrityError, match="leads out of the version's folder"):
        verify_version(folder, manifest_of(folder))


def test_a_linked_folder_is_refused_too(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    (folder / "artifacts").rename(tmp_path / "elsewhere")
    (folder / "artifacts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="leads out of the version's folder"):
        verify_version(folder, manifest_of(folder))


def test_a_version_folder_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    folder = publish(tmp_path / "real")
    link = tmp_path / "link"
    link.symlink_to(folder)
    verify_version(link, manifest_of(folder))


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    (folder / ARTIFACT).unlink()
    (folder / ARTIFACT).mkdir()
    with pytest.raises(IntegrityError, match="is not a regular file"):
        verify_version(folder, manifest_of(folder))


@pytest.mark.parametrize("path", ["", "/x", "../x", "a//b", "./a", "a/..", "a\\b", "a\0b"])
def test_paths_that_cannot_be_inside(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match=r"is|has"):
        safe_path(tmp_path, path)


def test_what_was_not_fetched_says_how(tmp_path: Path) -> None:
    folder = publish(tmp_path, files=[_fetchable(document())])
    (folder / ARTIFACT).unlink()
    with pytest.raises(ArtifactsNotFetched, match="make models"):
        verify_version(folder, manifest_of(folder))


def _fetchable(manifest: dict[str, Any]) -> dict[str, Any]:
    source = {"package": "p", "version": "1", "sha256": "0" * 64, "member": "x"}
    entry: dict[str, Any] = manifest["files"][0]
    return entry | {"source": source}
