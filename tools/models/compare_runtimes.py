"""Times every model version on ONNX Runtime and on OpenVINO, and checks that both give the golden answers.

    python -m tools.models.compare_runtimes [--json FILE] [MODEL …]   (environment: tools/models/requirements.txt)

Engines take turns, one timed block each, so that other work on the machine hits both alike; the figure is the median
over the rounds, the ratio the median of the rounds' ratios. The engines are the very classes that run inside Triton.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tools.models.wheels import ROOT

ROUNDS, BLOCK_S = 7, 0.25
BATCHES, THREADS = (1, 8, 32), (1, 2)
ENGINES = ("onnxruntime", "openvino")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["efficientnet_lite0", "minilm", "wide_deep"])
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    results = [row for model in arguments.models for row in compare(model, engine_classes())]
    print_table(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def engine_classes() -> dict[str, Any]:
    """Returns the engines of the generic python-backend model, which needs Triton's module to be imported."""
    sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
    from gateway.backends.triton_models.onnx_model import ENGINES as CLASSES

    return CLASSES


def compare(model: str, classes: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns one row of figures for each number of threads and batch size. Raises SystemExit on a wrong answer."""
    folder = ROOT / "model_repo" / model / "1"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    golden = np.load(folder / "golden" / "cases.npz")
    tolerance = json.loads((folder / "golden" / "cases.json").read_text(encoding="utf-8"))["tolerance"]
    output = manifest["outputs"][0]["name"]
    rows = []
    for threads in THREADS:
        engines = {}
        for target in manifest["targets"]:
            name, parameters = target["name"], {key: str(value) for key, value in target["parameters"].items()}
            graph_name = parameters.get(f"graph_name.{output}", output)
            path = str(folder / target["artifacts"][0])
            engines[name] = classes[name](path, threads, [graph_name], parameters)
        feed = {key.removeprefix("input."): golden[key] for key in golden.files if key.startswith("input.")}
        differences = {
            name: check(model, engine.run(feed, False)[0], golden[f"output.{output}"], tolerance[output])
            for name, engine in engines.items()
        }
        for batch in BATCHES:
            sample = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in feed.items()}
            runs = {name: lambda e=engine, s=sample: e.run(s, True) for name, engine in engines.items()}
            times = race(runs)
            rows.append(
                {"model": model, "threads": threads, "rows": batch}
                | {f"{name}_ms": statistics.median(found) * 1e3 for name, found in times.items()}
                | {"openvino_gain": statistics.median(a / b for a, b in zip(*map(times.get, ENGINES), strict=True))}
                | {f"{name}_difference": found for name, found in differences.items()}
            )
            print(f"{model}, {threads} thread(s), {batch} row(s) done", file=sys.stderr, flush=True)
    return rows


def check(model: str, found: np.ndarray, expected: np.ndarray, tolerance: dict[str, float]) -> float:
    if not np.allclose(found, expected, atol=tolerance["atol"], rtol=tolerance["rtol"]):
        raise SystemExit(f"{model}: an engine's answers are not the golden ones")
    return float(np.abs(found - expected).max())


def race(runs: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Returns seconds per run, one figure a round."""
    counts = {}
    for name, run in runs.items():
        run()
        started = time.perf_counter()
        run()
        counts[name] = max(1, int(BLOCK_S / max(time.perf_counter() - started, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(ROUNDS):
        for name in list(runs) if turn % 2 else list(runs)[::-1]:
            started = time.perf_counter()
            for _ in range(counts[name]):
                runs[name]()
            times[name].append((time.perf_counter() - started) / counts[name])
    return times


def print_table(results: list[dict[str, Any]]) -> None:
    print("| model | threads | rows | ONNX Runtime, ms | OpenVINO, ms | OpenVINO is faster by |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in results:
        print(
            f"| {row['model']} | {row['threads']} | {row['rows']} | {row['onnxruntime_ms']:.3g} "
            f"| {row['openvino_ms']:.3g} | {row['openvino_gain']:.2f} |"
        )


if __name__ == "__main__":
    main()
