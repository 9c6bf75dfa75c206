"""The set-up of the environments, with a scripted interpreter in the place of pip."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.processes import ROOT

# Stands for the environment's interpreter: `-c` works, `-m pip` leaves a line in pip.log and fails if told to.
_PYTHON = """#!/bin/sh
[ "$1" = -c ] && exit 0
echo "$*" >> {root}/pip.log
[ ! -e {root}/offline ]
"""


class Workplace:
    """A checkout of its own with one environment to set up."""

    def __init__(self, root: Path, setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.setup = root, setup
        self.environment = {"folder": ".venv", "what": "test", "inputs": ["needs.txt"], "install": ["-r", "needs.txt"]}
        self.created = 0
        (root / "needs.txt").write_text("numpy\n")
        monkeypatch.chdir(root)
        monkeypatch.setattr(setup, "GATEWAY", self.environment)
        monkeypatch.setattr(setup, "create", self._create)

    def _create(self, folder: str, source: str) -> None:
        self.created += 1
        python = self.root / folder / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(_PYTHON.format(root=self.root))
        python.chmod(0o755)

    def run(self) -> None:
        self.setup.set_up(self.environment)

    @property
    def installs(self) -> int:
        log = self.root / "pip.log"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_environment", ROOT / "tools" / "setup_environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path: Path, setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return Workplace(tmp_path, setup, monkeypatch)


def test_a_second_run_does_nothing(place: Workplace) -> None:
    place.run()
    place.run()
    assert (place.created, place.installs) == (1, 1)


def test_changed_needs_are_installed_into_the_same_environment(place: Workplace) -> None:
    place.run()
    (place.root / "needs.txt").write_text("numpy<2\n")
    place.run()
    assert (place.created, place.installs) == (1, 2)


def test_a_failed_download_says_so_and_is_taken_up_again(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    (place.root / "offline").touch()
    with pytest.raises(SystemExit) as caught:
        place.run()
    assert caught.value.code == 2
    assert "pip could not fill .venv" in capsys.readouterr().err
    (place.root / "offline").unlink()
    place.run()
    assert (place.created, place.installs) == (1, 2)


def test_a_failed_update_does_not_look_finished(place: Workplace) -> None:
    place.run()
    before = (place.root / "needs.txt").read_text()
    (place.root / "needs.txt").write_text("other\n")
    (place.root / "offline").touch()
    with pytest.raises(SystemExit):
        place.run()
    (place.root / "offline").unlink()
    (place.root / "needs.txt").write_text(before)
    place.run()
    assert place.installs == 3


def test_a_dead_interpreter_is_replaced(place: Workplace) -> None:
    place.run()
    (place.root / ".venv" / "bin" / "python").unlink()
    place.run()
    assert (place.created, place.installs) == (2, 2)


def test_a_moved_environment_is_made_anew(place: Workplace) -> None:
    place.run()
    stamp = place.root / ".venv" / place.setup.STAMP
    stamp.write_text(stamp.read_text().replace(os.fspath(place.root), "/elsewhere"))
    place.run()
    assert (place.created, place.installs) == (2, 2)


def test_an_old_python_is_refused(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup.sys, "version_info", (3, 10, 4))
    with pytest.raises(SystemExit) as caught:
        setup.main(["gateway"])
    monkeypatch.undo()
    assert caught.value.code == 2
    assert f"Python 3.11 or newer is needed, {sys.executable} is 3.10" in capsys.readouterr().err


def test_an_interpreter_that_triton_cannot_use_is_named(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRITON_PYTHON", "no-such-python")
    with pytest.raises(SystemExit):
        setup.triton_interpreter()
    error = capsys.readouterr().err
    assert "no-such-python: not there" in error
    assert "TRITON_PYTHON=" in error
