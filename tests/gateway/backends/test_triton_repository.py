from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest

from gateway.backends.triton_placement import DiskPlacement, PushPlacement
from gateway.backends.triton_repository import FINGERPRINT, RenderOptions, choose_target, render, triton_name
from gateway.errors import ErrorCode, GatewayError
from gateway.registry.manifest import Manifest, TargetEntry, TensorEntry
from gateway.tensors import DataType
from gateway.versions import ModelVersion

VERSION = ModelVersion("m", 7)
MANIFEST = Manifest(
    version=VERSION,
    max_batch_size=4,
    inputs=(TensorEntry("X", DataType.FP32, (3,)), TensorEntry("T", DataType.BYTES, (1,), optional=True)),
    outputs=(TensorEntry("Y", DataType.INT64, (-1,), labels="artifacts/labels.txt"),),
    targets=(
        TargetEntry("tensorrt-10.13-sm90", ("artifacts/plan/model.plan",)),
        TargetEntry("onnxruntime", ("artifacts/onnx/net.onnx",), {"intra_op_threads": 1, "instance_count": 2}),
        TargetEntry("openvino", ("artifacts/openvino/net.xml", "artifacts/openvino/net.bin")),
        TargetEntry("python", ("artifacts/python/mine.py", "artifacts/python/words.txt")),
    ),
    files=(),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version's folder with every artifact; each file holds its own path."""
    root = tmp_path / "version"
    paths = [path for target in MANIFEST.targets for path in target.artifacts] + ["artifacts/labels.txt"]
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def test_the_version_chooses_its_first_runnable_target() -> None:
    assert choose_target(MANIFEST, ()).name == "onnxruntime"


def test_a_configured_order_wins() -> None:
    assert choose_target(MANIFEST, ("tensorrt", "python", "openvino")).name == "python"


def test_nothing_that_runs_here_is_a_clear_failure() -> None:
    only_gpu = dataclasses.replace(MANIFEST, targets=MANIFEST.targets[:1])
    with pytest.raises(GatewayError, match=r"m/7 has no target that runs here \(tensorrt-10") as caught:
        choose_target(only_gpu, ())
    assert caught.value.code is ErrorCode.BACKEND_FAILED


def test_graph_target(folder: Path) -> None:
    model = render(MANIFEST, folder, RenderOptions())
    assert model.name == triton_name(VERSION) == "m.v7"
    assert set(model.files) == {"1/model.py", "1/net.onnx", "labels.txt"}
    config = json.loads(model.load_parameters()["config"])
    assert config["parameters"].pop(FINGERPRINT) == {"string_value": model.fingerprint}
    assert config["parameters"] == {
        "intra_op_threads": {"string_value": "1"},
        "engine": {"string_value": "onnxruntime"},
        "model_file": {"string_value": "net.onnx"},
    }
    assert config["instance_group"] == [{"count": 2, "kind": "KIND_CPU"}]
    assert config["input"][1] == {"name": "T", "data_type": "TYPE_STRING", "dims": [1], "optional": True}
    assert config["output"][0]["label_filename"] == "labels.txt"
    assert "dynamic_batching" not in config


def test_python_target_and_options(folder: Path) -> None:
    options = RenderOptions(
        target_order=("python",), instance_count=3, intra_op_threads=2, dynamic_batching=True, max_queue_delay_us=500
    )
    model = render(MANIFEST, folder, options)
    parameters = model.load_parameters()
    assert parameters["file:1/model.py"] == b"artifacts/python/mine.py"
    assert parameters["file:1/words.txt"] == b"artifacts/python/words.txt"
    config = json.loads(parameters["config"])
    assert config["instance_group"][0]["count"] == 3
    assert config["dynamic_batching"] == {"max_queue_delay_microseconds": 500}
    assert config["parameters"].pop(FINGERPRINT) == {"string_value": model.fingerprint}
    assert config["parameters"] == {"intra_op_threads": {"string_value": "2"}}


def test_the_fingerprint_tells_content_and_rendering_apart(folder: Path) -> None:
    same = render(MANIFEST, folder, RenderOptions()).fingerprint
    assert render(MANIFEST, folder, RenderOptions()).fingerprint == same
    assert render(dataclasses.replace(MANIFEST, digest="other"), folder, RenderOptions()).fingerprint != same
    assert render(MANIFEST, folder, RenderOptions(intra_op_threads=7)).fingerprint != same


def test_a_model_that_never_batches_gets_no_batcher(folder: Path) -> None:
    unbatched = dataclasses.replace(MANIFEST, max_batch_size=0)
    assert "dynamic_batching" not in render(unbatched, folder, RenderOptions(dynamic_batching=True)).config


def test_two_artifacts_of_one_name_are_refused(folder: Path) -> None:
    target = TargetEntry("openvino", ("a/net.onnx", "b/net.onnx"))
    with pytest.raises(GatewayError, match=r"both be 1/net\.onnx"):
        render(dataclasses.replace(MANIFEST, targets=(target,)), folder, RenderOptions())


def test_placing_replacing_and_pruning(tmp_path: Path, folder: Path) -> None:
    options = [RenderOptions()]
    placement = DiskPlacement(tmp_path / "repo", lambda _: (MANIFEST, folder), lambda _: options[0])
    assert asyncio.run(placement.prepare(VERSION)) == {}
    placed = placement.models / "m.v7"
    assert (placed / "1" / "net.onnx").read_text() == "artifacts/onnx/net.onnx"
    assert 'name: "m.v7"' in (placed / "config.pbtxt").read_text()
    (placement.models / "gone.v1").mkdir()
    options[0] = RenderOptions(target_order=("openvino",))
    asyncio.run(placement.prepare(VERSION))
    assert sorted(path.name for path in (placed / "1").iterdir()) == ["model.py", "net.bin", "net.xml"]
    assert placement.prune([VERSION]) == ["gone.v1"]
    assert [path.name for path in placement.models.iterdir()] == ["m.v7"]
    asyncio.run(placement.discard(VERSION))
    asyncio.run(placement.discard(VERSION))
    assert list(placement.models.iterdir()) == []


def test_a_failed_render_leaves_the_old_one(tmp_path: Path, folder: Path) -> None:
    placement = DiskPlacement(tmp_path / "repo", lambda _: (MANIFEST, folder), lambda _: RenderOptions())
    placement.write(VERSION)
    (folder / "artifacts/onnx/net.onnx").unlink()
    with pytest.raises(GatewayError, match="m/7 could not be placed"):
        placement.write(VERSION)
    assert (placement.models / "m.v7" / "1" / "net.onnx").exists()
    assert not any(path.name.startswith("m.v7") for path in (tmp_path / "repo" / "staging").iterdir())


def test_a_rejected_version_names_the_reason() -> None:
    def lookup(_: ModelVersion) -> tuple[Manifest, Path]:
        raise ValueError("m/7: artifacts/x has another sha256 than the manifest says")

    with pytest.raises(GatewayError, match="another sha256") as caught:
        asyncio.run(PushPlacement(lookup, lambda _: RenderOptions()).prepare(VERSION))
    assert caught.value.code is ErrorCode.BACKEND_FAILED
