"""What a real gateway does with inputs unlike the calibration's, and with engines built for other machines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from gateway.registry.folder_store import FolderStore
from gateway.registry.publishing import PublishOptions, publish_version
from gateway.versions import ModelVersion
from quantize import tensorrt_rtx
from quantize.data_checks import InputStatistics
from quantize.graph import TensorSpec
from quantize.input_sketch import live_statistics
from quantize.tensorrt_engine import engine_entry
from tests.support.onnx_models import Builder, value
from tests.support.processes import ROOT, Gateway, fetch, until
from tests.support.versions import MODEL, prepare, publish

WINDOW = 512
LABELS = '{model="shift",version="1",input="X"}'


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Path, Path]]:
    """A gateway that looks at every request; version 1 was calibrated with a normal distribution."""
    scratch = tmp_path_factory.mktemp("live")
    found = InputStatistics()
    found.add(np.random.default_rng(0).normal(size=(512, 4)).astype(np.float32))
    spec = TensorSpec("X", np.dtype(np.float32), (None, 4))
    publish(scratch / "registry", scratch, 1, input_statistics=live_statistics({"X": found}, [spec], {}))
    gateway = Gateway(scratch, scratch / "registry", {"telemetry.drift_sample_every": 1})
    yield gateway, scratch / "registry", scratch
    assert gateway.stop() == 0


def feed(gateway: Gateway, rng: np.random.Generator, shift: float, requests: int) -> None:
    for _ in range(requests):
        rows = (rng.normal(size=(2, 4)) + shift).round(3).tolist()
        body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [2, 4], "data": rows}]}
        fetch(f"{gateway.rest}/v2/models/{MODEL}/infer", json.dumps(body).encode())


def test_shifted_inputs_raise_the_drift_metric(live: tuple[Gateway, Path, Path]) -> None:
    gateway, registry, scratch = live
    rng = np.random.default_rng(1)
    feed(gateway, rng, 0, 40)
    assert f"sluice_input_drift_psi{LABELS}" not in gateway.metrics(), "too few rows to say"
    feed(gateway, rng, 0, WINDOW - 40)
    before = gateway.metrics()
    assert before[f"sluice_input_sampled_rows_total{LABELS}"] == WINDOW
    chance = before[f"sluice_input_drift_psi_by_chance{LABELS}"]
    assert before[f"sluice_input_drift_psi{LABELS}"] - chance < 0.1
    assert before[f"sluice_input_out_of_range_total{LABELS}"] < 0.01 * 4 * WINDOW
    feed(gateway, rng, 2, WINDOW)
    after = gateway.metrics()
    assert after[f"sluice_input_drift_psi{LABELS}"] - chance > 1
    assert after[f"sluice_input_out_of_range_total{LABELS}"] > 0.02 * 4 * WINDOW
    page = fetch(f"{gateway.admin}/").decode()
    assert "Inputs against their calibration" in page
    assert '<td class="n bad">' in page
    (shown,) = json.loads(fetch(f"{gateway.admin}/v1/models"))["models"][0]["versions"][0]["inputs"]
    assert shown["name"] == "X"
    assert shown["psi"] > 1
    # A version without statistics takes over: nothing is said of it, and nothing more of the one that left.
    publish(registry, scratch, 2)
    until(lambda: not any("sluice_input_" in name for name in gateway.metrics()), 20, "the old version's series go")


def with_engine(folder: Path, number: int, *, python: bool) -> ModelVersion:
    """Publishes a version with a real TensorRT-RTX engine, and with a Python target behind it if asked."""
    prepared = prepare(folder / f"engine-{number}", number, golden=False)
    document = json.loads((prepared / "manifest.json").read_text())
    b = Builder(0)
    b.node("Add", ["X", b.constant("number", np.float32([number]))], "Y")
    graph = b.model([value("X", TensorProto.FLOAT, "rows", 4)], [value("Y", TensorProto.FLOAT, "rows", 4)])
    built = tensorrt_rtx.build(graph.SerializeToString(), rows=(1, 2, 8))
    plan = "artifacts/engine/model.plan"
    (prepared / plan).parent.mkdir()
    (prepared / plan).write_bytes(built.plan)
    engine = {
        "name": f"tensorrt-rtx{built.version}-sm89",
        "artifacts": [plan],
        "engine": engine_entry(built, {"X": (4,)}),
    }
    document["targets"] = [engine, *(document["targets"] if python else [])]
    if not python:
        (prepared / "artifacts" / "python" / "model.py").unlink()
    (prepared / "manifest.json").write_text(json.dumps(document))
    store = FolderStore(folder / "registry")
    return publish_version(store, prepared, MODEL, actor="test", options=PublishOptions(serve=True)).version


def test_an_engine_that_cannot_run_here_is_refused_and_the_old_version_serves_on(
    live: tuple[Gateway, Path, Path],
) -> None:
    gateway, _, scratch = live
    before = answer(gateway)
    version = with_engine(scratch, 3, python=False)
    command = [sys.executable, "-m", "gateway.cli", "models", "list", "--admin", gateway.admin]

    def listed() -> str:
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout

    until(lambda: "no target that runs here" in listed(), 20, "the version is refused")
    (line,) = [line for line in listed().splitlines() if "no target that runs here" in line]
    for part in (
        "failed",
        "there is no GPU here, it was built for compute capability 8.9",
        "there is no TensorRT-RTX here",
    ):
        assert part in line
    assert answer(gateway) == before != str(version.number)
    assert gateway.metrics()['sluice_version_state{model="shift",version="3",state="failed"}'] == 1


def test_another_target_of_the_version_is_taken_where_the_engine_does_not_fit(live: tuple[Gateway, Path, Path]) -> None:
    gateway, _, scratch = live
    version = with_engine(scratch, 4, python=True)
    until(lambda: answer(gateway) == str(version.number), 20, "its Python target serves")


def answer(gateway: Gateway) -> str:
    """Returns the version that answers; what it answers must be its own."""
    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]}
    found = json.loads(fetch(f"{gateway.rest}/v2/models/{MODEL}/infer", json.dumps(body).encode()))
    assert found["outputs"][0]["data"] == [int(found["model_version"])] * 4
    version: str = found["model_version"]
    return version
