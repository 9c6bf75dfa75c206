from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gateway.backends.triton_environment import (
    TritonEnvironment,
    TritonSetupError,
    environment_folder,
    find_environment,
    libpython_folder,
)
from tests.support.processes import TRITON_ENVIRONMENT


def test_the_real_environment_is_laid_out(triton_environment: TritonEnvironment) -> None:
    backend = triton_environment.backends / "python"
    for name in ("libtriton_python.so", "triton_python_backend_stub", "triton_python_backend_utils.py"):
        assert (backend / name).is_file()
    libpython = f"libpython{triton_environment.python_version}.so.1.0"
    assert (triton_environment.library_path[0] / libpython).exists()
    assert any(path.name.startswith("libtritonserver") for path in triton_environment.library_path[1].iterdir())


def test_laying_out_again_changes_nothing_and_mends_what_is_broken(tmp_path: Path) -> None:
    first = find_environment(TRITON_ENVIRONMENT, tmp_path)
    stub = first.backends / "python" / "triton_python_backend_stub"
    before = stub.lstat().st_ino
    find_environment(TRITON_ENVIRONMENT, tmp_path)
    assert stub.lstat().st_ino == before
    stub.unlink()
    find_environment(TRITON_ENVIRONMENT, tmp_path)
    assert stub.exists()


def test_variables_put_the_environment_first_and_hide_the_callers_packages(
    triton_environment: TritonEnvironment,
) -> None:
    variables = triton_environment.variables(
        {"PATH": "/bin", "LD_LIBRARY_PATH": "/x", "PYTHONPATH": "/numpy2", "PYTHONHOME": "/h", "HOME": "/root"}
    )
    assert variables["PATH"] == f"{triton_environment.folder}/bin:/bin"
    assert variables["LD_LIBRARY_PATH"].split(":") == [*map(str, triton_environment.library_path), "/x"]
    assert "PYTHONPATH" not in variables
    assert "PYTHONHOME" not in variables
    assert variables["HOME"] == "/root"


def test_no_environment_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TritonSetupError, match="run `make setup`"):
        find_environment(tmp_path / "nowhere", tmp_path)


def test_the_environment_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLUICE_TRITON_ENV", str(tmp_path))
    assert environment_folder() == tmp_path
    assert environment_folder(tmp_path / "named") == tmp_path / "named"
    monkeypatch.delenv("SLUICE_TRITON_ENV")
    monkeypatch.chdir(tmp_path)
    assert environment_folder() == tmp_path / ".venv-triton"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ('{"python": "3.9", "pytriton": "0.7.0", "numpy": "1.26.4"}', "uses Python 3.9"),
        ('{"python": "3.11", "pytriton": null, "numpy": "1.26.4"}', "nvidia-pytriton is not installed"),
        ('{"python": "3.11", "pytriton": "0.7.0", "numpy": "2.1.0"}', "numpy 2.1.0"),
        ('{"python": "3.11", "pytriton": "0.7.0", "numpy": null}', "no numpy"),
        ('{"python": "3.11", "pytriton": "0.7.0", "numpy": "1.26.4", "purelib": "/none"}', "is incomplete"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, answer: str, message: str) -> None:
    _fake_interpreter(tmp_path, f"echo '{answer}'")
    with pytest.raises(TritonSetupError, match=message) as caught:
        find_environment(tmp_path, tmp_path / "work")
    assert "make setup" in str(caught.value)


def test_an_interpreter_that_fails_is_named(tmp_path: Path) -> None:
    _fake_interpreter(tmp_path, "echo 'cannot start' >&2; exit 3")
    with pytest.raises(TritonSetupError, match="cannot start"):
        find_environment(tmp_path, tmp_path / "work")


def test_a_static_python_without_its_library_says_how_to_get_it(tmp_path: Path) -> None:
    facts = {"libpython": "libpython3.11.so.1.0", "folders": [str(tmp_path)], "python": "3.11", "base": sys.prefix}
    with pytest.raises(TritonSetupError, match=r"apt install libpython3\.11"):
        libpython_folder(facts)
    (tmp_path / "libpython3.11.so.1.0").touch()
    assert libpython_folder(facts) == tmp_path


def _fake_interpreter(folder: Path, script: str) -> None:
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
