"""Killed or stopped anywhere: nothing half-made is visible, and the next publication works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.registry.integrity import verify_version
from gateway.registry.manifest import parse_manifest
from tests.support import onnx_models

ROOT = Path(__file__).resolve().parents[2]
# Runs the command in a process of its own that signals itself when a stage or a step of the registry is reached.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from gateway import cli
from gateway.registry.folder_store import FolderStore
from quantize import evaluation, progress, publish
evaluation.BLOCK_S, evaluation.ROUNDS = 0.001, 2
where, number, registry, *rest = sys.argv[1:]
def reached(what):
    if what.startswith(where):
        os.kill(os.getpid(), int(number))
progress.Progress.__call__ = lambda self, what, done, total: reached(what)
publish.open_store = lambda location: FolderStore(Path(location), reached)
sys.exit(cli.main(["quantize", "publish", "--registry", registry, *rest]))
"""
STAGES = ["normalising", "checking the evaluation", "ranges", "histograms", "onnxruntime: as asked", "evaluating",
          "packing", "artifacts/", "wrote artifacts", "wrote manifest.json"]  # fmt: skip
LATE = ["placed", "reading back"]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    return onnx_models.write(tmp_path_factory.mktemp("model"), onnx_models.cnn())


def run(paths: tuple[str, str, str], registry: Path, where: str, number: int) -> subprocess.CompletedProcess[str]:
    model, calibration, evaluation = paths
    options = ["--name", "tiny", "--target", "onnxruntime", "--allow-slower", "--max-batch-size", "4"]
    data = ["--calibration", calibration, "--evaluation", evaluation]
    command = [sys.executable, "-c", SCRIPT, where, str(number), str(registry), model, *data, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def versions(registry: Path) -> list[str]:
    folder = registry / "tiny"
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


@pytest.mark.parametrize("where", STAGES)
def test_kill(paths: tuple[str, str, str], tmp_path: Path, where: str) -> None:
    assert run(paths, tmp_path, where, 9).returncode == -9
    assert versions(tmp_path) == []
    after = run(paths, tmp_path, "never", 9)
    assert after.returncode == 0, after.stderr
    (number,) = versions(tmp_path)
    manifest = parse_manifest((tmp_path / "tiny" / number / "manifest.json").read_bytes())
    verify_version(tmp_path / "tiny" / number, manifest)


@pytest.mark.parametrize("where", LATE)
def test_kill_after_the_version_is_in_its_place(paths: tuple[str, str, str], tmp_path: Path, where: str) -> None:
    assert run(paths, tmp_path, where, 9).returncode == -9
    assert versions(tmp_path) == ["1"]
    folder = tmp_path / "tiny" / "1"
    verify_version(folder, parse_manifest((folder / "manifest.json").read_bytes()))


@pytest.mark.parametrize("number", [2, 15])
@pytest.mark.parametrize("where", ["ranges", "evaluating", "wrote artifacts"])
def test_stop_leaves_nothing_behind(paths: tuple[str, str, str], tmp_path: Path, where: str, number: int) -> None:
    done = run(paths, tmp_path, where, number)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert versions(tmp_path) == []
    assert not list(tmp_path.rglob("*.onnx"))


def test_without_space(paths: tuple[str, str, str], tmp_path: Path) -> None:
    """A full disk is found before any work: the pre-flight asks for twice the model and some."""
    model, calibration, evaluation = paths
    code = (
        "import shutil, sys; from gateway import cli; "
        "shutil.disk_usage = lambda _: shutil._ntuple_diskusage(9, 9, 9); sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "quantize", "publish", model, "--name", "tiny", "--calibration", calibration,
         "--evaluation", evaluation, "--registry", str(tmp_path), "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 8, done.stderr
    assert "MB needed" in json.loads(done.stdout)["problems"][0]
