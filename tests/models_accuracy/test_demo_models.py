"""What the repository says about the demo models holds together: manifests, files, golden answers, labels, size.

That Triton gives these answers is the acceptance tests' business (tests/support/golden.py).
"""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from gateway.registry.directory import DirectorySource
from gateway.registry.integrity import verify_version
from gateway.registry.manifest import Manifest
from gateway.tensors import DataType
from gateway.versions import ModelVersion
from quantize.conversion import repeat
from tests.support.golden import DEMO_MODELS, FP32, INT8, MODEL_REPO, GoldenCase, census_sample, golden_case

ROOT = MODEL_REPO.parent
NUMPY_TYPES = {DataType.UINT8: np.uint8, DataType.INT64: np.int64, DataType.FP32: np.float32}
MOST_COMMITTED_BYTES = 24_000_000


VERSIONS = [(model, number) for model in DEMO_MODELS for number in (FP32, INT8)]


def manifest_of(model: str, number: int) -> Manifest:
    return DirectorySource(MODEL_REPO).manifest(ModelVersion(model, number))


@pytest.fixture(params=VERSIONS, ids=lambda found: f"{found[0]}-{found[1]}")
def case(request: pytest.FixtureRequest) -> GoldenCase:
    return golden_case(*request.param)


def test_the_int8_versions_are_served_with_fp32_beside_them() -> None:
    desired = DirectorySource(MODEL_REPO).scan()
    assert {model: desired[model] for model in DEMO_MODELS} == dict.fromkeys(DEMO_MODELS, (INT8, FP32))


@pytest.mark.parametrize(("model", "number"), VERSIONS)
def test_every_file_is_what_the_manifest_says(model: str, number: int) -> None:
    verify_version(MODEL_REPO / model / str(number), manifest_of(model, number))


@pytest.mark.parametrize(("model", "number"), VERSIONS)
def test_every_committed_file_is_listed(model: str, number: int) -> None:
    folder = MODEL_REPO / model / str(number)
    listed = {file.path for file in manifest_of(model, number).files}
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert present == listed | {"manifest.json"}


def test_golden_rows_fit_the_manifest(case: GoldenCase) -> None:
    manifest = manifest_of(case.model, case.version)
    for entries, arrays in ((manifest.inputs, case.inputs), (manifest.outputs, case.expected)):
        assert [entry.name for entry in entries] == list(arrays)
        for entry in entries:
            array = arrays[entry.name]
            assert array.dtype == NUMPY_TYPES[entry.datatype]
            assert len(array) == case.rows <= manifest.max_batch_size
            assert all(want in (-1, have) for want, have in zip(entry.shape, array.shape[1:], strict=True))
            assert np.isfinite(array).all()


def test_warm_up_rows_have_the_shape_of_golden_rows(case: GoldenCase) -> None:
    with np.load(MODEL_REPO / case.model / str(case.version) / "warmup" / "inputs.npz") as arrays:
        found = {name: (arrays[name].dtype, arrays[name].shape) for name in arrays.files}
    assert found == {f"input.{name}": (a.dtype, (1, *a.shape[1:])) for name, a in case.inputs.items()}


def test_a_wrong_answer_would_be_noticed(case: GoldenCase) -> None:
    case.check(case.expected)
    rolled = {name: np.roll(array, 1, axis=0) for name, array in case.expected.items()}
    with pytest.raises(AssertionError):
        case.check(rolled)


def test_the_lineage_names_package_version_and_licence() -> None:
    for model, number in VERSIONS:
        lineage = manifest_of(model, number).lineage
        assert lineage["source_package"]
        assert lineage["source_version"]
        assert lineage["licence"]
        assert number == INT8 or (ROOT / lineage["created_by"]).is_file()


@pytest.mark.parametrize("model", DEMO_MODELS)
def test_the_int8_version_says_what_it_lost_and_on_how_many_rows(model: str) -> None:
    manifest = manifest_of(model, INT8)
    assert manifest.lineage["parent_version"] == f"{model}/{FP32}"
    assert manifest.lineage["quantization"]["verdict"] == "pass"
    assert manifest.lineage["quantization"]["forced"] is None
    found = manifest.metrics["int8"]
    assert set(found) == {"openvino", "onnxruntime", "tensorrt"} == {target.name for target in manifest.targets}
    for target, figures in found.items():
        assert figures["absolute_loss"] < 0.003, "the aim: a third of what the gate allows"
        assert figures["upper95"] < 0.01
        assert figures["coverage"] > 0.9
        assert figures["executed_on_its_engine"] == (target != "tensorrt")
        assert figures["tensorrt_rtx"] is None or figures["tensorrt_rtx"]["built"]
        if model == "efficientnet_lite0":
            assert figures["independent_rows"] == 20, "this little was accepted openly"
            assert figures["further_rows"]["at_least95"] > 0.97
        else:
            assert figures["independent_rows"] >= 2000
    assert manifest.lineage["quantization"]["accepted_small_evaluation"] == (model == "efficientnet_lite0")


@pytest.mark.parametrize(("model", "number"), [v for v in VERSIONS if v[1] == INT8])
def test_large_int8_artifacts_are_made_again_byte_for_byte(model: str, number: int) -> None:
    """`make models` has made them; here they are made once more, in this process, from the record."""
    manifest = manifest_of(model, number)
    folder = MODEL_REPO / model / str(number)
    large = [entry for entry in manifest.files if entry.path.endswith("model.onnx")]
    assert len(large) == 2
    for entry in large:
        record = folder / entry.path.replace("model.onnx", "conversion.json")
        again = repeat(MODEL_REPO / model / "1" / "artifacts/onnx/model.onnx", record, entry.sha256)
        assert len(again) == entry.size
        assert (entry.conversion is not None) == (entry.size > 1_000_000)


@pytest.mark.parametrize("number", [FP32, INT8])
def test_the_pictures_get_the_classes_they_show(number: int) -> None:
    labels = (MODEL_REPO / "efficientnet_lite0" / str(number) / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert len(labels) == len(set(labels)) == 1000
    chelsea, coffee = golden_case("efficientnet_lite0", number).expected["probabilities"]
    cats = [labels.index(name) for name in ("tabby cat", "tiger cat", "Egyptian cat")]
    assert chelsea[cats].sum() > 0.9
    assert labels[coffee.argmax()] == "espresso"
    assert coffee.max() > 0.9


@pytest.mark.parametrize("number", [FP32, INT8])
def test_sentences_of_like_meaning_are_nearest(number: int) -> None:
    embeddings = golden_case("minilm", number).expected["sentence_embedding"]
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -1)
    assert similarity.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]


def test_the_census_sample_begins_with_the_golden_rows() -> None:
    categorical, continuous, label = census_sample()
    assert categorical.shape == (1000, 8)
    assert continuous.shape == (1000, 5)
    assert 0.2 < label.mean() < 0.3
    golden = golden_case("wide_deep")
    assert np.array_equal(golden.inputs["categorical"], categorical[: golden.rows])
    assert np.array_equal(golden.inputs["continuous"], continuous[: golden.rows])
    accuracy = ((golden.expected["probability"][:, 0] > 0.5) == (label[: golden.rows] > 0)).mean()
    assert accuracy > 0.75


def test_the_repository_stays_small() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "model_repo", "gateway/demo"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    sizes = {name: (ROOT / name).stat().st_size for name in tracked if name and (ROOT / name).exists()}
    assert sizes or not (ROOT / ".git").exists()
    assert sum(sizes.values()) < MOST_COMMITTED_BYTES, max(sizes, key=sizes.__getitem__)
