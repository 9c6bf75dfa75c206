"""The numbers that must hold on the 2-core reference machine, and whether a run's results meet them. Pure.

A goal on a ratio is met only by the lower bound of its interval. A goal whose run was invalid is neither met nor
missed: it was not measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Results = dict[str, Any]
Read = Callable[[Results], float | None]


@dataclass(frozen=True, slots=True)
class Goal:
    """`read` finds the number in the results (None: not measured); `higher` says which way is better."""

    what: str
    unit: str
    must: float
    aim: float | None
    higher: bool
    read: Read


def _low(key: str) -> Read:
    def read(results: Results) -> float | None:
        ratio = results["ratios"].get(key)
        return None if ratio is None else float(ratio["low"])

    return read


def _scenario(name: str, find: Callable[[Any], float | None]) -> Read:
    def read(results: Results) -> float | None:
        row = results.get("scenarios", {}).get(name)
        if row is None or not row.get("valid", True):
            return None
        return find(row)

    return read


def _added(row: Any) -> float | None:
    return float(statistics.median(row["added_p50_us"])) / 1000 if row["added_p50_us"] else None


def _wide_deep(row: Any) -> float | None:
    return min(statistics.median(point["rows_per_second"]["sluice"]) for point in row["points"] if point["rows"] >= 64)


def _cpu(results: Results) -> float | None:
    used = results["cpu_us_per_request"].get("grpc")
    return None if used is None else float(used)


GOALS = (
    Goal("small network, gRPC: Sluice / direct Triton", "x", 1.5, 3.0, True, _low("grpc_small_vs_triton")),
    Goal("small network, REST JSON: Sluice / direct", "x", 1.0, 1.5, True, _low("rest_json_small_vs_triton")),
    Goal("small network, REST binary: Sluice / direct", "x", 1.0, 2.0, True, _low("rest_binary_small_vs_triton")),
    Goal("pictures, 150 KB UINT8: Sluice / direct", "x", 0.97, 1.02, True, _low("image_uint8_vs_triton")),
    Goal("pictures, 600 KB FP32: Sluice / direct", "x", 0.97, 1.02, True, _low("image_fp32_vs_triton")),
    Goal("BERT shape, 128 tokens: Sluice / direct", "x", 0.97, 1.02, True, _low("bert_vs_triton")),
    Goal(
        "BERT shape INT8, 128 tokens, 10 requests/s: p99", "ms", 100, 60, False,
        _scenario("bert_10_per_second", lambda row: row["latency_us"]["p99"] / 1000),
    ),
    Goal("added p50 at 30 % load, gRPC", "ms", 0.5, 0.1, False, _scenario("added_latency_30_percent", _added)),
    Goal("gateway CPU per small gRPC request", "us", 80, 30, False, _cpu),
    Goal("Wide & Deep rows/s at 64 rows and more", "/s", 100_000, 300_000, True, _scenario("wide_deep", _wide_deep)),
    Goal(
        "2,000 requests/s of 150 KB, share right and in time", "", 0.99, None, True,
        _scenario("pictures_2000_per_second", lambda row: row["in_time_share"]),
    ),
    Goal(
        "goodput at 2x capacity / peak", "x", 0.8, None, True, _scenario("goodput", lambda row: row["at_2x_over_peak"])
    ),
    Goal("metrics and access log on / off", "x", 0.95, None, True, _low("telemetry_on_vs_off")),
)  # fmt: skip


def judge(results: Results) -> list[dict[str, Any]]:
    """Returns for each goal: what, measured (None: not measured), must, aim, unit and verdict (met, aim, missed, -)."""
    rows = []
    for goal in GOALS:
        found = goal.read(results)
        verdict = "not measured"
        if found is not None:
            verdict = "met" if _reaches(found, goal.must, goal.higher) else "MISSED"
            if goal.aim is not None and _reaches(found, goal.aim, goal.higher):
                verdict = "met, and the aim"
        rows.append(
            {
                "what": goal.what, "measured": found, "must": goal.must, "aim": goal.aim, "unit": goal.unit,
                "higher_is_better": goal.higher, "verdict": verdict,
            }
        )  # fmt: skip
    return rows


def _reaches(found: float, limit: float, higher: bool) -> bool:
    return found >= limit if higher else found <= limit
