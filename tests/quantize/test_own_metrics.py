"""Metrics that callers bring (`module:function`): what is wrong with them is said before ranges are computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantize import calibration, errors, pipeline
from quantize.policy import Policy
from tests.support import onnx_models

METRICS = """
def boom(outputs, labels): raise RuntimeError("not those labels")
def words(outputs, labels): return "good"
def nan(outputs, labels): return float("nan")
def one(outputs): return 1.0
"""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("boom", "fails with RuntimeError: not those labels"),
        ("words", "fails with ValueError"),
        ("nan", "gives nan, not a number"),
        ("one", "fails with TypeError"),
    ],
)
def test_metrics_that_give_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, said: str) -> None:
    (tmp_path / f"metric_{function}.py").write_text(METRICS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(calibration, "watching", None)  # it must not get that far
    paths = onnx_models.write(tmp_path, onnx_models.cnn(), evaluation=64)
    with pytest.raises(errors.BadInput, match=f"metric metric_{function}:{function}: {said}"):
        pipeline.run(*paths, Policy(metric=f"metric_{function}:{function}"), lambda *_: None)
