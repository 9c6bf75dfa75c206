"""Jobs stand beside the gateway: of it they import the registry's formats and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = (
    *(f"gateway.registry.{name}" for name in ("manifest", "layout", "integrity", "publishing", "opening", "store")),
    # How a release stands, for the pipeline that started it.
    *("gateway.registry.pointing", "gateway.registry.serving", "gateway.registry.release_history", "gateway.releases"),
)
# The keeper runs without site-packages, so what it imports is the standard library and these.
PLAIN = {"__init__", "keeper", "processes", "logs", "contract", "clock", "files"}
FILES = sorted((ROOT / "jobs").rglob("*.py"))


def imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
            if node.module == "jobs":
                names += [f"jobs.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_of_the_gateway_only_the_registry_formats(path: Path) -> None:
    for name in imported(path):
        if name.partition(".")[0] == "gateway":
            assert name in ALLOWED, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("path", [p for p in FILES if p.stem in PLAIN], ids=lambda p: str(p.relative_to(ROOT)))
def test_the_keeper_needs_only_the_standard_library(path: Path) -> None:
    for module in imported(path):
        head, _, tail = module.partition(".")
        assert head not in {"numpy", "aiohttp", "asyncio"}
        if head == "jobs" and tail:
            assert tail in PLAIN, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sizes_and_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text(), str(path))
    assert ast.get_docstring(tree), f"{path} has no docstring"
    assert path.read_text().count("\n") <= 320
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 70, f"{path}: {node.name}"
