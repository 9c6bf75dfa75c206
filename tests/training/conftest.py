"""Tests of what needs torch, Optuna, Ray and their like: they run in .venv-jobs.

`make test` runs them there (`.venv-jobs/bin/python -m pytest tests/training`); in the gateway's environment there is
nothing here to collect, as those libraries are not in it.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.world import MEMORY

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sluice-training-", dir=MEMORY) as folder:
        yield Path(folder)
