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
    return pipeline.run(model, sources[0], sources[1], Policy(**policy), quiet)


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def efficientnet(rows: Path) -> pipeline.Outcome:
    """Per channel, two targets; without accepting that 20 pictures are few."""
    return run(LITE0, rows, "pictures", targets=("openvino", "tensorrt"), max_batch_size=16, allow_slower=True)


def test_against_efficientnet_per_channel_speaks_nothing_but_the_few_pictures(efficientnet: pipeline.Outcome) -> None:
    assert efficientnet.verdict == "insufficient evidence"
    assert [attempt["why"] for attempt in efficientnet.attempts] == ["as asked", "as asked"]
    for found in efficientnet.results.values():
        assert found.judgement.failures == []
        assert found.judgement.independent_rows == 20
        (doubt,) = found.judgement.doubts
        assert "20 independent rows are too few" in doubt
        assert found.covered is not None
        assert found.covered.share > 0.99
    assert efficientnet.results["tensorrt"].plan is not None


def test_efficientnet_with_one_scale_a_weight_is_refused(efficientnet: pipeline.Outcome) -> None:
    policy = Policy(targets=("openvino",), accept_small_evaluation=True, per_tensor=True, fallback="none",
                    max_batch_size=16)  # fmt: skip
    outcome = pipeline.judge_targets(efficientnet.prepared, policy, quiet, efficientnet.calibration)
    assert outcome.verdict == "refused"
    assert "agrees with FP32 on" in " ".join(outcome.reasons())


def test_mobilenet_is_the_natural_refusal(rows: Path) -> None:
    outcome = run(str(rows / "mobilenet_v2.onnx"), rows, "pictures", targets=("openvino",),
                  accept_small_evaluation=True, fallback="none", max_batch_size=16)  # fmt: skip
    assert outcome.verdict == "refused"
    assert "52 batch norms folded into convolutions" in outcome.prepared.steps
    assert outcome.results["openvino"].judgement.absolute_loss > 0.02


def test_minilm_with_attention_products_in_float(rows: Path) -> None:
    outcome = run(str(rows / "minilm_departments.onnx"), rows, "texts", targets=("openvino",),
                  evaluation_rows=500, calibration_rows=64,
                  max_batch_size=16, allow_slower=True)  # fmt: skip
    assert outcome.verdict == "pass", outcome.reasons()
    found = outcome.results["openvino"]
    assert len(found.candidate.placement.skipped) == 6
    assert found.covered is not None
    assert found.covered.share > 0.95
    assert found.batch_difference == 0.0


def test_wide_deep(rows: Path) -> None:
    outcome = run(str(ROOT / "model_repo/wide_deep/1/artifacts/onnx/model.onnx"), rows, "table", metric="auc",
                  targets=("openvino", "onnxruntime", "tensorrt"), max_batch_size=64, allow_slower=True,
                  evaluation_rows=3000)  # fmt: skip
    assert outcome.verdict == "pass", outcome.reasons()
    for found in outcome.results.values():
        assert found.judgement.upper95 < 0.003
