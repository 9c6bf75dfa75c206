"""Runs FP32 and INT8 over the evaluation rows and measures: outputs, batch invariance, latency.

Invariant: what is measured is the very artifact in the very runtime that will serve it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.calibration import Progress
from quantize.errors import BadInput
from quantize.runtimes import Arrays, Runtime
from quantize.sources import Source

PROBE_ROWS = 6
ROUNDS, BLOCK_S = 7, 0.12


@dataclass(slots=True)
class Outputs:
    """The judged output for every row, in the source's order."""

    values: NDArray[Any]
    labels: NDArray[Any]
    groups: NDArray[Any] | None
    finite: bool


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds for one run of `rows` rows, both models alternating in one process; `gain` is FP32 / INT8."""

    rows: int
    fp32_ms: float
    int8_ms: float
    int8_slowest_ms: float
    gain: float

    def as_dict(self) -> dict[str, float]:
        return {
            "rows": self.rows,
            "fp32_ms": round(self.fp32_ms, 4),
            "int8_ms": round(self.int8_ms, 4),
            "int8_slowest_ms": round(self.int8_slowest_ms, 4),
            "gain": round(self.gain, 3),
        }


def outputs_of(
    runtime: Runtime,
    output: str,
    source: Source,
    *,
    batch: int,
    most: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Outputs:
    """Returns what the model answers to every row, run in batches of `batch`.

    Raises:
        BadInput: the output does not have one answer a row.
    """
    values, labels, groups = [], [], []
    finite, done = True, 0
    for chunk in source.batches(batch, most):
        found = runtime.run(chunk.inputs)[output]
        if found.ndim == 0 or len(found) != chunk.rows:
            raise BadInput(
                f"output {output!r} has shape {list(found.shape)} for {chunk.rows} rows: not one answer a row"
            )
        finite = finite and bool(np.isfinite(found).all())
        values.append(found)
        labels.append(chunk.labels if chunk.labels is not None else np.zeros(chunk.rows))
        if chunk.groups is not None:
            groups.append(chunk.groups)
        done += chunk.rows
        progress(f"evaluating, batch {batch}", done, most or 0)
    return Outputs(np.concatenate(values), np.concatenate(labels), np.concatenate(groups) if groups else None, finite)


def batch_invariance(runtime: Runtime, output: str, rows: Arrays, largest: int) -> float:
    """Returns by how much a row's answer changes with its company, relative to the answers' range.

    Each probe row runs alone, then in batches of 2, 3, a half and all of `largest`, at the front, in the middle and
    at the end.
    """
    count = len(next(iter(rows.values())))
    probes = min(PROBE_ROWS, count)
    alone = [runtime.run({k: v[i : i + 1] for k, v in rows.items()})[output][0].copy() for i in range(probes)]
    spread = max(float(np.ptp(np.stack(alone))), 1e-6)
    worst = 0.0
    for size in sorted({2, 3, largest // 2, largest} - {0, 1}):
        if size > largest:
            continue
        for place in sorted({0, size // 2, size - 1}):
            for probe in range(probes):
                picked = [(probe + 1 + offset) % count for offset in range(size)]
                picked[place] = probe
                found = runtime.run({k: np.ascontiguousarray(v[picked]) for k, v in rows.items()})[output][place]
                worst = max(worst, float(np.abs(found - alone[probe]).max()) / spread)
    return worst


def latencies(fp32: Runtime, int8: Runtime, rows: Arrays, sizes: list[int]) -> list[Latency]:
    """Returns one figure for each batch size; the two models take turns, so that other work hits both alike."""
    found = []
    for size in sizes:
        feed = {name: np.ascontiguousarray(np.resize(array, (size, *array.shape[1:]))) for name, array in rows.items()}
        old, new = race([lambda f=feed: fp32.run(f), lambda f=feed: int8.run(f)])  # type: ignore[misc]
        gain = statistics.median(a / b for a, b in zip(old, new, strict=True))
        found.append(Latency(size, statistics.median(old) * 1e3, statistics.median(new) * 1e3, max(new) * 1e3, gain))
    return found


def race(runs: list[Callable[[], object]]) -> list[list[float]]:
    """Returns seconds a run for each of `runs`, one figure a round."""
    counts = []
    for run in runs:
        run()
        started = time.perf_counter()
        run()
        counts.append(max(1, int(BLOCK_S / max(time.perf_counter() - started, 1e-6))))
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(ROUNDS):
        for index in range(len(runs)) if turn % 2 else reversed(range(len(runs))):
            started = time.perf_counter()
            for _ in range(counts[index]):
                runs[index]()
            times[index].append((time.perf_counter() - started) / counts[index])
    return times
