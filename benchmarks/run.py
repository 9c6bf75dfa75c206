"""`make bench`: Sluice against the same Triton spoken to directly, in one run, arms alternating.

For each protocol and each of at least four pairs: Triton with no delay, Triton with 500 us delay, Sluice; the ratio of
a pair is Sluice over the better of the two. Only ratios of one run mean anything on a shared machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import latency
from benchmarks.arms import PUBLIC, ROOT, SOME_DELAY, ZERO_DELAY, Arms, binary_body, grpc_message, json_body
from benchmarks.loads import LoadFailed, Measured, h2load, wrk, wrk_script

RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
CONNECTIONS, STREAMS, WRK_CONNECTIONS = 4, 16, 32
Shot = Callable[[str], Measured]


def main() -> int:
    """Runs everything, prints a table and writes the results. Exit status 0, or 1 where a run was invalid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4, help="pairs of runs per protocol (default 4)")
    parser.add_argument("--seconds", type=int, default=4, help="seconds per run (default 4)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", choices=("grpc", "rest_json", "rest_binary"), help="one protocol alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        say("starting the gateway and its Triton …")
        arms = Arms(folder)
        try:
            results = measure(arms, folder, options)
        except LoadFailed as error:
            print(f"invalid run: {error}", file=sys.stderr)
            return 1
        finally:
            arms.stop()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))
    print(f"\nwritten to {options.out}")
    return 0


def measure(arms: Arms, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the results in the shape of results/latest.json."""
    shots = protocols(arms, folder, options.seconds)
    results: dict[str, Any] = {
        "machine": machine(), "arms": {}, "ratios": {}, "cpu_us_per_request": {}, "latency_us": {},
    }  # fmt: skip
    for protocol, shoot in shots.items():
        if options.only in (None, protocol):
            compare(arms, protocol, shoot, options.pairs, results)
    if options.only in (None, "grpc"):
        say("added latency, one request at a time …")
        results["latency_us"] = latency.compare(arms.ready["triton_grpc"], arms.ready["grpc"], ZERO_DELAY, PUBLIC)
    return results


def protocols(arms: Arms, folder: Path, seconds: int) -> dict[str, Shot]:
    """Returns for each protocol a function that loads one model name for `seconds`."""
    binary, header_length = binary_body()
    scripts = {
        "rest_json": wrk_script(folder, "json", json_body(), {"Content-Type": "application/json"}),
        "rest_binary": wrk_script(
            folder, "binary", binary,
            {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(header_length)},
        ),
    }  # fmt: skip

    def grpc(model: str) -> Measured:
        payload = folder / f"{model}.bin"
        payload.write_bytes(grpc_message(model))
        address = arms.ready["grpc"] if model == PUBLIC else arms.ready["triton_grpc"]
        return h2load(address, payload, seconds, CONNECTIONS, STREAMS)

    def rest(protocol: str) -> Shot:
        def shoot(model: str) -> Measured:
            address = arms.ready["rest"] if model == PUBLIC else arms.ready["triton_http"]
            return wrk(f"http://{address}/v2/models/{model}/infer", scripts[protocol], seconds, WRK_CONNECTIONS)

        return shoot

    return {"grpc": grpc, "rest_json": rest("rest_json"), "rest_binary": rest("rest_binary")}


def compare(arms: Arms, protocol: str, shoot: Shot, pairs: int, results: dict[str, Any]) -> None:
    """Runs the pairs of one protocol and adds arms, ratios and CPU to `results`."""
    rates: dict[str, list[float]] = {"triton_0us": [], "triton_500us": [], "sluice": []}
    latencies: dict[str, list[float]] = {name: [] for name in rates}
    commands: dict[str, str] = {}
    cpu: list[float] = []
    order = [("triton_0us", ZERO_DELAY), ("triton_500us", SOME_DELAY), ("sluice", PUBLIC)]
    for _, model in order:
        shoot(model)  # warm-up, not counted
    for pair in range(pairs):
        for name, model in order if pair % 2 == 0 else order[::-1]:
            before = arms.cpu_seconds()
            measured = shoot(model)
            if name == "sluice":
                cpu.append((arms.cpu_seconds() - before) / measured.answers * 1e6)
            rates[name].append(measured.rate)
            latencies[name].append(measured.mean_latency_us)
            commands[name] = measured.command
            say(f"{protocol} pair {pair + 1}/{pairs} {name:13s} {measured.rate:9.0f}/s")
    ratios = [
        sluice / max(zero, some)
        for sluice, zero, some in zip(rates["sluice"], rates["triton_0us"], rates["triton_500us"], strict=True)
    ]
    for name in rates:
        results["arms"][f"{protocol}_{name}"] = {
            "requests_per_second": [round(rate) for rate in rates[name]],
            "mean_latency_us": [round(value) for value in latencies[name]],
            "command": commands[name],
        }
    results["ratios"][f"{protocol}_small_vs_triton"] = {
        "median": round(statistics.median(ratios), 3),
        "min": round(min(ratios), 3),
        "pairs": [round(ratio, 3) for ratio in ratios],
    }
    results["cpu_us_per_request"][protocol] = round(statistics.median(cpu), 1)


def table(results: dict[str, Any]) -> str:
    """Returns the results as a table for people."""
    lines = [
        "",
        f"{'protocol':12s} {'Triton 0us':>11s} {'Triton 500us':>13s} {'Sluice':>9s}"
        f" {'ratio':>7s} {'min':>6s} {'CPU us':>7s}",
    ]
    for protocol in ("grpc", "rest_json", "rest_binary"):
        ratio = results["ratios"].get(f"{protocol}_small_vs_triton")
        if ratio is None:
            continue
        rates = [
            statistics.median(results["arms"][f"{protocol}_{name}"]["requests_per_second"])
            for name in ("triton_0us", "triton_500us", "sluice")
        ]
        lines.append(
            f"{protocol:12s} {rates[0]:11.0f} {rates[1]:13.0f} {rates[2]:9.0f}"
            f" {ratio['median']:7.2f} {ratio['min']:6.2f} "
            f"{results['cpu_us_per_request'][protocol]:7.1f}"
        )
    if results["latency_us"]:
        got = results["latency_us"]
        lines.append(
            f"one gRPC request at a time, p50: Triton {got['triton_p50']:.0f} us, Sluice {got['sluice_p50']:.0f} us, "
            f"added {got['added_p50']:.0f} us"
        )
    lines.append("requests/s are medians; ratio = Sluice / the better Triton setting of the same pair (median, min)")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Returns what the numbers were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
