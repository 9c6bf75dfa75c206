"""What is compiled, and what is said where that is not possible. That it works is what the compiled test run shows."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

TOOL = ROOT / "tools" / "compile.py"


def test_every_module_that_is_to_be_compiled_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    # The tool sets both for itself; gateways that later tests start must not run uncompiled for it.
    monkeypatch.setenv("SLUICE_COMPILED", "0")
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("compile_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    sources = tool.sources()
    assert len(sources) == len(set(sources)) > 50
    assert [source for source in sources if not (ROOT / source).is_file()] == []


@pytest.mark.parametrize(("arguments", "status"), [(["--possible"], 1), ([], 0), (["--wrong"], 2)])
def test_without_a_compiler_it_says_so_and_nothing_fails(tmp_path: Path, arguments: list[str], status: int) -> None:
    copy = tmp_path / "tools" / "compile.py"
    copy.parent.mkdir()
    copy.write_text(TOOL.read_text())
    (copy.parent / "compile_worker.py").write_text("")
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "__init__.py").write_text("")
    (tmp_path / "gateway" / "compiled.py").write_text((ROOT / "gateway" / "compiled.py").read_text())
    run = [sys.executable, str(copy), *arguments]
    result = subprocess.run(
        run, env={"CC": "no-such-compiler"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == status
    assert ("no C compiler" in result.stdout) is (arguments == [])
    assert not (tmp_path / ".cache").exists()
