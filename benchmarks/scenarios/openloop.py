"""Open-loop scenarios: what callers wait at a given load, and what is left of the goodput beyond capacity."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.loads import LoadFailed
from benchmarks.scenarios import ideal_queue
from benchmarks.scenarios.session import Session
from gateway.bench import plan

SHARES = (0.2, 0.6, 1.0, 1.4, 2.0)
"""Offered load of the goodput curve, as shares of the capacity."""
SLO_MS = 100
HEAVY_SLO_MS = 200
_BERT_RATE = 10
_IN_TIME = 0.98
_FIRST_RATE, _LEAST_RATE, _MOST_RATE = 8_000.0, 500.0, 50_000.0
_DIRECT = "triton_0us"


def bert_latency(session: Session) -> None:
    """BERT shape, 128 tokens, Poisson arrivals at 10 requests/s: the p99.

    Beside it what the machine has to do with it: the same rate evenly spaced, so that nobody waits for another, and the
    p99 of an ideal server at the very same Poisson arrivals, each request taking the p50 of those evenly spaced.
    """

    def measured(arrivals: str, share: float) -> dict[str, Any]:
        return session.open_loop(
            "sluice", "bert_shape", "grpc", _BERT_RATE, seconds=share * session.scale.open_seconds,
            shape="input_ids:128", slo_ms=100, arrivals=arrivals,
        )  # fmt: skip

    even, result = measured("constant", 0.8), measured("poisson", 4)
    asked, alone = result["asked"], even["latency_us"]
    offsets = plan.arrivals("poisson", asked["rate"], asked["warmup_s"] + asked["seconds"], asked["seed"]) / 1000
    waits = ideal_queue.latencies(offsets, alone["p50"])[offsets >= asked["warmup_s"] * 1e6]
    ideal = ideal_queue.percentile(waits, 0.99)
    session.results["scenarios"]["bert_10_per_second"] = _kept(result) | {
        "curve": result["latency_curve_us"],
        "evenly_spaced": {"latency_us": alone, "valid": even["valid"], "command": even["command"]},
        "ideal_p99_us": round(ideal),
    }
    session.say(
        f"  BERT shape at {_BERT_RATE}/s: p99 {result['latency_us']['p99'] / 1000:.0f} ms {_mark(result)}; "
        f"evenly spaced {alone['p99'] / 1000:.0f} ms {_mark(even)}; ideal {ideal / 1000:.0f} ms"
    )


def pictures_sustained(session: Session) -> None:
    """2,000 requests/s of 150 KB to a cheap model: sustained means that 99 % are right and within 100 ms."""
    result = session.open_loop(
        "sluice", "corner_mean", "grpc", 2000, variants=16, connections=8, slo_ms=SLO_MS, arrivals="constant"
    )
    session.results["scenarios"]["pictures_2000_per_second"] = _kept(result) | {"curve": result["latency_curve_us"]}
    session.say(f"  150 KB at 2,000/s: {result['goodput_per_second']:,.0f}/s in time {_mark(result)}")


def added_latency(session: Session) -> None:
    """The same load on both arms, 30 % of what direct Triton carries, in alternating runs: the p50 that Sluice adds."""
    tensors = session.tensors("small_net")
    session.prepare("small_net", (_DIRECT, "sluice"), tensors)
    capacity = _capacity(session, _DIRECT)
    rate = 0.3 * capacity
    runs: dict[str, list[dict[str, Any]]] = {_DIRECT: [], "sluice": []}
    seconds = session.scale.open_seconds / 3
    for pair in range(session.scale.few() * 3 // 2):
        for arm in (_DIRECT, "sluice") if pair % 2 == 0 else ("sluice", _DIRECT):
            runs[arm].append(
                session.open_loop(arm, "small_net", "grpc", rate, seconds=seconds, slo_ms=SLO_MS, warmup=0.5)
            )
        session.say(
            "  added latency: "
            + ", ".join(f"{arm} p50 {runs[arm][-1]['latency_us']['p50']:.0f} us {_mark(runs[arm][-1])}" for arm in runs)
        )
    added = [
        ours["latency_us"]["p50"] - theirs["latency_us"]["p50"]
        for ours, theirs in zip(runs["sluice"], runs[_DIRECT], strict=True)
        if ours["valid"] and theirs["valid"]
    ]
    p50s = {arm: [run["latency_us"]["p50"] for run in of] for arm, of in runs.items()}
    session.results["scenarios"]["added_latency_30_percent"] = {
        "rate": round(rate),
        "added_p50_us": [round(value, 1) for value in added],
        "valid": len(added) >= 2,
        "invalid_because": sorted({why for of in runs.values() for run in of for why in run["invalid_because"]}),
        "p50_us": p50s,
        "curves": {arm: of[-1]["latency_curve_us"] for arm, of in runs.items()},
        "cpu_us_per_request": {arm: of[-1]["cpu_us_per_request"] for arm, of in runs.items()},
        "command": runs["sluice"][-1]["command"],
    }
    if added:
        session.results["samples"]["added_p50_us"] = {"better": "lower", "values": [max(1.0, v) for v in added]}
        session.results["latency_us"]["at_30_percent"] = {
            "added_p50": round(statistics.median(added), 1),
            "triton_p50": statistics.median(p50s[_DIRECT]),
            "sluice_p50": statistics.median(p50s["sluice"]),
            "requests_per_second": round(rate),
        }


def goodput(session: Session) -> None:
    """Goodput against offered load of a model that the backend limits: 600 KB pictures, 200 ms.

    Capacity is what the closed loop measured in this run (or measures now).
    """
    known = session.results["arms"].get("image_fp32_sluice")
    if known is not None:
        capacity = float(statistics.mean(known["requests_per_second"]))
    else:
        capacity = session.closed("sluice", "picture_net", "grpc", session.tensors("picture_net"), 4, 4, 3).rate
    _curve(session, "goodput", "picture_net", capacity, HEAVY_SLO_MS, 8)


def goodput_small(session: Session) -> None:
    """The same for the small network, where gateway, Triton and generator share the limit: 100 ms.

    Capacity is what this very generator finds on this machine: the highest of a few rates with nearly everything in
    time. Twice that is usually more than the generator itself can send, and then says so.
    """
    _curve(session, "goodput_small", "small_net", _open_capacity(session), SLO_MS, 32)


def _curve(session: Session, key: str, model: str, capacity: float, slo_ms: int, connections: int) -> None:
    points = []
    for share in SHARES:
        result = session.open_loop(
            "sluice", model, "grpc", share * capacity, slo_ms=slo_ms, deadline_ms=slo_ms, connections=connections,
            seconds=session.scale.open_seconds / 2, patience=1.5,
        )  # fmt: skip
        points.append({"share": share} | _kept(result))
        offered, good = result["offered_per_second"], result["goodput_per_second"]
        session.say(f"  offered {offered:,.0f}/s: goodput {good:,.0f}/s {_mark(result)}")
    peak = max(point["goodput_per_second"] for point in points)
    last = points[-1]
    session.results["scenarios"][key] = {
        "model": model,
        "slo_ms": slo_ms,
        "capacity_per_second": round(capacity),
        "points": points,
        "at_2x_over_peak": round(last["goodput_per_second"] / peak, 3) if peak else 0.0,
        "valid": last["valid"],
        "invalid_because": last["invalid_because"],
        "command": last["command"],
    }


def _open_capacity(session: Session) -> float:
    """Returns the highest rate with nearly everything in time: upwards in steps, downwards where the first is too much.

    Raises LoadFailed where not even the lowest rate is carried.
    """
    rate, best = _FIRST_RATE, 0.0
    while _LEAST_RATE <= rate <= _MOST_RATE:
        if _carried(session, rate) or _carried(session, rate):  # one bad second is not the limit
            best, rate = rate, rate * 1.4
        elif best:
            break
        else:
            rate /= 2
            if rate >= _LEAST_RATE and _carried(session, rate):
                return rate
    if not best:
        raise LoadFailed(
            f"not even {_LEAST_RATE:,.0f} requests/s were in time: the machine is busy with something else"
        )
    return best


def _carried(session: Session, rate: float) -> bool:
    result = session.open_loop(
        "sluice", "small_net", "grpc", rate, seconds=1.5, slo_ms=SLO_MS, deadline_ms=SLO_MS, connections=32,
        warmup=0.5, patience=1,
    )  # fmt: skip
    share = float(result["in_time_share"])
    session.say(f"  looking for the capacity: {rate:,.0f}/s, in time {share:.1%} {_mark(result)}")
    return share >= _IN_TIME


def _capacity(session: Session, arm: str) -> float:
    """Returns requests/s of the closed loop in this run, measured now if it was not yet."""
    known = session.results["arms"].get(f"grpc_{arm}")
    if known is not None:
        return float(statistics.median(known["requests_per_second"]))
    tensors = session.tensors("small_net")
    return session.closed(arm, "small_net", "grpc", tensors, 4, 16).rate


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("machine", "latency_curve_us")}


def _mark(result: dict[str, Any]) -> str:
    return "" if result["valid"] else f"(INVALID: {'; '.join(result['invalid_because'])})"
