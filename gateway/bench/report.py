"""From a trace to figures, and from figures to text. Pure.

Every latency is finished - planned: a request that left late because the machine was busy counts as having waited.
Rates are of the measured window: what was planned in it, what finished in it, what was right and in time of what was
planned in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gateway.bench.channels import Outcome
from gateway.bench.generator import Trace
from gateway.bench.histogram import Histogram
from gateway.bench.validity import GeneratorFigures, reasons_invalid

_BAR = 40


def figures(
    trace: Trace, first: int, seconds: float, slo_ms: float, cpu: dict[str, float], wall: float, steal: float,
    invalid_too: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Returns the result of a run: rates, latencies in microseconds, outcomes, CPU, and why it is invalid, if it is.

    `first` is the first measured request; `seconds` the measured window, as planned or until it was interrupted; `cpu`
    seconds by program while `wall` seconds passed, the generator's own under "generator"; `invalid_too` are reasons
    that do not show in the figures.
    """
    planned, sent = trace.planned[first:], trace.sent[first:]
    finished, outcome = trace.finished[first:], trace.outcome[first:]
    count = len(planned)
    seconds = max(seconds, 1e-3)
    begin = int(planned[0]) if count else 0
    end = begin + int(seconds * 1e9)
    right = outcome == Outcome.OK
    latency = finished - planned
    lag = np.where(sent > 0, sent - planned, 0)
    in_time = right & (latency <= slo_ms * 1e6)
    histogram, lags = Histogram(), Histogram()
    histogram.add(latency[right])
    lags.add(lag)
    answered_in_window = int((right & (trace.finished[first:] <= end)).sum())
    itself = GeneratorFigures(
        lag_p99_us=lags.percentile(99), slo_ms=slo_ms, planned=count,
        sent_in_window=int(((sent > 0) & (sent <= end + 1_000_000)).sum()),
        unanswered=int((outcome == Outcome.NONE).sum()),
        cpu_share=cpu.get("generator", 0.0) / wall if wall else 0.0, steal_share=steal,
    )  # fmt: skip
    invalid = [*invalid_too, *reasons_invalid(itself)]
    done = max(1, int((outcome != Outcome.NONE).sum()))
    return {
        "valid": not invalid,
        "invalid_because": invalid,
        "offered_per_second": round(count / seconds, 2),
        "answered_per_second": round(answered_in_window / seconds, 2),
        "goodput_per_second": round(int(in_time.sum()) / seconds, 2),
        "in_time_share": round(int(in_time.sum()) / max(1, count), 5),
        "slo_ms": slo_ms,
        "outcomes": {kind.name.lower(): int((outcome == kind).sum()) for kind in Outcome},
        "latency_us": histogram.summary(),
        "send_lag_us": lags.summary(),
        "latency_curve_us": [[value, round(share, 6)] for value, share in _thinned(histogram.cumulative())],
        "cpu_us_per_request": {name: round(used / done * 1e6, 1) for name, used in sorted(cpu.items())},
        "cpu_share": {name: round(used / wall, 3) for name, used in sorted(cpu.items())} if wall else {},
        "steal_share": round(steal, 4),
        "errors": dict(sorted(trace.messages.items(), key=lambda item: -item[1])),
    }


def text(result: dict[str, Any]) -> str:
    """Returns the result for people."""
    asked, latency, lag = result["asked"], result["latency_us"], result["send_lag_us"]
    lines = [
        f"{asked['model']} over {asked['protocol']} at {asked['address']}: "
        f"{asked['arrivals']} arrivals, {asked['rows']} row(s) a request, {asked['seconds']:g} s",
        "",
        f"offered    {result['offered_per_second']:>12,.1f} /s",
        f"answered   {result['answered_per_second']:>12,.1f} /s   right, within the window",
        f"goodput    {result['goodput_per_second']:>12,.1f} /s   right and within {result['slo_ms']:g} ms "
        f"({result['in_time_share']:.2%})",
        "",
        "latency from the planned instant, ms:",
        "  " + "   ".join(
            f"{name.replace('_', '.')} {latency[name] / 1000:.2f}" for name in ("p50", "p90", "p99", "p99_9", "max")
        ),
        f"generator: requests left {lag['p50']:.0f} us late in the middle, {lag['p99']:.0f} us at p99",
        "CPU us per request: "
        + (", ".join(f"{name} {used:g}" for name, used in result["cpu_us_per_request"].items()) or "not visible"),
    ]  # fmt: skip
    bad = {name: number for name, number in result["outcomes"].items() if number and name != "ok"}
    if bad:
        lines.append("not ok: " + ", ".join(f"{number} {name}" for name, number in bad.items()))
        lines += [f"  {number} x {message}" for message, number in list(result["errors"].items())[:3]]
    lines += ["", "valid" if result["valid"] else "INVALID: this run says nothing about the server"]
    lines += [f"  {reason}" for reason in result["invalid_because"]]
    return "\n".join(lines)


def bar(done: float, sent: int, answered: int, bad: int) -> str:
    """Returns one line of progress; `done` is the share of the run that has passed."""
    filled = round(_BAR * min(1.0, max(0.0, done)))
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] {sent:,} sent, {answered:,} answered, {bad:,} not ok"


def _thinned(curve: list[tuple[float, float]], most: int = 120) -> list[tuple[float, float]]:
    if len(curve) <= most:
        return curve
    chosen = sorted({round(index) for index in np.linspace(0, len(curve) - 1, most)})
    return [curve[index] for index in chosen]
