"""The highest offered rate at which Sluice answers everything, and 99 % of it within the goal: a ladder of open loops.

Climbs until a rate misses. What is kept of a network is the last rate that held (the first one where none did), with
`ladder`: every rate that was tried, and why the last one missed.
"""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass
from typing import Any

from benchmarks.loads import LoadFailed
from benchmarks.scenarios.session import Session

GOAL_MS = {"full": 15.0, "tiny": 1000.0}
"""Of the 99th percentile, one for all networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`rates` are requests per second, `rows` of one request."""

    network: str
    rates: tuple[float, ...]
    rows: int = 1
    protocol: str = "grpc"

    @property
    def name(self) -> str:
        return f"sluice_{self.network}" + ("" if self.protocol == "grpc" else "_rest")


_PICTURES = (250, 500, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 6000, 8000)
SCENARIOS = (
    Scenario(network="resnet50", rates=_PICTURES),
    Scenario(network="resnet50", rates=_PICTURES, protocol="rest_binary"),
    Scenario(network="bert", rates=(250, 500, 1000, 2000, 3000, 4000, 6000, 8000, 10000, 12000)),
    Scenario(network="wide_deep", rates=(50, 100, 250, 500, 1000, 1500, 2000, 3000, 4000, 6000), rows=2048),
)
SETTINGS = {"batching.max_queue_rows": 1_000_000}
"""Of the gateway: by default two requests of 2,048 rows fill a queue."""
_ATTEMPTS = 2
"""A rate misses when it misses twice: one pause of the machine makes the p99 of three seconds. An attempt whose run is
invalid has itself run twice."""
_FAILURES = (LoadFailed, subprocess.SubprocessError, ValueError)
"""Nothing came, in time, that can be read: this rung misses, and what was measured before is kept."""
_TINY_RATES = (50.0,)
_TOKENS = {"full": 128, "tiny": 8}


def climb(session: Session, scenario: Scenario, size: str) -> None:
    """Adds the scenario's figures, or the reason why there are none."""
    goal = GOAL_MS[size]
    options: dict[str, Any] = {"rows": scenario.rows if size == "full" else 1}
    if scenario.network == "bert":
        options["shape"] = f"input_ids:{_TOKENS[size]}"
    kept: dict[str, Any] | None = None
    steps: list[dict[str, Any]] = []
    for rate in scenario.rates if size == "full" else _TINY_RATES:
        try:
            result, tries = attempt(session, scenario, rate, goal, options)
        except _FAILURES as error:
            steps.append({"rate": rate, "missed": _last_line(error)})
            break
        why = missed(result, goal)
        p50, p99 = (result["latency_us"][key] for key in ("p50", "p99"))
        steps.append({"rate": rate, "tries": tries, "p50_us": p50, "p99_us": p99, "cpu_share": result["cpu_share"]})
        if kept is None or why is None:
            kept = {"holds": why is None} | result
        if why is not None:
            steps[-1]["missed"] = why
            break
    if kept is None:
        session.results["skipped"][scenario.name] = steps[-1]["missed"]
        return
    kept = {key: value for key, value in kept.items() if key not in ("machine", "latency_curve_us")}
    rows = round(kept["answered_per_second"] * options["rows"], 1)
    session.results["scenarios"][scenario.name] = kept | {"rows_per_second": rows, "ladder": steps}


def attempt(
    session: Session, scenario: Scenario, rate: float, goal_ms: float, options: dict[str, Any]
) -> tuple[dict[str, Any], int]:
    """Returns the last result at a rate, and the number of attempts: one that gave nothing after a miss is one too.

    Raises what `_FAILURES` has if the first one does.
    """
    once = functools.partial(
        session.open_loop, "sluice", scenario.network, scenario.protocol, rate, slo_ms=goal_ms, **options
    )
    tries, result = 1, once()
    while missed(result, goal_ms) is not None and tries < _ATTEMPTS:
        tries += 1
        try:
            result = once()
        except _FAILURES:
            break
    return result, tries


def missed(result: dict[str, Any], goal_ms: float) -> str | None:
    """Returns why a run does not hold its rate, None if it does."""
    if not result["valid"]:
        return "; ".join(result["invalid_because"])
    bad = {name: count for name, count in result["outcomes"].items() if count and name != "ok"}
    if bad:
        return ", ".join([f"{count} {name}" for name, count in bad.items()] + list(result["errors"])[:1])
    p99: float = result["latency_us"]["p99"] / 1000
    return None if p99 < goal_ms else f"p99 {p99:.1f} ms"


def _last_line(error: Exception) -> str:
    """Returns what an error says, without the paths of a traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][-300:]


def summary(row: dict[str, Any]) -> str:
    """Returns the end of a ladder for people; empty for what was not climbed."""
    steps = row.get("ladder")
    if not steps:
        return ""
    held = f"  p99 < {row['slo_ms']:g} ms at {row['asked']['rate']:,.0f}/s" if row["holds"] else "  no rate held"
    last = steps[-1]
    return held + (f"; at {last['rate']:,.0f}/s: {last['missed']}" if "missed" in last else "; no higher rate tried")
