"""`make bench`: every headline scenario in one run; writes results/latest.json and docs/benchmarks.md.

    python -m benchmarks.run [--only SCENARIO …] [--smoke]

Only ratios of one run mean anything on a shared machine. Exit codes: 0 everything was measured, 1 a scenario could not
run, 2 bad usage. Missed goals do not change the exit code: they are published as they are.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import goals, latency, report
from benchmarks.arms import ROOT, Arms
from benchmarks.loads import LoadFailed
from benchmarks.scenarios import connections, openloop, rows, telemetry, throughput
from benchmarks.scenarios.registry import build
from benchmarks.scenarios.session import Scale, Session
from gateway.bench.channels import TargetError
from gateway.bench.machine import cpu_jiffies, description

RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
SMOKE = Scale(pairs=2, seconds=1, open_seconds=2.0)
_SMALL = ["small_net"]
SETTINGS = {"models.wide_deep.max_queue_rows": 65_536}
"""What the gateway under test does differently: the usual 4,096 waiting rows are two requests of 2,048."""


def _one_at_a_time(session: Session) -> None:
    tensors = session.tensors("small_net")
    session.prepare("small_net", ("triton_0us", "sluice"), tensors)
    ready, direct = session.arms.ready, session.arms.name("triton_0us", "small_net")
    found = latency.compare(ready["triton_grpc"], ready["grpc"], direct, "small_net", tensors)
    session.results["latency_us"] |= found
    session.say(f"  one at a time: added p50 {found['added_p50']:.0f} us")


Scenario = tuple[list[str], Callable[[Session], None]]
SCENARIOS: dict[str, Scenario] = {
    "grpc": (_SMALL, lambda session: throughput.run(session, throughput.SMALL[:1])),
    "rest_json": (_SMALL, lambda session: throughput.run(session, throughput.SMALL[1:2])),
    "rest_binary": (_SMALL, lambda session: throughput.run(session, throughput.SMALL[2:])),
    "latency": (_SMALL, _one_at_a_time),
    "added_latency": (_SMALL, openloop.added_latency),
    "goodput_small": (_SMALL, openloop.goodput_small),
    "telemetry": (_SMALL, telemetry.run),
    "pictures": (["efficientnet_lite0", "picture_net"], lambda session: throughput.run(session, throughput.PICTURES)),
    "goodput": (["picture_net"], openloop.goodput),
    "pictures_sustained": (["corner_mean"], openloop.pictures_sustained),
    "wide_deep": (["wide_deep"], rows.run),
    "bert": (["bert_shape"], lambda session: throughput.run(session, throughput.BERT)),
    "bert_latency": (["bert_shape"], openloop.bert_latency),
    "connections": (_SMALL, connections.run),
}


def main() -> int:
    """Runs what was asked for and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, help="these scenarios alone")
    parser.add_argument("--pairs", type=int, default=Scale().pairs, help="pairs of runs (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=Scale().seconds, help="seconds per run (default %(default)s)")
    parser.add_argument("--note", default="", help="what the page shall say about the circumstances")
    parser.add_argument("--smoke", action="store_true", help="as short as can be: the numbers mean nothing")
    parser.add_argument(
        "--out", type=Path, help=f"default: {RESULTS.relative_to(ROOT)}, not written with --only or --smoke"
    )
    parsed = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the gateway is stopped too
    scale = SMOKE if parsed.smoke else Scale(pairs=parsed.pairs, seconds=parsed.seconds)
    if scale.pairs < 2 or scale.seconds < 1:
        parser.error("at least 2 pairs of at least 1 second")
    chosen = parsed.only or list(SCENARIOS)
    results, code = measure(chosen, scale)
    results["note"] = parsed.note
    print(report.table(results))
    whole = parsed.only is None and not parsed.smoke
    out = parsed.out or (RESULTS if whole else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"\nwritten to {out}")
    if whole:
        print(f"written to {report.write(results)}")
    return code


def measure(chosen: list[str], scale: Scale) -> tuple[dict[str, Any], int]:
    """Runs the chosen scenarios; returns results in the shape of results/latest.json and the exit code."""
    results: dict[str, Any] = {
        "machine": description(), "arms": {}, "ratios": {}, "cpu_us_per_request": {}, "latency_us": {},
        "scenarios": {}, "samples": {}, "failed": {}, "scale": {"pairs": scale.pairs, "seconds": scale.seconds},
    }  # fmt: skip
    started, jiffies, code = time.perf_counter(), cpu_jiffies(), 0
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        models = list(dict.fromkeys(model for scenario in chosen for model in SCENARIOS[scenario][0]))
        say(f"starting the gateway and its Triton with {', '.join(models)} …")
        arms = Arms(folder, build(folder / "registry", models), SETTINGS)
        session = Session(arms, folder, scale, results)
        try:
            for scenario in chosen:
                begun = time.perf_counter()
                say(f"{scenario} …")
                try:
                    SCENARIOS[scenario][1](session)
                except (LoadFailed, TargetError, RuntimeError) as error:
                    code = 1
                    results["failed"][scenario] = str(error)[-2000:]
                    say(f"  {scenario} could not run: {error}")
                say(f"  {scenario} took {time.perf_counter() - begun:.0f} s")
        finally:
            arms.stop()
    total, stolen = (now - then for now, then in zip(cpu_jiffies(), jiffies, strict=True))
    results["steal_share"] = round(stolen / total, 4) if total else 0.0
    results["seconds"] = round(time.perf_counter() - started)
    results["goals"] = goals.judge(results)
    return results, code


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
