"""The GPU script where there is no PyTorch: it says so. With PyTorch: tests/training/test_gpu_benchmark.py."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from benchmarks.gpu import run, serving

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


@pytest.mark.parametrize("size", ["full", "tiny"])
def test_the_registry_for_triton_is_whole(tmp_path: Path, size: str) -> None:
    folder = serving.registry(tmp_path, "cpu", size)
    for name in run.NETWORKS:
        code = (folder / name / "1" / "model.py").read_text()
        compile(code, "model.py", "exec")
        assert f"NAME, SIZE, DEVICE, INPUTS, OUTPUT = '{name}', '{size}', 'cpu'" in code
        manifest = json.loads((folder / name / "1" / "manifest.json").read_text())
        assert manifest["files"][0]["size"] == len(code.encode())


def test_a_triton_environment_without_torch_is_a_reason(tmp_path: Path) -> None:
    assert "is not there" in str(serving.missing(tmp_path / "env" / "bin" / "python"))
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert "has no torch" in str(serving.missing(python))
