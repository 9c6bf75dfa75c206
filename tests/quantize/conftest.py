"""Latencies are taken in short blocks here, and few rows are probed: these tests judge verdicts, not speed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quantize import evaluation


@pytest.fixture(autouse=True, scope="package")
def short_races() -> Iterator[None]:
    """For the package, so that fixtures of modules are short too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "BLOCK_S", 0.002)
        patch.setattr(evaluation, "ROUNDS", 3)
        patch.setattr(evaluation, "PROBE_ROWS", 3)
        yield
