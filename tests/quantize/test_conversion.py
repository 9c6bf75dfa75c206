"""A recorded conversion gives the proven bytes again, or says that it does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.registry.converting import make, unmade
from gateway.registry.directory import DirectorySource
from gateway.registry.fetching import FetchError
from gateway.registry.integrity import ArtifactsNotFetched
from gateway.versions import ModelVersion
from quantize import pipeline
from quantize.conversion import record_of, repeat
from quantize.errors import BadInput, IntegrityFailure
from quantize.policy import Policy, Recipe
from tests.support import onnx_models


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with FP32 as version 1 and INT8, two targets, as version 2."""
    folder = tmp_path_factory.mktemp("conversion")
    model, calibration, evaluation = onnx_models.write(folder, onnx_models.encoder())
    registry = folder / "registry"
    registry.mkdir()
    assert cli.main(["models", "publish", model, "--name", "tiny", "--registry", str(registry)]) == 0
    first = next((registry / "tiny/1/artifacts").rglob("model.onnx"))
    command = ["quantize", "publish", str(first), "--name", "tiny", "--calibration", calibration, "--evaluation",
               evaluation, "--registry", str(registry), "--target", "onnxruntime", "--target", "tensorrt",
               "--allow-slower", "--max-batch-size", "8", "--quiet"]  # fmt: skip
    assert cli.main(command) == 0
    return registry


@pytest.fixture
def registry(published: Path, tmp_path: Path) -> Path:
    """A copy whose INT8 graphs are described as made, and are not there."""
    shutil.copytree(published, tmp_path / "registry")
    folder = tmp_path / "registry" / "tiny" / "2"
    (folder / "manifest.sha256").unlink(missing_ok=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["path"].endswith("model.onnx"):
            record = entry["path"].replace("model.onnx", "conversion.json")
            source = json.loads((folder / record).read_text())["source"]
            entry["conversion"] = {"version": source["version"], "path": source["path"], "record": record}
            (folder / entry["path"]).unlink()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "registry"


def made(registry: Path) -> int:
    return make(unmade(DirectorySource(registry)), repeat, lambda _: None)


def test_what_is_missing_is_made_again(published: Path, registry: Path) -> None:
    with pytest.raises(ArtifactsNotFetched, match="make models"):
        DirectorySource(registry).verify(ModelVersion("tiny", 2))
    assert made(registry) == 2
    assert made(registry) == 0
    DirectorySource(registry).verify(ModelVersion("tiny", 2))
    for target in ("onnxruntime", "tensorrt"):
        path = f"tiny/2/artifacts/{target}/model.onnx"
        assert (registry / path).read_bytes() == (published / path).read_bytes()
    assert [p.name for p in (registry / "tiny/2/artifacts/tensorrt").iterdir() if p.name.startswith(".")] == []


def test_another_source_or_record_is_found_out(registry: Path) -> None:
    first = next((registry / "tiny/1/artifacts").rglob("model.onnx"))
    first.write_bytes(onnx_models.cnn().SerializeToString())
    with pytest.raises(IntegrityFailure, match="not the FP32 model"):
        made(registry)
    first.unlink()
    with pytest.raises(FetchError, match="is not there"):
        made(registry)


def test_a_changed_record_gives_other_bytes(published: Path, tmp_path: Path) -> None:
    folder = published / "tiny" / "2"
    record = json.loads((folder / "artifacts/tensorrt/conversion.json").read_text())
    name = next(iter(record["scales"]))
    record["scales"][name][0] *= 1.5
    (tmp_path / "record.json").write_text(json.dumps(record))
    first = next((published / "tiny/1/artifacts").rglob("model.onnx"))
    with pytest.raises(IntegrityFailure, match="other bytes"):
        repeat(first, tmp_path / "record.json", "0" * 64)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"form": {"x": 1}}', '{"form": null}'])
def test_a_broken_record(tmp_path: Path, content: str) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(BadInput, match="not a record"):
        repeat(tmp_path / "model.onnx", tmp_path / "record.json", "0" * 64)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("SmoothQuant", "mse", True, (), smooth=True),
        Recipe("dynamic", "dynamic", True, (), dynamic=True),
        Recipe("worst", "mse", True, (), revert=True),
    ],
    ids=lambda recipe: recipe.why,
)
def test_every_rung_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> None:
    model, calibration, evaluation = onnx_models.write(tmp_path, onnx_models.encoder())
    monkeypatch.setattr(pipeline, "rungs", lambda *_: [recipe])
    policy = Policy(targets=("onnxruntime",), max_batch_size=8, allow_slower=True, fewest_coverage=0.1)
    outcome = pipeline.run(model, calibration, evaluation, policy, lambda *_: None)
    (attempt,) = outcome.attempts
    assert attempt["verdict"] == "pass", attempt
    candidate = outcome.results["onnxruntime"].candidate
    source: dict[str, Any] = {"sha256": outcome.prepared.loaded.sha256}
    peaks = outcome.smoothing if recipe.smooth else {}
    assert bool(peaks) == recipe.smooth
    record = record_of(candidate, [spec.name for spec in outcome.prepared.outputs], source, peaks)
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert repeat(Path(model), tmp_path / "record.json", candidate.sha256) == candidate.content
