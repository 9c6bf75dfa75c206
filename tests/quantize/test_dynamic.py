"""Dynamic quantization: integers whose scales come from each row, so that company in a batch changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from quantize import pipeline
from quantize.calibration import Calibration
from quantize.coverage import coverage, multiply_adds
from quantize.dynamic import can_be_dynamic
from quantize.normalise import normalise
from quantize.policy import Policy, Recipe
from quantize.runtimes import RUNTIMES
from quantize.targets import Candidate, make
from tests.support import onnx_models

RECIPE = Recipe("dynamic", "dynamic", True, (), dynamic=True)


def made(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Candidate]:
    normal, _ = normalise(model)
    return normal, make("onnxruntime", normal, Calibration(), RECIPE)


def test_answers_are_close_and_do_not_depend_on_company() -> None:
    normal, candidate = made(onnx_models.encoder())
    rows = onnx_models.rows_for(normal, 32, 1)
    before = RUNTIMES["onnxruntime"](normal.SerializeToString(), ["logits"]).run(rows)["logits"]
    runtime = RUNTIMES["onnxruntime"](candidate.content, ["logits"])
    after = runtime.run(rows)["logits"]
    assert np.abs(after - before).max() < 0.04 * np.ptp(before)
    for row in (0, 5, 31):
        alone = runtime.run({name: array[row : row + 1] for name, array in rows.items()})["logits"]
        np.testing.assert_allclose(alone[0], after[row], rtol=0, atol=1e-5)
    work = multiply_adds(normal, {name: array[:1] for name, array in rows.items()})
    assert coverage(candidate.content, work, "onnxruntime", ["logits"]).share > 0.9
    assert coverage(candidate.content, work, "openvino", ["logits"]).share == 0.0, "hence no rung for OpenVINO"
    assert made(onnx_models.encoder())[1].content == candidate.content


def test_zero_rows_and_huge_rows_stay_finite() -> None:
    candidate = made(mlp())[1]
    rows = np.zeros((3, 32), np.float32)
    rows[1], rows[2] = 1e30, 1e-30
    found = RUNTIMES["onnxruntime"](candidate.content, ["logits"]).run({"x": rows})["logits"]
    assert np.isfinite(found).all()
    assert not found[0].any()


def test_convolutions_have_no_dynamic_form() -> None:
    assert not can_be_dynamic(onnx_models.cnn())
    assert can_be_dynamic(onnx_models.encoder())


def mlp() -> onnx.ModelProto:
    """FP32 [rows, 32] to [rows, 5], without biases: its class does not depend on the size of a row."""
    b = onnx_models.Builder(4)
    x = "x"
    for layer in range(3):
        x = b.node("Relu", [b.node("MatMul", [x, b.weight(f"w{layer}", 32, 32)], f"m{layer}")], f"r{layer}")
    b.node("Gemm", [x, b.weight("head", 5, 32)], "logits", transB=1)
    value = onnx_models.value
    return b.model([value("x", TensorProto.FLOAT, "rows", 32)], [value("logits", TensorProto.FLOAT, "rows", 5)])


def test_the_last_rung_mends_rows_of_very_different_size(tmp_path: Path) -> None:
    """One scale for all rows rounds the small ones to nothing; a scale for each row does not."""
    model, rng = mlp(), np.random.default_rng(8)
    sizes = 10.0 ** rng.uniform(-4, 0, (900, 1))
    rows = (rng.normal(size=(900, 32)) * sizes).astype(np.float32)
    label = onnx_models.answers(model, {"x": rows}).argmax(axis=1)
    onnx.save(model, str(tmp_path / "model.onnx"))
    np.savez(tmp_path / "calibration.npz", x=rows[:200])
    np.savez(tmp_path / "evaluation.npz", x=rows[200:], label=label[200:])
    paths = [str(tmp_path / name) for name in ("model.onnx", "calibration.npz", "evaluation.npz")]
    policy = Policy(targets=("onnxruntime",), max_batch_size=16, allow_slower=True)
    outcome = pipeline.run(paths[0], paths[1], paths[2], policy, lambda *_: None)
    assert [a["verdict"] for a in outcome.attempts[:-1]] == ["fail"] * (len(outcome.attempts) - 1)
    assert (outcome.attempts[-1]["why"], outcome.attempts[-1]["verdict"]) == ("dynamic", "pass"), outcome.attempts[-1]
    assert outcome.results["onnxruntime"].batch_difference == pytest.approx(0.0, abs=1e-6)
