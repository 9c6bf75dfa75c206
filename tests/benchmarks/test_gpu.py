"""The GPU script where there is no PyTorch: it says so. With PyTorch: tests/training/test_gpu_benchmark.py."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import int8_engine, ladder, run, serving
from benchmarks.loads import LoadFailed
from quantize import tensorrt_here
from quantize.cuda import Cuda
from quantize.tensorrt_engine import Compiler
from tests.support import tensorrt_double

HAS_TORCH = importlib.util.find_spec("torch") is not None


def test_the_script_measures_or_says_what_it_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_TRITON_ENV", str(tmp_path / "none"))
    results = run.measure("cpu", "tiny", 0.01)
    if HAS_TORCH:
        assert {f"torch_{name}_{batch}" for name in run.NETWORKS for batch in (1, 2)} == set(results["scenarios"])
        assert results["skipped"]["TensorRT"] == "needs a GPU"
        assert "is not there" in results["skipped"]["Sluice and Triton"]
    else:
        assert "No module named 'torch'" in results["skipped"]["PyTorch and everything on it"]
    for why in results["skipped"].values():
        assert why in run.table(results)
    json.dumps(results)


def test_latencies_are_measured_at_least_a_few_times() -> None:
    calls = 0

    def once() -> None:
        nonlocal calls
        calls += 1

    found = run.latencies(once, 4, 0.0)
    assert calls == 3 + found["latency_us"]["count"]
    assert found["latency_us"]["count"] >= 5
    assert found["rows_per_second"] > 0


def test_the_int8_engine_is_measured_against_fp32_where_tensorrt_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the double: a real builder, and no GPU."""
    compiler = Compiler("tensorrt", tensorrt_double.module(), "9.0")
    monkeypatch.setattr(tensorrt_here, "here", lambda: (compiler, Cuda(tensorrt_double.HostCuda())))
    results: dict[str, Any] = {"scenarios": {}, "skipped": {}}
    int8_engine.measure("cuda", "tiny", 0.01, results, run.latencies)
    assert results["skipped"] == {}
    wanted = {f"tensorrt_{precision}_resnet50_{rows}" for precision in ("fp32", "int8") for rows in (1, 8)}
    assert set(results["scenarios"]) == wanted
    monkeypatch.setattr(tensorrt_here, "here", lambda: "no TensorRT")
    for device, why in (("cpu", "needs a GPU"), ("cuda", "no TensorRT")):
        int8_engine.measure(device, "tiny", 0.01, results, run.latencies)
        assert results["skipped"]["INT8 engine of TensorRT"] == why


@pytest.mark.parametrize("size", ["full", "tiny"])
def test_the_registry_for_triton_is_whole(tmp_path: Path, size: str) -> None:
    folder = serving.registry(tmp_path, "cpu", size)
    for name in run.NETWORKS:
        code = (folder / name / "1" / "model.py").read_text()
        compile(code, "model.py", "exec")
        assert f"NAME, SIZE, DEVICE, ROWS, INPUTS, OUTPUT = '{name}', '{size}', 'cpu'" in code
        assert "benchmarks.gpu" not in code, "Triton does not see this repository"
        manifest = json.loads((folder / name / "1" / "manifest.json").read_text())
        assert manifest["files"][0]["size"] == len(code.encode())


def test_a_triton_environment_without_torch_is_a_reason(tmp_path: Path) -> None:
    assert "is not there" in str(serving.missing(tmp_path / "env" / "bin" / "python"))
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert "has no torch" in str(serving.missing(python))


class Climbed:
    """Stands in for a session: p99 in ms by rate, or what went wrong at it; a list: run after run."""

    def __init__(self, found: dict[float, Any]) -> None:
        self.found, self.results = found, {"scenarios": {}, "skipped": {}}

    def open_loop(self, arm: str, model: str, protocol: str, rate: float, slo_ms: float, **options: Any) -> Any:
        found = self.found[rate]
        if isinstance(found, list):
            found = found.pop(0)
        if found == "failed":
            raise LoadFailed("no answer")
        bad = found == "refused"
        p99 = found if isinstance(found, float) else 1.0
        return {
            "valid": found != "invalid", "invalid_because": ["the generator lagged"] if found == "invalid" else [],
            "outcomes": {"ok": 9, "refused": int(bad)}, "errors": {"its queue is full": 1} if bad else {},
            "slo_ms": slo_ms, "asked": {"rate": rate} | options, "cpu_share": {},
            "latency_us": {"p50": 900.0, "p99": p99 * 1000}, "answered_per_second": rate, "machine": {},
        }  # fmt: skip


@pytest.mark.parametrize(
    ("third", "why"),
    [(15.0, "p99 15.0 ms"), ("refused", "1 refused, its queue is full"), ("invalid", "the generator lagged"),
     ("failed", "no answer")],
)  # fmt: skip
def test_a_ladder_ends_at_the_first_rate_that_misses(third: float | str, why: str) -> None:
    session = Climbed({50: 1.0, 100: 14.9, 250: third})
    ladder.climb(session, ladder.Scenario(network="wide_deep", rates=(50, 100, 250, 500), rows=2048), "full")
    row = session.results["scenarios"]["sluice_wide_deep"]
    assert row["holds"]
    assert (row["asked"]["rate"], row["rows_per_second"]) == (100, 204_800)
    assert [step["rate"] for step in row["ladder"]] == [50, 100, 250]
    assert [step.get("tries") for step in row["ladder"]] == [1, 1, None if third == "failed" else 2]
    assert row["ladder"][-1]["missed"] == why
    assert f"p99 < 15 ms at 100/s; at 250/s: {why}" in run.table({"machine": {}, **session.results})


def test_a_ladder_whose_first_rate_misses_says_so() -> None:
    scenario = ladder.Scenario(network="resnet50", rates=(250, 500), protocol="rest_binary")
    session = Climbed({250: 20.0})
    ladder.climb(session, scenario, "full")
    assert not session.results["scenarios"]["sluice_resnet50_rest"]["holds"]
    assert "no rate held; at 250/s: p99 20.0 ms" in run.table({"machine": {}, **session.results})
    session = Climbed({250: "failed"})
    ladder.climb(session, scenario, "full")
    assert session.results == {"scenarios": {}, "skipped": {"sluice_resnet50_rest": "no answer"}}


def test_a_rate_misses_when_it_misses_twice() -> None:
    session = Climbed({50: [20.0, 14.0], 100: [20.0, "failed"]})
    ladder.climb(session, ladder.Scenario(network="wide_deep", rates=(50, 100, 250)), "full")
    row = session.results["scenarios"]["sluice_wide_deep"]
    assert (row["asked"]["rate"], row["holds"], row["latency_us"]["p99"]) == (50, True, 14_000)
    assert [step["tries"] for step in row["ladder"]] == [2, 2]
    assert row["ladder"][-1]["missed"] == "p99 20.0 ms", "what was measured is kept"
