"""The ladder: what another rung can mend is mended, and every rung is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from quantize import pipeline
from quantize.calibration import calibrate
from quantize.normalise import infer_shapes, normalise
from quantize.policy import Policy
from quantize.runtimes import OnnxRuntime
from quantize.smoothing import smooth
from quantize.sources import from_arrays
from quantize.targets import wanted_tensors
from tests.support import onnx_models


def test_outliers_in_calibration_are_mended_by_another_range(tmp_path: Path) -> None:
    paths = onnx_models.write(tmp_path, onnx_models.cnn(), calibration=1024)
    rows = dict(np.load(paths[1]))
    rows["x"][0, 0, 0, 0] = 400.0
    np.savez(paths[1], **rows)
    policy = Policy(targets=("onnxruntime",), max_batch_size=8, allow_slower=True, calibration_rows=1024)
    outcome = pipeline.run(*paths, policy, lambda *_: None)
    verdicts = [(a["why"], a["verdict"]) for a in outcome.attempts]
    assert verdicts[0] == ("as asked", "fail"), verdicts
    assert verdicts[-1][1] == "pass", verdicts
    assert outcome.verdict == "pass"
    assert outcome.results["onnxruntime"].candidate.recipe.why == verdicts[-1][0]


def test_no_ladder_when_it_is_not_wanted(tmp_path: Path) -> None:
    paths = onnx_models.write(tmp_path, onnx_models.with_outlier_channel(onnx_models.cnn()))
    policy = Policy(targets=("onnxruntime",), max_batch_size=8, fallback="none")
    outcome = pipeline.run(*paths, policy, lambda *_: None)
    assert outcome.verdict == "refused"
    assert len(outcome.attempts) == 1


def test_smoothing_changes_nothing_in_fp32_and_evens_out_channels() -> None:
    model, _ = normalise(onnx_models.encoder())
    for tensor in model.graph.initializer:
        if tensor.name == "ones":
            scale = onnx.numpy_helper.to_array(tensor).copy()
            scale[3] = 60.0
            tensor.CopyFrom(onnx.numpy_helper.from_array(scale, "ones"))
    rows = onnx_models.rows_for(model, 32, 1)
    found = calibrate(model, wanted_tensors(model, ["tensorrt"]), from_arrays("rows", rows), rows=None)
    smoothed, count = smooth(model, found)
    assert count == 2
    before, after = (OnnxRuntime(m.SerializeToString(), ["logits"]).run(rows)["logits"] for m in (model, smoothed))
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3 * np.abs(before).max())
    smoothed = infer_shapes(smoothed)
    again = calibrate(smoothed, wanted_tensors(smoothed, ["tensorrt"]), from_arrays("rows", rows), rows=None)

    def peak(histograms: dict[str, object], part: str) -> float:
        return max(h.high / max(-h.low, 1e-9) + h.high for n, h in histograms.items() if part in n)  # type: ignore[attr-defined]

    assert peak(again.histograms, "ln") < peak(found.histograms, "ln")  # type: ignore[arg-type]
