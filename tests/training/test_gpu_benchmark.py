"""The GPU benchmark on the CPU, nothing replaced: PyTorch, and Sluice with a real Triton that has torch in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import ladder, run

ROOT = Path(__file__).resolve().parents[2]
TRITON = Path(os.environ.get("SLUICE_TRITON_ENV", ROOT / ".venv-triton"))
TORCH = (
    "torch", "torchgen", "functorch", "sympy", "mpmath", "typing_extensions.py", "jinja2", "markupsafe", "networkx",
    "filelock", "fsspec",
)  # fmt: skip


def packages(python: Path | str) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())


@pytest.fixture
def triton_with_torch(tmp_path: Path) -> Path:
    """An environment that shows Triton's packages and, beside them, this environment's torch."""
    folder = tmp_path / "env"
    python = TRITON / "bin" / "python"
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    target = packages(folder / "bin" / "python")
    for entry in packages(python).iterdir():
        (target / entry.name).symlink_to(entry)
    for name in TORCH:
        if not (target / name).exists():
            (target / name).symlink_to(packages(sys.executable) / name)
    return folder


def test_every_stage_runs_on_the_cpu(triton_with_torch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_TRITON_ENV", str(triton_with_torch))
    results = run.measure("auto", "tiny", 0.5)
    measured = {f"torch_{name}_{batch}" for name in run.NETWORKS for batch in (1, 2)}
    assert set(results["scenarios"]) == measured | {scenario.name for scenario in ladder.SCENARIOS}, results["skipped"]
    assert set(results["skipped"]) == {"gpu", "TensorRT", "INT8 engine of TensorRT"}
    for scenario in ladder.SCENARIOS:
        outcomes = results["scenarios"][scenario.name]["outcomes"]
        assert outcomes["ok"] > 0, outcomes
        assert outcomes["wrong"] == outcomes["failed"] == 0, outcomes  # a busy machine may answer some of them late
        assert scenario.name in run.table(results)


def test_cuda_is_not_pretended() -> None:
    results = run.measure("cuda", "tiny", 0.01)
    assert not results["scenarios"]
    assert "no GPU" in results["skipped"]["everything"]
