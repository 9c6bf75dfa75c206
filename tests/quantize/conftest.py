"""Latencies are taken in short blocks here: these tests judge verdicts, not speed."""

from __future__ import annotations

import pytest

from quantize import evaluation


@pytest.fixture(autouse=True)
def short_races(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "BLOCK_S", 0.002)
    monkeypatch.setattr(evaluation, "ROUNDS", 3)
