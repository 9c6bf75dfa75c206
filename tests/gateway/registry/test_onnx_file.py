from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.registry.manifest import parse_manifest
from gateway.registry.onnx_file import OnnxTensor, read_onnx
from gateway.registry.onnx_signature import DEFAULT_MAX_BATCH, signature_of, warmup_inputs
from gateway.tensors import DataType
from tests.support import onnx_bytes
from tests.support.processes import ROOT

FP32, INT64, STRING = 1, 7, 8


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


def simple(**changes: Any) -> bytes:
    arguments: dict[str, Any] = {"inputs": {"x": (FP32, ["n", 3])}, "outputs": {"y": (INT64, ["n", "m"])}}
    return onnx_bytes.model(**(arguments | changes))


def test_tensors_opset_and_files_are_read(tmp_path: Path) -> None:
    model = read_onnx(written(tmp_path, simple(weights=["w"], external={"v": "model.data"}, opset=19)))
    assert model.inputs == (OnnxTensor("x", DataType.FP32, ("n", 3)),)
    assert model.outputs == (OnnxTensor("y", DataType.INT64, ("n", "m")),)
    assert (model.opset, model.ir_version, model.producer) == (19, 8, "tests")
    assert model.external == ("model.data",)


def test_weights_among_the_inputs_are_not_inputs(tmp_path: Path) -> None:
    content = simple(inputs={"x": (FP32, ["n", 3]), "w": (FP32, [4])}, weights=["w"])
    assert [tensor.name for tensor in read_onnx(written(tmp_path, content)).inputs] == ["x"]


@pytest.mark.parametrize("name", ["wide_deep", "efficientnet_lite0"])
def test_real_models_are_read_as_their_manifests_say(name: str) -> None:
    folder = ROOT / "model_repo" / name / "1"
    manifest = parse_manifest((folder / "manifest.json").read_bytes())
    signature = signature_of(read_onnx(folder / "artifacts/onnx/model.onnx"), manifest.max_batch_size).document
    for key, tensors in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        assert signature[key] == [
            {"name": tensor.name, "datatype": tensor.datatype.value, "shape": list(tensor.shape)} for tensor in tensors
        ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "not an ONNX model"),
        (b"\x08\x08", "no graph"),
        (simple(inputs={}), "no inputs"),
        (simple(outputs={"y": (14, ["n", 3])}), "element type 14"),
        (simple(outputs={"y": (FP32, None)}), "no shape"),
        (simple()[:-9], "not an ONNX model"),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_onnx(written(tmp_path, content))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_or_read_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    content = bytearray(simple(weights=["w"], external={"v": "model.data"}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with suppress(ValueError):
        read_onnx(path)


@pytest.mark.parametrize(
    ("inputs", "outputs", "rows", "note"),
    [
        ({"x": ["n", 3]}, {"y": ["n", 2]}, DEFAULT_MAX_BATCH, "is free"),
        ({"x": ["n", 3], "z": ["n", None]}, {"y": ["n", 2]}, DEFAULT_MAX_BATCH, "is free"),
        ({"x": ["n", 3]}, {"boxes": ["num_det", 4]}, 0, "'boxes' is 'num_det', not 'n'"),
        ({"x": ["n", 3]}, {"y": ["n", 2], "boxes": [None, 4]}, 0, "'boxes' has no name"),
        ({"x": [None, 3]}, {"y": [None, 2]}, 0, "'x' has no name"),
        ({"x": [1, 3]}, {"y": ["n", 2]}, 0, "'x' is fixed to 1"),
        ({"x": ["n", 3]}, {"y": [1, 2]}, 0, "'y' is fixed to 1"),
        ({"x": ["n", 3], "z": ["m", 3]}, {"y": ["n", 2]}, 0, "differ"),
        ({"x": ["n", "n"]}, {"y": ["n", 2]}, 0, "also another dimension"),
        ({"x": ["n", 3]}, {"y": ["n"]}, 0, "no dimension beside"),
    ],
)
def test_when_a_model_batches(
    tmp_path: Path, inputs: dict[str, Any], outputs: dict[str, Any], rows: int, note: str
) -> None:
    content = onnx_bytes.model({k: (FP32, v) for k, v in inputs.items()}, {k: (FP32, v) for k, v in outputs.items()})
    model = read_onnx(written(tmp_path, content))
    found = signature_of(model, None)
    assert found.document["max_batch_size"] == rows
    assert note in found.notes[0]
    shape = next(iter(inputs.values()))
    expected = [size if isinstance(size, int) else -1 for size in (shape[1:] if rows else shape)]
    assert found.document["inputs"][0]["shape"] == expected
    assert signature_of(model, 0).document["max_batch_size"] == 0
    if rows == 0:
        with pytest.raises(ValueError, match="takes no batches"):
            signature_of(model, 8)
    else:
        assert signature_of(model, 8).document["max_batch_size"] == 8


def test_scalars_are_refused(tmp_path: Path) -> None:
    model = read_onnx(written(tmp_path, simple(outputs={"y": (FP32, [])})))
    with pytest.raises(ValueError, match="'y' is a scalar"):
        signature_of(model, None)


def test_warm_up_inputs_fit_the_model_and_are_always_the_same(tmp_path: Path) -> None:
    content = simple(inputs={"x": (FP32, ["n", 3]), "ids": (INT64, ["n", "length"])})
    model = read_onnx(written(tmp_path, content))
    made = warmup_inputs(model, True)
    assert made is not None
    assert made == warmup_inputs(model, True)
    arrays = np.load(io.BytesIO(made))
    assert {name: (arrays[name].dtype, arrays[name].shape) for name in arrays} == {
        "input.x": (np.float32, (1, 3)),
        "input.ids": (np.int64, (1, 8)),
    }
    assert not arrays["input.ids"].any()
    assert warmup_inputs(read_onnx(written(tmp_path, simple(inputs={"s": (STRING, ["n", 1])}))), True) is None
