"""The command, end to end, on small models: published or refused, with the exit code, nothing half done."""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from gateway import cli
from gateway.backends.device import NO_DEVICE
from gateway.backends.triton_repository import choose_target
from gateway.registry.integrity import verify_version
from gateway.registry.manifest import parse_manifest
from tests.support import onnx_models


def publish(capsys: pytest.CaptureFixture[str], paths: tuple[str, str, str], registry: Path, *more: str) -> Any:
    model, calibration, evaluation = paths
    code = cli.main(
        ["quantize", "publish", model, "--name", "tiny", "--calibration", calibration, "--evaluation", evaluation,
         "--registry", str(registry), "--max-batch-size", "8", "--allow-slower", "--json", *more]
    )  # fmt: skip
    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == code
    return code, report


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    folder = tmp_path / "registry"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    return onnx_models.write(tmp_path_factory.mktemp("tiny"), onnx_models.cnn())


def files_of(registry: Path) -> list[str]:
    return sorted(p.relative_to(registry).as_posix() for p in registry.rglob("*") if p.is_file())


def test_a_good_model_is_published_and_verifies(
    capsys: pytest.CaptureFixture[str], tiny: tuple[str, str, str], registry: Path
) -> None:
    code, report = publish(
        capsys, tiny, registry, "--target", "openvino", "--target", "onnxruntime", "--target", "tensorrt"
    )
    assert code == 0, report
    assert report["verdict"] == "pass"
    folder = registry / "tiny" / "1"
    manifest = parse_manifest((folder / "manifest.json").read_bytes())
    verify_version(folder, manifest)
    assert [t.name for t in manifest.targets] == ["openvino", "onnxruntime", "tensorrt"]
    assert manifest.targets[0].artifacts == manifest.targets[1].artifacts, "one graph for both CPU engines"
    assert manifest.max_batch_size == 8
    metrics = manifest.metrics["int8"]
    assert metrics["tensorrt"]["executed_on_its_engine"] is False
    assert metrics["tensorrt"]["tensorrt_rtx"]["built"] is True
    assert metrics["openvino"]["coverage"] == 1.0
    assert "x" in manifest.lineage["data"]["input_statistics"]
    (statistics,) = manifest.input_statistics
    assert (statistics.name, statistics.rows, len(statistics.histogram.edges), statistics.vocabulary) == (
        "x",
        64,
        9,
        None,
    )
    assert cli.main(["quantize", "verify", str(folder), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["targets"]) == {"openvino", "onnxruntime"}


def test_a_model_that_takes_one_row(capsys: pytest.CaptureFixture[str], tmp_path: Path, registry: Path) -> None:
    any_rows = onnx_models.cnn()
    paths = onnx_models.write(tmp_path, any_rows)
    one_row = onnx.ModelProto.FromString(any_rows.SerializeToString())
    for tensor in (*one_row.graph.input, *one_row.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(one_row, paths[0])
    code, report = publish(capsys, paths, registry, "--target", "openvino", "--target", "tensorrt")
    assert code == 0, report
    assert report["layers"]["worst_first"]
    manifest = parse_manifest((registry / "tiny" / "1" / "manifest.json").read_bytes())
    assert manifest.max_batch_size <= 1
    assert cli.main(["quantize", "verify", str(registry / "tiny" / "1"), "--json"]) == 0


def test_a_model_of_old_with_its_weights_as_inputs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, registry: Path
) -> None:
    model = onnx_models.cnn(opset=13)
    paths = onnx_models.write(tmp_path, model)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(model, paths[0])
    code, report = publish(capsys, paths, registry, "--target", "openvino", "--target", "onnxruntime")
    assert code == 0, report
    manifest = parse_manifest((registry / "tiny" / "1" / "manifest.json").read_bytes())
    assert [spec.name for spec in manifest.inputs] == ["x"]


def test_an_input_that_nothing_reads(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers send it all the same, and the engine that serves must not mind."""
    model = onnx_models.cnn()
    paths = onnx_models.write(tmp_path, model)
    model.graph.input.append(onnx_models.value("unread", onnx.TensorProto.FLOAT, "rows", 2))
    onnx.save(model, paths[0])
    for path in paths[1:]:
        arrays = dict(np.load(path))
        arrays["unread"] = np.random.default_rng(0).normal(size=(len(arrays["x"]), 2)).astype(np.float32)
        np.savez(path, **arrays)
    code, report = publish(capsys, paths, registry, "--target", "openvino", "--target", "tensorrt")
    assert code == 0, report
    folder = registry / "tiny" / "1"
    assert cli.main(["quantize", "verify", str(folder), "--json"]) == 0
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", types.ModuleType("triton_python_backend_utils"))
    served = importlib.import_module("gateway.backends.triton_models.onnx_model")
    engine = served.OpenVinoEngine(str(folder / "artifacts" / "openvino" / "model.onnx"), 1, ["logits"], {})
    rows = np.load(paths[2])
    answers = [engine.run({name: rows[name][:2] for name in names}, False)[0] for names in (["x"], ["x", "unread"])]
    assert np.array_equal(*answers)


def test_an_engine_says_what_it_was_built_for(
    capsys: pytest.CaptureFixture[str], tiny: tuple[str, str, str], registry: Path
) -> None:
    code, report = publish(capsys, tiny, registry, "--target", "openvino", "--target", "tensorrt", "--engines")
    assert code == 0, report
    folder = registry / "tiny" / "1"
    manifest = parse_manifest((folder / "manifest.json").read_bytes())
    first = manifest.targets[0]
    assert first.engine is not None
    assert (first.kind, first.engine.runtime, first.engine.compute_capability) == ("tensorrt", "tensorrt-rtx", "8.9")
    assert first.name == f"tensorrt-rtx{first.engine.version}-sm89"
    (profile,) = first.engine.profiles.values()
    assert (profile.smallest[0], profile.largest[0]) == (1, manifest.max_batch_size)
    assert (folder / first.artifacts[0]).stat().st_size > 0
    assert choose_target(manifest, (), NO_DEVICE).name == "openvino", "without a GPU the next target serves"


def test_a_changed_byte_is_an_integrity_failure(
    capsys: pytest.CaptureFixture[str], tiny: tuple[str, str, str], registry: Path
) -> None:
    publish(capsys, tiny, registry, "--target", "onnxruntime")
    artifact = next((registry / "tiny" / "1" / "artifacts").rglob("model.onnx"))
    content = bytearray(artifact.read_bytes())
    content[len(content) // 2] ^= 1
    artifact.write_bytes(content)
    assert cli.main(["quantize", "verify", str(registry / "tiny" / "1"), "--json"]) == 7


def test_same_inputs_give_the_same_artifact_bytes(
    capsys: pytest.CaptureFixture[str], tiny: tuple[str, str, str], registry: Path
) -> None:
    for _ in range(2):
        assert publish(capsys, tiny, registry, "--target", "onnxruntime", "--target", "tensorrt")[0] == 0
    first, second = (registry / "tiny" / n for n in ("1", "2"))
    graphs = [f"artifacts/{target}/model.onnx" for target in ("onnxruntime", "tensorrt")]
    for path in (*graphs, "golden/cases.npz", "warmup/inputs.npz", "reports/calibration.json"):
        assert (first / path).read_bytes() == (second / path).read_bytes(), path


def test_a_dry_run_publishes_nothing(
    capsys: pytest.CaptureFixture[str], tiny: tuple[str, str, str], registry: Path
) -> None:
    code, report = publish(capsys, tiny, registry, "--target", "onnxruntime", "--dry-run")
    assert (code, report["verdict"], report["published"]) == (0, "pass", None)
    assert files_of(registry) == []


def test_too_little_evidence_is_refused_unless_it_is_accepted(
    capsys: pytest.CaptureFixture[str], tiny: tuple[str, str, str], registry: Path
) -> None:
    few = ("--target", "onnxruntime", "--evaluation-rows", "100")
    code, report = publish(capsys, tiny, registry, *few)
    assert (code, report["verdict"]) == (3, "insufficient evidence")
    assert "100 independent rows" in report["problems"][0]
    assert files_of(registry) == []
    code, report = publish(capsys, tiny, registry, *few, "--accept-small-evaluation")
    assert code == 0
    manifest = parse_manifest((registry / "tiny/1/manifest.json").read_bytes())
    assert manifest.lineage["quantization"]["accepted_small_evaluation"] is True


def test_a_model_that_loses_is_refused_with_every_attempt(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, registry: Path
) -> None:
    paths = onnx_models.write(tmp_path, onnx_models.with_outlier_channel(onnx_models.cnn()))
    code, report = publish(capsys, paths, registry, "--target", "onnxruntime", "--report", str(tmp_path / "report"))
    assert (code, report["verdict"]) == (3, "refused")
    whys = [attempt["why"] for attempt in report["attempts"]]
    assert whys[0] == "as asked"
    assert whys[-1] == "worst operators float"
    assert all(attempt["verdict"] != "pass" for attempt in report["attempts"])
    assert files_of(registry) == []
    assert {p.name for p in (tmp_path / "report").iterdir()} == {"report.json", "report.txt", "report.html"}
    # After a refused accuracy neither speed nor coverage is measured, and the page says so.
    assert (tmp_path / "report" / "report.html").read_text().count("Not measured") == 2


def test_fp32_no_better_than_guessing_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], tiny: tuple[str, str, str], tmp_path: Path, registry: Path
) -> None:
    rows = dict(np.load(tiny[2]))
    rows["label"] = np.random.default_rng(0).permutation(rows["label"])
    np.savez(tmp_path / "shuffled.npz", **rows)
    code, report = publish(capsys, (tiny[0], tiny[1], str(tmp_path / "shuffled.npz")), registry)
    assert code == 3
    assert "no better than" in report["problems"][0]


def test_rows_in_both_sources_are_refused(
    capsys: pytest.CaptureFixture[str], tiny: tuple[str, str, str], registry: Path
) -> None:
    code, report = publish(capsys, (tiny[0], tiny[2], tiny[2]), registry, "--calibration-rows", "64")
    assert code == 2
    assert "64 rows are in both" in report["problems"][0] or "is not an input" in report["problems"][0]


def test_registry_that_is_not_there_is_found_before_work(
    capsys: pytest.CaptureFixture[str], tiny: tuple[str, str, str], tmp_path: Path
) -> None:
    code, report = publish(capsys, tiny, tmp_path / "nowhere")
    assert (code, report["verdict"]) == (8, "registry failure")


def test_attention_products_stay_float(capsys: pytest.CaptureFixture[str], tmp_path: Path, registry: Path) -> None:
    paths = onnx_models.write(tmp_path, onnx_models.encoder())
    code, report = publish(capsys, paths, registry, "--target", "onnxruntime", "--target", "tensorrt")
    assert code == 0, report["reasons"]
    for target in report["targets"]:
        kept = target["kept_float"]
        assert {kept.get("scores.node"), kept.get("mixed.node")} == {"product of two activations"}


def test_other_metrics(capsys: pytest.CaptureFixture[str], tiny: tuple[str, str, str], registry: Path) -> None:
    for metric, limit in (("f1", 1), ("top5", 1), ("agreement", 1), ("cosine", 1), ("retrieval", 30)):
        code, report = publish(
            capsys,
            tiny,
            registry,
            "--target",
            "onnxruntime",
            "--metric",
            metric,
            "--dry-run",
            "--max-loss",
            str(limit / 100),
        )
        # All five classes are in the top five: no better than guessing, so top5 must be refused.
        assert code == (3 if metric == "top5" else 0), (metric, report["problems"] if code else "")
