"""The stages by themselves: inspect, calibrate, convert, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from gateway import cli
from quantize.torch_file import read_state_dict
from tests.support import onnx_models


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    return onnx_models.write(tmp_path_factory.mktemp("model"), onnx_models.cnn(norm=True))


def test_inspect(capsys: pytest.CaptureFixture[str], paths: tuple[str, str, str]) -> None:
    assert cli.main(["quantize", "inspect", paths[0], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["normalised"] == ["1 batch norms folded into convolutions"]
    assert found["integer_operators"] == ["c0.node", "c1.node", "logits.node"]
    assert cli.main(["quantize", "inspect", paths[0]]) == 0
    assert "float32 [?, 3, 12, 12]" in capsys.readouterr().out


def test_calibrate_writes_every_range(
    capsys: pytest.CaptureFixture[str], paths: tuple[str, str, str], tmp_path: Path
) -> None:
    out = tmp_path / "ranges.json"
    assert cli.main(["quantize", "calibrate", paths[0], "--calibration", paths[1], "--out", str(out), "--quiet"]) == 0
    found = json.loads(out.read_text())
    values = np.load(paths[1])["x"]
    assert found["rows"] == 64
    assert found["tensors"]["x"]["min"] == pytest.approx(values.min())
    assert found["tensors"]["x"]["max"] == pytest.approx(values.max())
    assert sum(found["tensors"]["x"]["counts"]) == values.size


def test_convert_then_evaluate(capsys: pytest.CaptureFixture[str], paths: tuple[str, str, str], tmp_path: Path) -> None:
    model, calibration, evaluation = paths
    out = tmp_path / "int8.onnx"
    assert cli.main(["quantize", "convert", model, "--calibration", calibration, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["proven"] is False
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(str(out)).graph.node)
    command = ["quantize", "evaluate", model, str(out), "--evaluation", evaluation, "--target", "onnxruntime", "--json"]
    assert cli.main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["targets"]["onnxruntime"]["verdict"] == "pass"


def test_evaluate_refuses_another_model(
    capsys: pytest.CaptureFixture[str], paths: tuple[str, str, str], tmp_path: Path
) -> None:
    model = onnx.load(paths[0])
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), "w2"))
    onnx.save(model, str(tmp_path / "other.onnx"))
    command = ["quantize", "evaluate", paths[0], str(tmp_path / "other.onnx"), "--evaluation", paths[2]]
    assert cli.main([*command, "--target", "onnxruntime", "--quiet"]) == 3


def test_evaluate_refuses_a_graph_of_other_rows(
    capsys: pytest.CaptureFixture[str], paths: tuple[str, str, str], tmp_path: Path
) -> None:
    b = onnx_models.Builder()
    b.node("MatMul", ["x", b.weight("w", 4, 5)], "logits")
    rows = onnx_models.value("x", onnx.TensorProto.FLOAT, "rows", 4)
    other = b.model([rows], [onnx_models.value("logits", onnx.TensorProto.FLOAT, "rows", 5)])
    onnx.save(other, str(tmp_path / "other.onnx"))
    command = ["quantize", "evaluate", paths[0], str(tmp_path / "other.onnx"), "--evaluation", paths[2], "--quiet"]
    for target in ("openvino", "onnxruntime"):
        assert cli.main([*command, "--target", target]) == 4
        assert "does not take these rows" in capsys.readouterr().err


def test_an_older_opset_is_raised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(onnx_models.cnn(opset=13), str(tmp_path / "old.onnx"))
    assert cli.main(["quantize", "inspect", str(tmp_path / "old.onnx"), "--json"]) == 0
    assert "opset 13 raised to 17" in json.loads(capsys.readouterr().out)["normalised"]


def test_a_pickle_that_is_no_state_dict_runs_nothing(tmp_path: Path) -> None:
    import pickle

    from quantize.errors import BadInput

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "ran"),))  # type: ignore[return-value]

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(BadInput, match="only plain tensors"):
        read_state_dict(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
