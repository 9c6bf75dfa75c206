"""Whether compiled modules are used: only if they were made of these very sources, and never in secret."""

from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import compiled
from tests.support.processes import ROOT

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for what is compiled of a package with two modules; the finders that a test adds are removed."""
    package = tmp_path / "package"
    (package / "core").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "core" / "batching.py").write_text("x = 1\n")
    monkeypatch.setattr(compiled, "PACKAGE", package)
    monkeypatch.setattr(compiled, "FOLDER", tmp_path / "compiled")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    return tmp_path / "compiled"


def put(folder: Path) -> Path:
    """Puts a "compiled" module there for the sources as they are."""
    module = folder / compiled.digest() / "package" / "core" / f"batching{SUFFIX}"
    module.parent.mkdir(parents=True)
    module.touch()
    return module


def test_modules_that_fit_are_found_before_their_sources(folder: Path) -> None:
    module = put(folder)
    assert compiled.use()
    first = sys.meta_path[0]
    spec = first.find_spec("package.core.batching", None)
    assert spec is not None
    assert spec.origin == str(module)
    assert first.find_spec("json", None) is None


@pytest.mark.parametrize("change", ["another line", "another name", "another module", "one less"])
def test_after_any_change_of_any_source_the_sources_run(folder: Path, change: str) -> None:
    put(folder)
    package = compiled.PACKAGE
    match change:
        case "another line":
            (package / "core" / "batching.py").write_text("x = 2\n")
        case "another name":
            (package / "core" / "batching.py").rename(package / "batching.py")
        case "another module":
            (package / "new.py").write_text("")
        case _:
            (package / "__init__.py").unlink()
    finders = [*sys.meta_path]
    assert not compiled.use()
    assert sys.meta_path == finders


def test_another_interpreter_has_modules_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder)
    before = compiled.digest()
    monkeypatch.setattr(compiled, "_SUFFIX", ".cpython-399-x86_64-linux-gnu.so")
    assert compiled.digest() != before
    assert not compiled.use()


def test_what_an_editor_leaves_beside_the_sources_is_none(folder: Path) -> None:
    put(folder)
    (compiled.PACKAGE / "core" / ".#batching.py").symlink_to("nobody@nowhere.1")
    assert compiled.use()
    (compiled.PACKAGE / "core" / "gone.py").symlink_to("nobody@nowhere.1")
    assert not compiled.use(), "a source that cannot be read fits nothing"


def test_the_variable_says_what_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.VARIABLE, "1")
    with pytest.raises(ImportError, match="make compile"):
        compiled.use()
    put(folder)
    assert compiled.use()
    monkeypatch.setenv(compiled.VARIABLE, "0")
    assert not compiled.use()


@pytest.mark.parametrize("value", ["", "0"])
def test_a_process_says_what_it_runs(value: str) -> None:
    code = "import gateway, gateway.core.batching as b; print(gateway.COMPILED, b.__file__.endswith('.so'))"
    run = [sys.executable, "-c", code]
    said = subprocess.check_output(run, env=os.environ | {compiled.VARIABLE: value}, cwd=ROOT, text=True, timeout=60)
    assert said.split() == ([str((compiled.FOLDER / compiled.digest()).is_dir())] * 2 if not value else ["False"] * 2)
