"""`--force` overrules accuracy, speed and lack of evidence, openly; never a broken artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway import cli
from tests.support import onnx_models


def publish(capsys: pytest.CaptureFixture[str], paths: tuple[str, str, str], registry: Path, *more: str) -> Any:
    model, calibration, evaluation = paths
    code = cli.main(
        ["quantize", "publish", model, "--name", "tiny", "--calibration", calibration, "--evaluation", evaluation,
         "--registry", str(registry), "--max-batch-size", "8", "--target", "onnxruntime", "--allow-slower", "--json",
         *more]
    )  # fmt: skip
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    model = onnx_models.with_outlier_channel(onnx_models.cnn())
    return onnx_models.write(tmp_path_factory.mktemp("lossy"), model)


def test_who_and_why_are_recorded_and_shown(
    capsys: pytest.CaptureFixture[str], lossy: tuple[str, str, str], tmp_path: Path
) -> None:
    options = ("--fallback", "none", "--force", "--actor", "ann", "--reason", "the old card cannot hold FP32",
               "--report", str(tmp_path / "report"))  # fmt: skip
    registry = tmp_path / "registry"
    registry.mkdir()
    code, report = publish(capsys, lossy, registry, *options)
    assert (code, report["verdict"]) == (0, "forced")
    assert report["forced"]["by"] == "ann"
    assert any("loses" in why for why in report["forced"]["overruled"]["onnxruntime"])
    manifest = json.loads((registry / "tiny/1/manifest.json").read_text())
    assert manifest["lineage"]["quantization"]["verdict"] == "forced"
    assert manifest["lineage"]["quantization"]["forced"] == report["forced"]
    assert manifest["metrics"]["int8"]["onnxruntime"]["verdict"] == "fail"
    assert "was overruled" in (tmp_path / "report" / "report.html").read_text()
    assert "FORCED by ann: the old card" in (tmp_path / "report" / "report.txt").read_text()
    assert cli.main(["models", "show", "tiny", "--registry", str(registry)]) == 0
    assert "FORCED by ann: the old card cannot hold FP32" in capsys.readouterr().out


def test_a_reason_is_needed(capsys: pytest.CaptureFixture[str], lossy: tuple[str, str, str], tmp_path: Path) -> None:
    code, report = publish(capsys, lossy, tmp_path, "--force")
    assert code == 2
    assert "--reason" in report["problems"][0]


def test_float_that_is_called_int8_cannot_be_forced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paths = onnx_models.write(tmp_path, onnx_models.encoder())
    options = ("--fewest-coverage", "1.0", "--fallback", "none", "--force", "--reason", "because")
    code, report = publish(capsys, paths, tmp_path, *options)
    assert (code, report["verdict"]) == (3, "refused")
    assert any("run as integers" in problem for problem in report["problems"])
    assert report["problems"][-1] == "--force does not overrule this"
    assert not (tmp_path / "tiny").exists()


def test_what_passes_is_not_forced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paths = onnx_models.write(tmp_path, onnx_models.cnn())
    code, report = publish(capsys, paths, tmp_path, "--force", "--reason", "to be sure", "--dry-run")
    assert (code, report["verdict"], report["forced"]) == (0, "pass", None)


def test_answers_must_agree_on_further_rows(
    capsys: pytest.CaptureFixture[str], lossy: tuple[str, str, str], tmp_path: Path
) -> None:
    model = onnx_models.cnn()
    paths = onnx_models.write(tmp_path, model)
    np.savez(tmp_path / "more.npz", **onnx_models.rows_for(model, 200, 77))
    code, report = publish(capsys, paths, tmp_path, "--agreement", str(tmp_path / "more.npz"), "--dry-run",
                           "--report", str(tmp_path / "report"))  # fmt: skip
    assert code == 0, report
    assert "rows without labels" in (tmp_path / "report" / "report.html").read_text()
    (target,) = report["targets"]
    assert target["further_rows"]["rows"] == 200
    assert 0.97 <= target["further_rows"]["at_least95"] <= target["further_rows"]["agreement"] <= 1.0
    # Half way between two classes, rounding decides.
    one, two = (onnx_models.rows_for(model, 600, seed)["x"] for seed in (78, 79))
    noise = {"x": (one + two) / 2}
    np.savez(tmp_path / "noise.npz", **noise)
    code, report = publish(capsys, paths, tmp_path, "--agreement", str(tmp_path / "noise.npz"), "--dry-run",
                           "--fallback", "none", "--fewest-agreement", "1")  # fmt: skip
    assert code == 3
    assert "of 600 further rows" in report["problems"][0]
    code, report = publish(capsys, paths, tmp_path, "--agreement", paths[1], "--dry-run")
    assert code == 2
    assert "rows are in both" in report["problems"][0]
