"""Files stay under about 300 lines and functions under 70: a second noun gets a file of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_FILE_LINES = 320
MOST_FUNCTION_LINES = 70
PLACES = ("gateway", "tests", "tools", "benchmarks", "loadtests")
FILES = sorted(p for place in PLACES for p in (ROOT / place).rglob("*.py") if "_generated" not in p.parts)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= MOST_FILE_LINES, f"{path.relative_to(ROOT)} has {lines} lines"
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MOST_FUNCTION_LINES, f"{path.relative_to(ROOT)}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / "gateway")], ids=lambda p: p.name)
def test_modules_say_what_they_decide(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{path.relative_to(ROOT)} has no docstring"
