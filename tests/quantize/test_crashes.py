"""Killed or stopped anywhere: nothing half-made is visible, and the next publication works."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.registry.integrity import verify_version
from gateway.registry.manifest import parse_manifest
from quantize.workspace import PREFIX
from tests.support import onnx_models

ROOT = Path(__file__).resolve().parents[2]
NEVER = "never"
# In the order in which they come: what a later one finds was left by those before it.
STAGES = (
    "normalising", "checking the calibration", "checking the evaluation", "ranges", "histograms",
    "onnxruntime: as asked", "evaluating", "packing", "artifacts/", "wrote artifacts", "wrote manifest.json",
)  # fmt: skip
LATE = ["placed", "reading back"]
STOPPED = ["ranges", "evaluating", "packing", "wrote artifacts"]


@dataclass
class Done:
    code: int
    stdout: str
    stderr: str


class Runs:
    """Runs of the command, each in a process of its own, on one model and its rows."""

    def __init__(self, folder: Path) -> None:
        self._model, self._calibration, self._evaluation = onnx_models.write(folder, onnx_models.cnn())
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py"))], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.scratch)},
        )  # fmt: skip

    def run(self, registry: Path, where: str, number: int, *more: str) -> Done:
        arguments = [
            self._model, "--calibration", self._calibration, "--evaluation", self._evaluation, "--name", "tiny",
            "--target", "onnxruntime", "--allow-slower", "--max-batch-size", "4", *more,
        ]  # fmt: skip
        case = {"where": where, "number": number, "registry": str(registry), "arguments": arguments}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(case) + "\n")
        self._server.stdin.flush()
        return Done(**json.loads(self._server.stdout.readline()))

    def close(self) -> None:
        self._server.communicate(timeout=60)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    found = Runs(tmp_path_factory.mktemp("model"))
    yield found
    found.close()


def versions(registry: Path) -> list[str]:
    folder = registry / "tiny"
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def verify(folder: Path) -> None:
    verify_version(folder, parse_manifest((folder / "manifest.json").read_bytes()))


def test_killed_at_every_stage(runs: Runs, tmp_path: Path) -> None:
    """Each kill happens in the registry that the kills before it left: that it comes so far shows: nothing blocks."""
    for where in STAGES:
        assert runs.run(tmp_path, where, signal.SIGKILL).code == -signal.SIGKILL, where
        assert versions(tmp_path) == [], where
    after = runs.run(tmp_path, NEVER, signal.SIGKILL)
    assert after.code == 0, after.stderr
    (number,) = versions(tmp_path)
    verify(tmp_path / "tiny" / number)


def test_the_next_run_sweeps_what_a_killed_one_packed(runs: Runs, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    scratch = runs.scratch
    assert runs.run(registry, "wrote artifacts", signal.SIGKILL).code == -signal.SIGKILL
    left = list(scratch.glob(f"{PREFIX}*"))
    assert left, "the killed run had packed"
    assert runs.run(registry, NEVER, signal.SIGKILL).code == 0
    assert list(scratch.glob(f"{PREFIX}*")) == []


@pytest.mark.parametrize("where", LATE)
def test_killed_after_the_version_is_in_its_place(runs: Runs, tmp_path: Path, where: str) -> None:
    assert runs.run(tmp_path, where, signal.SIGKILL).code == -signal.SIGKILL
    assert versions(tmp_path) == ["1"]
    verify(tmp_path / "tiny" / "1")
    if where == "placed":
        assert runs.run(tmp_path, NEVER, signal.SIGKILL).code == 0
        assert versions(tmp_path) == ["1", "2"]


@pytest.mark.parametrize("where", STOPPED)
def test_stopped_leaves_nothing_behind(runs: Runs, tmp_path: Path, where: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        done = runs.run(tmp_path, where, number)
        assert done.code == 130, done.stderr
        assert "interrupted" in done.stderr
        assert versions(tmp_path) == []
        assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("where", ["wrote artifacts", "wrote manifest.json"])
def test_a_registry_that_fails_half_way(runs: Runs, tmp_path: Path, where: str, number: int) -> None:
    """The disk fills up, or becomes read-only, after everything was proven: exit code 8, nothing visible."""
    done = runs.run(tmp_path, where, -number)
    assert done.code == 8, done.stderr
    assert "registry failure" in done.stderr
    assert "Traceback" not in done.stderr
    assert versions(tmp_path) == []
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_full_temporary_folder(runs: Runs, tmp_path: Path) -> None:
    done = runs.run(tmp_path, "packing", -errno.ENOSPC)
    assert done.code == 8, done.stderr
    assert "could not be packed" in done.stderr
    assert versions(tmp_path) == []


def test_without_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is found before any work: the pre-flight asks for twice the model and some."""
    import shutil

    from quantize import publish
    from quantize.errors import RegistryFailure

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9))  # type: ignore[attr-defined]
    with pytest.raises(RegistryFailure, match="MB needed") as refused:
        publish.preflight(str(tmp_path), tmp_path / "model.onnx")
    assert refused.value.exit_code == 8
