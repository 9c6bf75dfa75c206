"""A run's temporary folder: gone with it, swept by the next run if it was killed, never taken from a living one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from quantize import workspace as module
from quantize.workspace import MOST_SWEPT, PREFIX, sweep, workspace

ROOT = Path(__file__).resolve().parents[2]
_HOLDER = """
import sys, tempfile
from quantize.workspace import workspace
tempfile.tempdir = sys.argv[1]
with workspace() as folder:
    (folder / "model.onnx").write_bytes(b"half")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(parent)], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_is_gone_afterwards(here: Path) -> None:
    def failing() -> None:
        with workspace() as folder:
            (folder / "file").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert not list(here.iterdir())


def test_a_killed_run_is_swept_and_a_living_one_is_not(here: Path) -> None:
    process, theirs = holder(here)
    try:
        with workspace() as ours:
            assert ours != theirs
            assert (theirs / "model.onnx").exists()
            assert sweep(here) == []
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=30) == -signal.SIGKILL
        assert theirs.is_dir()
        with workspace() as ours:
            assert list(here.iterdir()) == [ours]
    finally:
        process.kill()
        process.communicate(timeout=30)


def test_sweeping_is_bounded_and_keeps_to_its_own(here: Path) -> None:
    for number in range(MOST_SWEPT + 3):
        (here / f"{PREFIX}{number:03}").mkdir()
    outside = here / "outside"
    outside.mkdir()
    (here / f"{PREFIX}file").write_text("no folder")
    (here / f"{PREFIX}000link").symlink_to(outside)
    assert len(sweep(here)) == MOST_SWEPT
    assert len(sweep(here)) == 3
    assert sweep(here) == []
    assert sorted(path.name for path in here.iterdir()) == ["outside", f"{PREFIX}000link", f"{PREFIX}file"]


def test_another_users_folder_is_left(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / f"{PREFIX}theirs").mkdir()
    real = os.getuid()
    monkeypatch.setattr(module.os, "getuid", lambda: real + 1)
    assert sweep(here) == []


def test_where_there_are_no_locks_a_run_does_without(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.EBADF, "no locks on directories here")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    (here / f"{PREFIX}other").mkdir()
    open_before = len(os.listdir("/proc/self/fd"))
    with workspace() as folder:
        (folder / "file").touch()
    assert not folder.exists()
    assert (here / f"{PREFIX}other").is_dir(), "it may be somebody's"
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_swept_between_making_and_locking_another_is_made(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = tempfile.mkdtemp

    def make(prefix: str) -> str:
        made.append(real(prefix=prefix))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(module.tempfile, "mkdtemp", make)
    with workspace() as folder:
        assert str(folder) == made[1]
