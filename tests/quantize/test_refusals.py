"""Whatever is wrong with a model or with rows is found before ranges are computed, and said in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantize import calibration, errors, pipeline
from quantize.policy import Policy, read_policy
from tests.support import onnx_models

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx_models.cnn()


@pytest.fixture
def no_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which the data got as far as calibration."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("calibrated with data that should have been refused")

    monkeypatch.setattr(calibration, "watching", never)


def refused(tmp_path: Path, model: onnx.ModelProto, change: Callable[[Arrays], Any], **policy: Any) -> str:
    """Returns the message with which changed calibration rows are refused."""
    paths = onnx_models.write(tmp_path, model)
    rows = dict(np.load(paths[1]))
    changed = change(rows)
    np.savez(paths[1], **(rows if changed is None else changed))
    with pytest.raises(errors.BadInput) as caught:
        pipeline.run(*paths, Policy(**policy), lambda *_: None)
    return str(caught.value)


def put(index: tuple[int, ...], bad: float) -> Callable[[Arrays], None]:
    def change(rows: Arrays) -> None:
        rows["x"][index] = bad

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put((3, 0, 0, 0), np.nan), "x has NaN (first in row 3)"),
        (put((5, 1, 2, 3), np.inf), "x has infinity (first in row 5)"),
        (put((63, 1, 2, 3), -np.inf), "x has infinity (first in row 63)"),
        (lambda rows: {"x": np.zeros_like(rows["x"])}, "x is zero everywhere"),
        (lambda rows: {"x": np.repeat(rows["x"][:1], 64, axis=0)}, "x is the same in every row"),
        (lambda rows: {"y": rows["x"]}, "input 'x' is missing"),
        (lambda rows: rows | {"extra": rows["x"]}, "'extra' is not an input"),
        (lambda rows: {"x": rows["x"].astype(np.float64)}, "x is float64, the model takes float32"),
        (lambda rows: {"x": rows["x"].astype(np.float16)}, "x is float16, the model takes float32"),
        (lambda rows: {"x": rows["x"].transpose(0, 2, 3, 1)}, "wrong layout"),
        (lambda rows: {"x": rows["x"][:, :2]}, "x has rows of [2, 12, 12], the model takes [3, 12, 12]"),
        (lambda rows: {"x": rows["x"][:4]}, "has 4 rows, at least 8 are needed"),
        (lambda rows: {"x": rows["x"][:0]}, "has no rows"),
        (lambda rows: {"x": rows["x"], "label": np.zeros(3)}, "ragged"),
        (lambda rows: {"x": np.array([[1.0], [1.0, 2.0]], dtype=object)}, "never read"),
        (lambda rows: {"x": np.float32(3)}, "single value"),
    ],
)
def test_bad_rows(
    tmp_path: Path, model: onnx.ModelProto, no_calibration: None, change: Callable[[Arrays], Any], said: str
) -> None:
    assert said in refused(tmp_path, model, change)


def test_rows_that_are_no_archive(tmp_path: Path, model: onnx.ModelProto) -> None:
    paths = onnx_models.write(tmp_path, model)
    content = Path(paths[1]).read_bytes()
    for bad in (b"", b"nothing of the sort", content[: len(content) // 2]):
        Path(paths[1]).write_bytes(bad)
        with pytest.raises(errors.BadInput, match=r"not a readable \.npz"):
            pipeline.run(*paths, Policy(), lambda *_: None)
    with pytest.raises(errors.BadInput, match="no such file"):
        pipeline.run(paths[0], str(tmp_path / "none.npz"), paths[2], Policy(), lambda *_: None)


def test_tokens_outside_the_table(tmp_path: Path) -> None:
    def change(rows: Arrays) -> None:
        rows["tokens"][7, 2] = 50

    assert "tokens has 50 in row 7, outside its table of 50" in refused(tmp_path, onnx_models.encoder(), change)


def test_evaluation_without_labels(tmp_path: Path, model: onnx.ModelProto) -> None:
    paths = onnx_models.write(tmp_path, model)
    np.savez(paths[2], **onnx_models.rows_for(model, 600, 9))
    with pytest.raises(errors.BadInput, match="has no `label`"):
        pipeline.run(*paths, Policy(), lambda *_: None)


def unsupported(tmp_path: Path, change: Callable[[onnx.ModelProto], None]) -> str:
    model = onnx_models.cnn()
    paths = onnx_models.write(tmp_path, model)
    change(model)
    onnx.save(model, paths[0])
    with pytest.raises(errors.UnsupportedModel) as caught:
        pipeline.run(*paths, Policy(), lambda *_: None)
    return str(caught.value)


def quantized(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "s"))
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", ["x", "s"], ["q"], name="q"))


def half(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float16), "h"))


def packed(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4096, np.int8), "packed"))


def foreign(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Magic", ["logits"], ["magic"], domain="com.example"))
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def training(model: onnx.ModelProto) -> None:
    model.graph.node[0].CopyFrom(helper.make_node("Dropout", ["x", "", "yes"], ["c0"], name="drop"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))


def newer(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 26


def products_gone(model: onnx.ModelProto) -> None:
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("ReduceSum", ["x", "axes"], ["logits"], keepdims=0))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    model.graph.output[0].CopyFrom(onnx_models.value("logits", TensorProto.FLOAT, "rows", 3))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (quantized, "already quantized: it has QuantizeLinear"),
        (half, "half precision: it has FP16"),
        (packed, "already quantized: weights such as 'packed'"),
        (foreign, "unknown domains: com.example"),
        (training, "Dropout in training mode"),
        (newer, "opset 26 is newer"),
        (products_gone, "nothing to quantize"),
    ],
)
def test_bad_models(tmp_path: Path, change: Callable[[onnx.ModelProto], None], said: str) -> None:
    assert said in unsupported(tmp_path, change)


def test_external_data_outside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    paths = onnx_models.write(folder, onnx_models.cnn())
    onnx.save(onnx.load(paths[0]), paths[0], save_as_external_data=True, location="weights.bin", size_threshold=0)
    loaded = onnx.load(paths[0], load_external_data=False)
    (tmp_path / "secret.bin").write_bytes((folder / "weights.bin").read_bytes())
    for location, why in (
        ("../secret.bin", "leaves"),
        (str(tmp_path / "secret.bin"), "leaves"),
        ("gone.bin", "missing"),
    ):
        for tensor in loaded.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        Path(paths[0]).write_bytes(loaded.SerializeToString())
        with pytest.raises(errors.UnsupportedModel, match=why):
            pipeline.run(*paths, Policy(), lambda *_: None)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    for tensor in loaded.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "link.bin"
    Path(paths[0]).write_bytes(loaded.SerializeToString())
    with pytest.raises(errors.UnsupportedModel, match="leaves"):
        pipeline.run(*paths, Policy(), lambda *_: None)


@pytest.mark.parametrize("content", [b"", b"\x00\xff garbage", b"GIF89a" * 100])
def test_files_that_are_no_model(tmp_path: Path, content: bytes) -> None:
    paths = onnx_models.write(tmp_path, onnx_models.cnn())
    Path(paths[0]).write_bytes(content)
    with pytest.raises(errors.BadInput, match="not an ONNX model"):
        pipeline.run(*paths, Policy(), lambda *_: None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"method": "percentile:50"}, "between 90 and 100"),
        ({"method": "kl"}, "is not one of"),
        ({"metric": "accuracy"}, "is not one of"),
        ({"max_loss": "two"}, "not a number"),
        ({"max_loss": "1/0"}, "not a number"),
        ({"targets": ["gpu"]}, "is not one of"),
        ({"threads": 0}, "between 1 and"),
        ({"unknown": 1}, "unknown option 'unknown'"),
        ({"per_tensor": "yes"}, "per_tensor must be bool"),
    ],
)
def test_bad_policies(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(values))
    with pytest.raises(errors.BadInput, match=said):
        Policy(**read_policy(path))


def test_models_without_a_float_output(tmp_path: Path) -> None:
    b = onnx_models.Builder()
    b.node("ArgMax", [b.node("MatMul", ["x", b.weight("w", 4, 4)], "scores")], "y", axis=1)
    inputs = [onnx_models.value("x", TensorProto.FLOAT, "rows", 4)]
    paths = onnx_models.write(tmp_path, b.model(inputs, [onnx_models.value("y", TensorProto.INT64, "rows", 1)]))
    with pytest.raises(errors.UnsupportedModel, match="no output is float32"):
        pipeline.run(*paths, Policy(metric="agreement"), lambda *_: None)


def test_models_that_take_exactly_so_many_rows(tmp_path: Path) -> None:
    onnx.save(onnx_models.cnn(rows=4), str(tmp_path / "model.onnx"))
    rows = onnx_models.rows_for(onnx_models.cnn(), 16, 1)
    np.savez(tmp_path / "rows.npz", **rows)
    where = str(tmp_path / "rows.npz")
    with pytest.raises(errors.UnsupportedModel, match="exactly 4 rows"):
        pipeline.run(str(tmp_path / "model.onnx"), where, where, Policy(metric="agreement"), lambda *_: None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda label: {"label": np.where(np.arange(len(label)) == 3, 7, label)}, "label 7 is not one of 5 classes"),
        (lambda label: {"label": np.where(np.arange(len(label)) == 3, -1, label)}, "label -1 is not one of 5"),
        (lambda label: {"label": label + 0.5}, "are no classes"),
        (lambda label: {"label": np.eye(5)[label]}, "one label a row is needed"),
        (lambda label: {"label": label.astype(str)}, "numbers are needed"),
        (lambda label: {"label": label, "group": np.full(len(label), np.nan)}, "group must be one whole number"),
        (lambda label: {"label": label, "group": np.zeros((len(label), 2), int)}, "group must be one whole number"),
    ],
)
def test_labels_that_are_no_answers(
    tmp_path: Path, model: onnx.ModelProto, no_calibration: None, change: Callable[[NDArray[Any]], Arrays], said: str
) -> None:
    paths = onnx_models.write(tmp_path, model, evaluation=64)
    rows = dict(np.load(paths[2]))
    np.savez(paths[2], **(rows | change(rows["label"])))
    with pytest.raises(errors.BadInput) as caught:
        pipeline.run(*paths, Policy(), lambda *_: None)
    assert said in str(caught.value)


FUNCTIONS = """
import numpy as np
calls = [0]
def none(): return None
def boom():
    yield {"x": np.ones((4, 3, 12, 12), np.float32)}
    raise RuntimeError("database gone")
def lists(): yield {"x": [[1, 2], [3]]}
def dates(): yield {"x": np.zeros((9, 3, 12, 12), "M8[s]")}
def other():
    calls[0] += 1
    for _ in range(4):
        yield {"x": np.random.default_rng(calls[0]).normal(size=(8, 3, 12, 12)).astype(np.float32)}
"""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("none", "fails with TypeError"),
        ("boom", "fails with RuntimeError: database gone"),
        ("lists", "ragged"),
        ("dates", "not an array of numbers"),
        ("other", "gives other rows at every pass"),
    ],
)
def test_functions_that_give_no_usable_rows(
    tmp_path: Path, model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, function: str, said: str
) -> None:
    (tmp_path / f"rows_{function}.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    paths = onnx_models.write(tmp_path, model, evaluation=64)
    with pytest.raises(errors.BadInput, match=said):
        pipeline.run(paths[0], f"rows_{function}:{function}", paths[2], Policy(), lambda *_: None)


def test_bytes_of_the_other_order_are_the_same_rows(tmp_path: Path, model: onnx.ModelProto) -> None:
    paths = onnx_models.write(tmp_path, model, evaluation=64)
    np.savez(paths[1], x=np.load(paths[1])["x"].astype(">f4"))
    policy = Policy(targets=("onnxruntime",), max_batch_size=4, fallback="none", allow_slower=True)
    assert pipeline.run(*paths, policy, lambda *_: None).verdict == "insufficient evidence"
