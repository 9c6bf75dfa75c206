"""Whether a run says anything. Pure: figures in, reasons out.

A run is invalid, whatever its numbers, when the generator itself was the limit or lost something: then the numbers
describe the generator. Slow, refused or failed answers do not make a run invalid: they are the server's result.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_LAG_LIMIT_US = 200.0
LAG_SHARE_OF_SLO = 0.05
LEAST_SENT_SHARE = 0.99
MOST_CPU_SHARE = 0.90
MOST_STEAL_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorFigures:
    """What the generator knows about itself, over the measured window.

    `lag_p99_us`: how late requests left; `slo_ms`: the latency the run is judged by; `sent_in_window`: requests that
    had left when the window ended; `unanswered`: neither answer nor error came before the run gave up; `cpu_share`:
    CPU time of the generator over wall time, 1.0 is one core; `steal_share`: of all cores, taken by the hypervisor.
    """

    lag_p99_us: float
    slo_ms: float
    planned: int
    sent_in_window: int
    unanswered: int
    cpu_share: float
    steal_share: float


def lag_limit_us(slo_ms: float) -> float:
    """Returns how late the 99th percentile of requests may leave: 5 % of what is judged, at least 200 us."""
    return max(LEAST_LAG_LIMIT_US, LAG_SHARE_OF_SLO * slo_ms * 1000)


def reasons_invalid(figures: GeneratorFigures) -> list[str]:
    """Returns why the run says nothing, in words; empty when it counts."""
    reasons = []
    if not figures.planned:
        reasons.append("no request was planned in the measured window")
    limit = lag_limit_us(figures.slo_ms)
    if figures.lag_p99_us > limit:
        reasons.append(
            f"the generator lagged: 1 % of the requests left {figures.lag_p99_us:.0f} us late or later "
            f"(limit {limit:.0f} us)"
        )
    if figures.sent_in_window < LEAST_SENT_SHARE * figures.planned:
        reasons.append(
            f"the generator fell behind: {figures.sent_in_window} of {figures.planned} requests had left in time"
        )
    if figures.unanswered:
        reasons.append(f"{figures.unanswered} requests have neither an answer nor an error")
    if figures.cpu_share > MOST_CPU_SHARE:
        reasons.append(f"the generator was at its own limit: {figures.cpu_share:.0%} of one core")
    if figures.steal_share > MOST_STEAL_SHARE:
        reasons.append(f"the machine was not ours: {figures.steal_share:.1%} of its CPU time was stolen")
    return reasons
