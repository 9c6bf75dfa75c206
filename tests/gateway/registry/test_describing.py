"""What is published from an ONNX file, and from folders with less or more in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.registry.directory import DirectorySource
from gateway.registry.folder_store import FolderStore
from gateway.registry.manifest import Manifest
from gateway.registry.publishing import PublishOptions, publish_version
from gateway.registry.switching import PublishError
from gateway.versions import ModelVersion
from tests.support import onnx_bytes
from tests.support.registry import prepared

MODEL = onnx_bytes.model({"x": (1, ["n", 3])}, {"y": (1, ["n", 2])})
WITH_DATA = onnx_bytes.model({"x": (1, ["n", 3])}, {"y": (1, ["n", 2])}, external={"w": "model.data"})


def published(tmp_path: Path, source: Path) -> Manifest:
    root = tmp_path / "registry"
    root.mkdir(exist_ok=True)
    done = publish_version(FolderStore(root), source, "m", actor="a", options=PublishOptions(serve=True))
    return DirectorySource(root).verify(done.version)


def paths(manifest: Manifest) -> list[str]:
    return [file.path for file in manifest.files]


def test_an_onnx_file_is_enough(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(MODEL)
    manifest = published(tmp_path, tmp_path / "net.onnx")
    assert paths(manifest) == ["artifacts/onnx/model.onnx", "warmup/inputs.npz"]
    assert (manifest.max_batch_size, manifest.inputs[0].shape, manifest.outputs[0].shape) == (32, (3,), (2,))
    assert manifest.targets[0].name == "onnxruntime"
    assert manifest.lineage["onnx"] == {"producer": "tests", "ir_version": 8, "opset": 17}


def test_external_weights_come_along(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(WITH_DATA)
    (tmp_path / "model.data").write_bytes(b"weights")
    (tmp_path / "unrelated").write_bytes(b"secret")
    manifest = published(tmp_path, tmp_path / "net.onnx")
    assert paths(manifest) == ["artifacts/onnx/model.data", "artifacts/onnx/model.onnx", "warmup/inputs.npz"]
    assert manifest.targets[0].artifacts == ("artifacts/onnx/model.onnx", "artifacts/onnx/model.data")


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "sub/data", "", "..", "a\\b"])
def test_weights_elsewhere_are_refused(tmp_path: Path, place: str) -> None:
    content = onnx_bytes.model({"x": (1, ["n", 3])}, {"y": (1, ["n", 2])}, external={"w": place})
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(PublishError, match="only files beside the model"):
        published(tmp_path, tmp_path / "net.onnx")


def test_weights_behind_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(WITH_DATA)
    (tmp_path / "model.data").symlink_to("/etc/passwd")
    with pytest.raises(PublishError, match="is a link"):
        published(tmp_path, tmp_path / "net.onnx")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(WITH_DATA)
    with pytest.raises(PublishError, match=r"model\.data"):
        published(tmp_path, tmp_path / "net.onnx")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "net.onnx").write_bytes(WITH_DATA)
    with pytest.raises(PublishError, match=r"'model\.data', which is not beside it"):
        published(tmp_path, folder)


def test_a_folder_with_one_model_and_more_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "golden").mkdir(parents=True)
    (folder / "net.onnx").write_bytes(WITH_DATA)
    (folder / "model.data").write_bytes(b"weights")
    (folder / "golden/cases.json").write_text("{}")
    (folder / "labels.txt").write_text("a\n")
    (folder / "manifest.json").write_text(json.dumps({"description": "two classes", "metrics": {"auc": 0.9}}))
    manifest = published(tmp_path, folder)
    beside = ["golden/cases.json", "labels.txt", "warmup/inputs.npz"]
    assert paths(manifest) == ["artifacts/onnx/model.data", "artifacts/onnx/model.onnx", *beside]
    assert manifest.description == "two classes"
    assert manifest.metrics == {"auc": 0.9}


def test_the_folders_own_words_come_first(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "artifacts/onnx").mkdir(parents=True)
    (folder / "warmup").mkdir()
    (folder / "artifacts/onnx/small.onnx").write_bytes(MODEL)
    (folder / "warmup/inputs.npz").write_bytes(b"mine")
    (folder / "manifest.json").write_text(json.dumps({"max_batch_size": 4, "lineage": {"job": "j1"}}))
    manifest = published(tmp_path, folder)
    assert manifest.max_batch_size == 4
    assert paths(manifest) == ["artifacts/onnx/small.onnx", "warmup/inputs.npz"]
    assert (manifest.lineage["job"], manifest.lineage["onnx"]["opset"]) == ("j1", 17)


def test_identity_in_a_prepared_folder_is_replaced(tmp_path: Path) -> None:
    source = prepared(tmp_path / "prepared", model="other", version=77, files=[], schema_version=1)
    assert published(tmp_path, source).version == ModelVersion("m", 1)


def test_a_published_version_can_be_published_again_under_another_name(tmp_path: Path) -> None:
    first = published(tmp_path, prepared(tmp_path / "prepared"))
    store = FolderStore(tmp_path / "registry")
    again = publish_version(store, store.root / "m/1", "copy", actor="a")
    manifest = DirectorySource(store.root).verify(again.version)
    assert manifest.files == first.files


@pytest.mark.parametrize("make", ["nothing", "empty folder", "two models", "text"])
def test_what_says_too_little_is_refused(tmp_path: Path, make: str) -> None:
    source = tmp_path / "source"
    if make != "nothing":
        source.mkdir()
    if make == "two models":
        (source / "a.onnx").write_bytes(MODEL)
        (source / "b.onnx").write_bytes(MODEL)
    if make == "text":
        (source / "manifest.json").write_text("not json")
    with pytest.raises(PublishError):
        published(tmp_path, source)
    assert list((tmp_path / "registry").iterdir()) == []
