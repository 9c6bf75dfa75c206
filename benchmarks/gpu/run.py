"""One script for a machine with a GPU and no network: uses what is installed there, says what it skipped.

    python -m benchmarks.gpu.run [--device auto|cuda|cpu] [--size full|tiny] [--seconds 5] [--out FILE.json]

Stages, each measured or skipped with its reason: PyTorch alone (one row and larger batches; on CUDA in FP16, as CUDA
graphs), TensorRT (through torch_tensorrt), INT8 and FP32 engines of TensorRT 10/11 that the code of `sluice quantize`
builds, and Sluice with an embedded Triton and a python backend on the device (needs .venv-triton with torch in it): the
highest rate at which p99 stays below 15 ms (`ladder.py`). The JSON has the shape of results/latest.json. What was found
is in docs/benchmarks-gpu.md. Exit codes: 0 something was measured, 1 nothing was.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.arms import ROOT, Arms
from benchmarks.gpu import int8_engine, ladder, serving
from benchmarks.scenarios.session import Scale, Session
from gateway.bench.machine import description

NETWORKS = ("resnet50", "bert", "wide_deep")
BATCHES = {"resnet50": (1, 8, 32, 64), "bert": (1, 8, 32), "wide_deep": (1, 512, 4096, 16384)}
_LEAST_RUNS = 5


def main() -> int:
    """Runs every stage and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.run", description=__doc__)
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--size", choices=("full", "tiny"), default="full", help="tiny networks are for tests")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.json")
    parsed = parser.parse_args()
    results = measure(parsed.device, parsed.size, parsed.seconds)
    parsed.out.parent.mkdir(parents=True, exist_ok=True)
    parsed.out.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))
    print(f"written to {parsed.out}")
    return 0 if results["scenarios"] else 1


def measure(device: str, size: str, seconds: float) -> dict[str, Any]:
    """Returns results in the shape of results/latest.json, with `skipped`: stage to reason."""
    # A kernel's build says nothing of a GPU.
    results: dict[str, Any] = {
        "machine": description() | {"system": platform.system()},
        "arms": {}, "ratios": {}, "cpu_us_per_request": {}, "latency_us": {},
        "scenarios": {}, "samples": {}, "skipped": {},
    }  # fmt: skip
    torch = optional("torch", results, "PyTorch and everything on it")
    if torch is None:
        return results
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and found != "cuda":
        results["skipped"]["everything"] = "CUDA was asked for and PyTorch sees no GPU"
        return results
    device = found if device == "auto" else device
    results["machine"] |= {
        "device": torch.cuda.get_device_name(0) if device == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    if device == "cpu":
        results["skipped"]["gpu"] = "no GPU: the same code runs on the CPU, and its numbers say nothing about one"
    for name in NETWORKS:
        for batch in BATCHES[name] if size == "full" else (1, 2):
            key = f"torch_{name}_{batch}"
            try:
                results["scenarios"][key] = on_torch(torch, name, size, batch, device, seconds)
            except RuntimeError as error:  # out of memory, an operator that is missing
                results["skipped"][key] = str(error).splitlines()[0]
    tensorrt(torch, device, size, seconds, results)
    int8_engine.measure(device, size, seconds, results, latencies)
    triton(device, size, seconds, results)
    return results


def optional(module: str, results: dict[str, Any], what: str) -> Any:
    """Returns a module, or None with the reason noted."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        results["skipped"][what] = f"{module} is not usable here: {error}"
        return None


def on_torch(torch: Any, name: str, size: str, batch: int, device: str, seconds: float) -> dict[str, Any]:
    """Returns latencies and rows/s of a network in PyTorch."""
    from benchmarks.gpu.networks import example
    from benchmarks.gpu.runner import Runner

    half = device == "cuda"
    runner = Runner(name, size, device, batch)
    inputs = example(name, size, batch, device, half)

    def once() -> None:
        runner(inputs)
        if half:
            torch.cuda.synchronize()

    return latencies(once, batch, seconds) | {"half": half}


def latencies(once: Callable[[], None], batch: int, seconds: float) -> dict[str, Any]:
    """Calls `once` for `seconds` after a warm-up; returns percentiles in us and rows/s."""
    for _ in range(3):
        once()
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while len(times) < _LEAST_RUNS or time.perf_counter() < ends:
        begun = time.perf_counter_ns()
        once()
        times.append((time.perf_counter_ns() - begun) / 1000)
    ranked = sorted(times)
    found = {"p50": statistics.median(ranked), "p99": ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)]}
    return {
        "batch": batch,
        "latency_us": {key: round(value, 1) for key, value in found.items()} | {"count": len(times)},
        "rows_per_second": round(batch * len(times) / (sum(times) / 1e6), 1),
    }


def tensorrt(torch: Any, device: str, size: str, seconds: float, results: dict[str, Any]) -> None:
    """Measures ResNet-50 through torch_tensorrt, where that is present with a GPU."""
    if device != "cuda":
        results["skipped"]["TensorRT"] = "needs a GPU"
        return
    compiler = optional("torch_tensorrt", results, "TensorRT")
    if compiler is None:
        return
    from benchmarks.gpu.networks import example, network

    try:
        inputs = example("resnet50", size, 1, device, True)
        made = compiler.compile(network("resnet50", size).to(device).half(), inputs=list(inputs))

        def once() -> None:
            made(*inputs)
            torch.cuda.synchronize()

        with torch.inference_mode():
            results["scenarios"]["tensorrt_resnet50_1"] = latencies(once, 1, seconds)
    except Exception as error:  # a compiler that is half there fails in its own ways
        results["skipped"]["TensorRT"] = f"{type(error).__name__}: {error}".splitlines()[0]


def triton(device: str, size: str, seconds: float, results: dict[str, Any]) -> None:
    """Measures the networks through Sluice and an embedded Triton with a python backend on the device."""
    python = Path(os.environ.get("SLUICE_TRITON_ENV", ROOT / ".venv-triton")) / "bin" / "python"
    reason = serving.missing(python)
    if reason is not None:
        results["skipped"]["Sluice and Triton"] = reason
        return
    with tempfile.TemporaryDirectory(prefix="sluice-gpu-") as name:
        folder = Path(name)
        try:
            arms = Arms(folder, serving.registry(folder / "registry", device, size), ladder.SETTINGS)
        except (RuntimeError, ValueError, OSError) as error:
            results["skipped"]["Sluice and Triton"] = str(error).splitlines()[0]
            return
        try:
            session = Session(arms, folder, Scale(open_seconds=seconds), results)
            for scenario in ladder.SCENARIOS:
                ladder.climb(session, scenario, size)
        finally:
            arms.stop()


def table(results: dict[str, Any]) -> str:
    """Returns the results for people."""
    lines = [f"device: {results['machine'].get('device', 'unknown')}", ""]
    lines.append(f"{'what':28s} {'p50 ms':>9s} {'p99 ms':>9s} {'rows/s':>12s}")
    for key, row in results["scenarios"].items():
        latency = row["latency_us"]
        rate = row.get("rows_per_second", row.get("answered_per_second", 0.0))
        figures = f"{latency['p50'] / 1000:9.2f} {latency['p99'] / 1000:9.2f} {rate:12,.0f}"
        lines.append(f"{key:28s} {figures}{ladder.summary(row)}")
    lines += ["", *[f"skipped: {what}: {why}" for what, why in results["skipped"].items()]]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
