"""Real models with real rows: what passes, what must be refused. Rows: pinned wheels (tools/quantize_rows.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantize import pipeline
from quantize.policy import Policy
from tools import quantize_rows

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cache" / "quantize"
LITE0 = str(ROOT / "model_repo/efficientnet_lite0/1/artifacts/onnx/model.onnx")


@pytest.fixture(scope="module")
def rows() -> Path:
    """Makes the rows once; they stay in .cache."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for make, last in (
        (quantize_rows.pictures, "pictures.calibration.npz"),
        (quantize_rows.mobilenet, "mobilenet_v2.onnx"),
        (quantize_rows.table, "table.evaluation.npz"),
        (quantize_rows.texts, "texts.evaluation.npz"),
    ):
        if not (FOLDER / last).exists():
            make(FOLDER)
    return FOLDER


def run(model: str, rows: Path, kind: str, **policy: Any) -> pipeline.Outcome:
    sources = [str(rows / f"{kind}.{part}.npz") for part in ("calibration", "evaluation")]
    return pipeline.run(model, sources[0], sources[1], Policy(**policy), lambda *_: None)


def test_efficientnet_per_channel_passes(rows: Path) -> None:
    outcome = run(LITE0, rows, "pictures", targets=("openvino", "tensorrt"), accept_small_evaluation=True,
                  max_batch_size=16, allow_slower=True)  # fmt: skip
    assert outcome.verdict == "pass", outcome.reasons()
    assert [attempt["why"] for attempt in outcome.attempts] == ["as asked", "as asked"]
    found = outcome.results["openvino"]
    assert found.covered is not None
    assert found.covered.share > 0.99
    assert outcome.results["tensorrt"].built is not None


def test_efficientnet_without_accepting_twenty_pictures_is_not_enough_evidence(rows: Path) -> None:
    outcome = run(LITE0, rows, "pictures", targets=("openvino",), max_batch_size=16, allow_slower=True)
    assert outcome.verdict == "insufficient evidence"
    assert outcome.results["openvino"].judgement.independent_rows == 20


def test_efficientnet_with_one_scale_a_weight_is_refused(rows: Path) -> None:
    outcome = run(LITE0, rows, "pictures", targets=("openvino",), accept_small_evaluation=True, per_tensor=True,
                  fallback="none", max_batch_size=16)  # fmt: skip
    assert outcome.verdict == "refused"
    assert "agrees with FP32 on" in " ".join(outcome.reasons())


def test_mobilenet_is_the_natural_refusal(rows: Path) -> None:
    outcome = run(str(rows / "mobilenet_v2.onnx"), rows, "pictures", targets=("openvino",),
                  accept_small_evaluation=True, fallback="none", max_batch_size=16)  # fmt: skip
    assert outcome.verdict == "refused"
    assert "52 batch norms folded into convolutions" in outcome.prepared.steps
    assert outcome.results["openvino"].judgement.absolute_loss > 0.02


def test_minilm_with_attention_products_in_float(rows: Path) -> None:
    outcome = run(str(rows / "minilm_departments.onnx"), rows, "texts", targets=("openvino",), evaluation_rows=600,
                  max_batch_size=16, allow_slower=True)  # fmt: skip
    assert outcome.verdict == "pass", outcome.reasons()
    found = outcome.results["openvino"]
    assert len(found.candidate.placement.skipped) == 6
    assert found.covered is not None
    assert found.covered.share > 0.95
    assert found.batch_difference == 0.0


def test_wide_deep(rows: Path) -> None:
    outcome = run(str(ROOT / "model_repo/wide_deep/1/artifacts/onnx/model.onnx"), rows, "table", metric="auc",
                  targets=("openvino", "onnxruntime", "tensorrt"), max_batch_size=64, allow_slower=True)  # fmt: skip
    assert outcome.verdict == "pass", outcome.reasons()
    for found in outcome.results.values():
        assert found.judgement.upper95 < 0.003
