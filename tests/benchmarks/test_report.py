"""The page and the goals: what fell short or was not measured is said, and every plot the page shows exists."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from benchmarks import goals, intervals, plots, report

ARMS = ("triton_0us", "triton_500us", "sluice")


def run_of(**outcomes: int) -> dict[str, Any]:
    return {
        "offered_per_second": 100.0, "goodput_per_second": 90.0, "in_time_share": 0.9, "slo_ms": 100,
        "curve": [[1e4, 0.5], [7e4, 1.0]],
        "latency_us": {"count": 10, "mean": 1.0, "p50": 1e4, "p90": 2e4, "p99": 5e4, "p99_9": 6e4, "max": 7e4},
        "outcomes": {"ok": 90, "refused": 10, "expired": 0} | outcomes, "cpu_us_per_request": {"server": 30.0},
        "valid": True, "invalid_because": [], "command": "sluice bench",
    }  # fmt: skip


def results() -> dict[str, Any]:
    arm = {
        "requests_per_second": [100.0, 110.0],
        "mean_latency_us": [500, 600],
        "server_cpu_us": [9.0],
        "command": "h2load -d /tmp/x/a.bin",
    }
    both = {"sluice": 9, "triton_0us": 8}
    points = [{"share": share} | run_of() for share in (0.2, 1.0, 2.0)]
    rows = [
        {"rows": n, "rows_per_second": {"sluice": [n * 100.0], "triton_0us": [n * 90.0]}, "ratio": {"ratio": 1.1}}
        for n in (1, 64, 2048)
    ]
    found: dict[str, Any] = {
        "machine": {"cores": 2, "cpu": "x", "python": "3", "system": "Linux"},
        "arms": {f"{key}_{name}": arm for key in report._COMPARISONS for name in ARMS},
        "ratios": {key: intervals.ratio([20.0, 22.0], [10.0, 10.0]) for key, _ in report._COMPARISONS.values()},
        "cpu_us_per_request": dict.fromkeys(report._COMPARISONS, 25.0),
        "latency_us": {"added_p50": 200.0},
        "scenarios": {
            "added_latency_30_percent": {
                "rate": 3000, "added_p50_us": [90.0, 110.0],
                "p50_us": {"sluice": [390.0, 400.0], "triton_0us": [300.0, 290.0]},
                "valid": True, "invalid_because": [], "command": "c",
                "curves": {"sluice": [[100.0, 0.5], [200.0, 1.0]], "triton_0us": [[90.0, 0.5], [150.0, 1.0]]},
            },
            "goodput": {
                "model": "m", "slo_ms": 200, "points": points, "at_2x_over_peak": 0.9, "valid": True,
                "invalid_because": [], "command": "c",
            },
            "wide_deep": {"points": rows, "command": "c"},
            "connections": {
                "points": [{"connections": n, "requests_per_second": both} for n in (1, 1000)], "command": "c",
            },
            "pictures_2000_per_second": run_of(),
            "bert_10_per_second": run_of() | {
                "valid": False, "invalid_because": ["the generator lagged"], "ideal_p99_us": 95_400,
                "evenly_spaced": {"latency_us": {"p50": 36_000, "p99": 38_000}, "valid": True, "command": "c"},
            },
            "telemetry": {
                "requests_per_second": {"on": [99.0], "off": [100.0]},
                "cpu_on_vs_off": intervals.ratio([15.0, 15.0], [14.0, 15.0]), "command": "c",
            },
        },
        "failed": {}, "scale": {"pairs": 8, "seconds": 2}, "seconds": 400, "steal_share": 0.0,
    }  # fmt: skip
    found["ratios"]["telemetry_on_vs_off"] = intervals.ratio([97.0, 98.0], [100.0, 100.0])
    found["goals"] = goals.judge(found)
    return found


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {row["what"]: row["verdict"] for row in goals.judge(found)}


def test_every_goal_reads_its_number() -> None:
    judged = verdicts(results())
    assert judged["small network, gRPC: Sluice / direct Triton"] == "met"
    assert judged["gateway CPU per small gRPC request"] == "met, and the aim"
    assert judged["Wide & Deep rows/s at 64 rows and more"] == "MISSED"
    assert judged["2,000 requests/s of 150 KB, share right and in time"] == "MISSED"
    assert judged["metrics and access log on / off"] == "met"


def test_an_invalid_run_measures_nothing() -> None:
    assert verdicts(results())["BERT shape INT8, 128 tokens, 10 requests/s: p99"] == "not measured"


def test_a_ratio_is_judged_by_its_lower_bound() -> None:
    found = results()
    found["ratios"]["grpc_small_vs_triton"] = {"ratio": 3.5, "low": 1.2, "high": 5.0}
    assert verdicts(found)["small network, gRPC: Sluice / direct Triton"] == "MISSED"


def test_nothing_measured_is_no_goal_met() -> None:
    empty = {"ratios": {}, "cpu_us_per_request": {}, "scenarios": {}}
    assert {row["verdict"] for row in goals.judge(empty)} == {"not measured"}


def test_the_page_shows_goals_commands_and_invalid_runs() -> None:
    found = results()
    page = report.page(found)
    assert "**Invalid run**: the generator lagged" in page
    assert "MISSED" in page
    assert "h2load -d a.bin" in page
    assert "/tmp/" not in page
    shown = set(re.findall(r"images/benchmarks/(\w+)\.svg", page))
    assert shown == set(report.pictures(found))
    assert len(shown) == 8
    assert "MISSED" in report.table(found)
    assert "Evenly spaced at the same rate: p50 36.0 ms, p99 38.0 ms" in page
    assert "a p99 of 95.4 ms" in page
    found["scenarios"]["bert_10_per_second"]["evenly_spaced"]["valid"] = False
    assert "a p99 of" not in report.page(found)


def test_every_headline_scenario_has_command_table_and_plot() -> None:
    page = report.page(results())
    versus, *scenarios = page[page.index("## Against direct Triton") :].split("\n## ")
    assert versus.count("```") // 2 == versus.count("### ") == len(report._COMPARISONS)
    assert versus.count("![") == 2
    assert len(scenarios) == 7
    for section in scenarios:
        title = section.splitlines()[0]
        assert "```\n" in section, title
        if title not in ("Metrics and access log",):
            assert "![" in section, title
            assert "|---" in section, title


@pytest.mark.parametrize("name", sorted(report.pictures(results())))
def test_plots_are_well_formed_and_small(name: str) -> None:
    drawn = report.pictures(results())[name]
    root = ET.fromstring(drawn)
    assert root.tag.endswith("svg")
    assert "nan" not in drawn
    assert len(drawn) < 60_000


def test_a_plot_of_nothing_and_of_one_point() -> None:
    ET.fromstring(plots.lines("t", "x", "y", {}))
    ET.fromstring(plots.lines("t", "x", "y", {"a": [(5.0, 1.0)]}, log_x=True, reference=2.0))
    ET.fromstring(plots.bars("t <&>", "y", {}))
