"""What moved beyond noise between two results."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import compare, main

OLD: dict[str, Any] = {
    "machine": {"cpu": "a", "cores": 2},
    "ratios": {"grpc_small_vs_triton": {"pairs": [2.0, 2.1, 1.9, 2.0]}},
    "arms": {"grpc_sluice": {"requests_per_second": [1000, 1010, 990, 1000]}},
    "samples": {"cpu_us_grpc": {"better": "lower", "values": [30.0, 31.0, 29.0, 30.0]}},
}


def changed(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(OLD) | changes


def write(folder: Path, name: str, document: dict[str, Any]) -> str:
    path = folder / name
    path.write_text(json.dumps(document))
    return str(path)


def test_the_same_results_have_not_moved() -> None:
    found = compare(OLD, OLD)
    assert len(found) == 3
    assert not any(moved.significant for moved in found)


@pytest.mark.parametrize(
    ("change", "worse"),
    [
        ({"ratios": {"grpc_small_vs_triton": {"pairs": [1.5, 1.6, 1.5, 1.4]}}}, True),
        ({"ratios": {"grpc_small_vs_triton": {"pairs": [3.0, 3.1, 2.9, 3.0]}}}, False),
        ({"samples": {"cpu_us_grpc": {"better": "lower", "values": [40.0, 41.0, 39.0, 40.0]}}}, True),
        ({"samples": {"cpu_us_grpc": {"better": "lower", "values": [20.0, 21.0, 19.0, 20.0]}}}, False),
    ],
)
def test_what_moved_is_told_with_its_direction(change: dict[str, Any], worse: bool) -> None:
    moved = [entry for entry in compare(OLD, changed(**change)) if entry.significant]
    assert [entry.worse for entry in moved] == [worse]


def test_a_change_within_the_noise_or_below_three_percent_is_none() -> None:
    noisy = changed(ratios={"grpc_small_vs_triton": {"pairs": [1.0, 3.0, 2.5, 1.2]}})
    small = changed(arms={"grpc_sluice": {"requests_per_second": [980, 981, 980, 981]}})
    assert not any(entry.significant for entry in compare(OLD, noisy))
    assert not any(entry.significant for entry in compare(OLD, small))


def test_another_machine_leaves_ratios_alone_to_compare() -> None:
    other = changed(machine={"cpu": "b", "cores": 64})
    assert [entry.kind for entry in compare(OLD, other)] == ["ratio"]


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write(tmp_path, "old.json", OLD)
    worse = write(tmp_path, "new.json", changed(ratios={"grpc_small_vs_triton": {"pairs": [1.0, 1.1, 1.0, 0.9]}}))
    assert main([old, old]) == 0
    assert main([old, worse]) == 1
    assert "WORSE" in capsys.readouterr().out
    assert main([old, str(tmp_path / "missing.json")]) == 2
