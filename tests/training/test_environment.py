"""The environment is the one that was pinned."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = [
    line.split("==")
    for line in (ROOT / "requirements" / "jobs.txt").read_text().splitlines()
    if "==" in line and not line.startswith("#")
]


@pytest.mark.parametrize(("package", "version"), PINS, ids=[name for name, _ in PINS])
def test_installed_as_pinned(package: str, version: str) -> None:
    assert importlib.metadata.version(package).split("+")[0] == version
