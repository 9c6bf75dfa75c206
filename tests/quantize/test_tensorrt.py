"""Every TensorRT-form graph is parsed and built by a real TensorRT (TensorRT-RTX, which needs no GPU to build)."""

from __future__ import annotations

import onnx
import pytest

from quantize import tensorrt_rtx
from quantize.calibration import calibrate
from quantize.errors import UnsupportedModel
from quantize.graph import Graph
from quantize.normalise import normalise
from quantize.policy import Recipe
from quantize.runtimes import OnnxRuntime
from quantize.sources import from_arrays
from quantize.targets import make, wanted_tensors
from quantize.tensorrt_form import for_tensorrt, lint
from tests.support import onnx_models

MODELS = {"cnn": onnx_models.cnn, "picture": onnx_models.picture_cnn, "encoder": onnx_models.encoder}


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_parsed_and_built(name: str, per_channel: bool) -> None:
    model, _ = normalise(MODELS[name]())
    rows = from_arrays("rows", onnx_models.rows_for(model, 16, 1))
    found = calibrate(model, wanted_tensors(model, ["tensorrt"]), rows, rows=None)
    candidate = make("tensorrt", model, found, Recipe("", "minmax", per_channel, ()))
    engine = tensorrt_rtx.build(candidate.content, rows=(1, 4, 8))
    assert engine.plan
    assert engine.capability == "8.9"
    assert lint(onnx.load_from_string(candidate.content)) == []


def test_its_parser_refuses_the_cpu_form() -> None:
    """The lint says before TensorRT does that uint8 with a zero point is not for it."""
    model, _ = normalise(onnx_models.cnn())
    rows = from_arrays("rows", onnx_models.rows_for(model, 16, 1))
    found = calibrate(model, wanted_tensors(model, ["openvino"]), rows, rows=None)
    candidate = make("openvino", model, found, Recipe("", "minmax", True, ()))
    assert lint(onnx.load_from_string(candidate.content))
    with pytest.raises(UnsupportedModel, match="TensorRT"):
        tensorrt_rtx.build(candidate.content, rows=(1, 4, 8))


def test_moving_the_cast_changes_nothing() -> None:
    model, _ = normalise(onnx_models.picture_cnn())
    moved = for_tensorrt(model)
    assert [n.op_type for n in moved.graph.node][:2] == ["Cast", "Transpose"]
    rows = onnx_models.rows_for(model, 8, 3)
    before, after = (OnnxRuntime(m.SerializeToString(), ["logits"]).run(rows)["logits"] for m in (model, moved))
    assert before.tobytes() == after.tobytes()
    assert Graph(moved).is_float("x")
