"""Refuses rows that would spoil ranges or figures: before any model runs on them.

One streaming pass over a source. Decides: names, types and shapes fit the model; no NaN, no infinity; no input that
is the same in every row; token ids inside their table; enough rows; labels there and finite. Leaves a hash of each
row, so that calibration and evaluation can be proven disjoint, and each input's statistics, which the manifest keeps
for the gateway.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.errors import BadInput
from quantize.graph import Graph, TensorSpec
from quantize.input_sketch import InputSketch
from quantize.sources import Batch, Source

FEWEST_CALIBRATION_ROWS = 8
SUGGESTED_CALIBRATION_ROWS = 32
MOST_PROBLEMS = 12
_SKETCH_ROWS = 4096


@dataclass(slots=True)
class InputStatistics:
    """What rows of one input look like, over all its elements."""

    count: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    total: float = 0.0
    squares: float = 0.0
    zeros: int = 0
    varies: bool = False
    first: bytes = b""
    largest: tuple[int, ...] = ()
    sketch: list[float] = field(default_factory=list)
    elements: InputSketch = field(default_factory=InputSketch)

    def add(self, array: NDArray[Any]) -> None:
        values = array.astype(np.float64).ravel()
        self.count += values.size
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.total += float(values.sum())
        self.squares += float(np.square(values).sum())
        self.zeros += int((values == 0).sum())
        self.largest = tuple(map(max, self.largest or array.shape[1:], array.shape[1:]))
        for row in array:
            self.elements.add(row)
            content = row.tobytes()
            self.first = self.first or content
            self.varies = self.varies or content != self.first
            if len(self.sketch) < _SKETCH_ROWS:
                self.sketch.append(float(np.mean(row, dtype=np.float64)))

    def as_dict(self) -> dict[str, Any]:
        """Returns what the manifest keeps: `row_mean_*` describe the mean of each row, which is cheap to watch live."""
        mean = self.total / max(self.count, 1)
        deviation = max(self.squares / max(self.count, 1) - mean * mean, 0.0) ** 0.5
        rows = np.array(self.sketch or [0.0])
        return {
            "min": _short(self.low),
            "max": _short(self.high),
            "mean": _short(mean),
            "std": _short(deviation),
            "zero_share": _short(self.zeros / max(self.count, 1)),
            "row_mean_quantiles": {str(q): _short(float(np.quantile(rows, q))) for q in (0.01, 0.25, 0.5, 0.75, 0.99)},
        }


@dataclass(slots=True)
class DataSummary:
    """What one pass found; `hashes` has 8 bytes a row."""

    rows: int = 0
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    inputs: dict[str, InputStatistics] = field(default_factory=dict)
    labelled: bool = False
    groups: int | None = None
    duplicates: int = 0
    first: Batch | None = None
    warnings: list[str] = field(default_factory=list)


def vocabularies(graph: Graph) -> dict[str, int]:
    """Returns the table size of every input whose values are used directly as row numbers of a constant table."""
    found: dict[str, int] = {}
    for spec in graph.inputs():
        for node in graph.consumers[spec.name]:
            table = graph.weights.get(node.input[0]) if node.op_type == "Gather" else None
            if table is not None and node.input[1] == spec.name and len(table.dims) == 2:
                found[spec.name] = min(found.get(spec.name, table.dims[0]), table.dims[0])
    return found


def check_source(
    source: Source,
    graph: Graph,
    *,
    labels: bool,
    fewest: int,
    most: int | None = None,
    batch: int = 32,
) -> DataSummary:
    """Returns the summary of all rows.

    Raises:
        BadInput: with every problem found (up to a dozen).
    """
    summary = DataSummary()
    specs = {spec.name: spec for spec in graph.inputs()}
    tables = vocabularies(graph)
    problems: dict[str, None] = {}
    hashes: list[int] = []
    groups: set[Any] = set()
    for found in source.batches(batch, most):
        summary.first = summary.first or found
        for problem in [*_shape_problems(found, specs), *_label_problems(found, labels)]:
            problems[problem] = None
        if problems:
            break
        for name, array in found.inputs.items():
            for problem in _value_problems(name, array, tables.get(name), summary.rows):
                problems[problem] = None
        if len(problems) >= MOST_PROBLEMS:
            break
        for name, array in found.inputs.items():
            summary.inputs.setdefault(name, InputStatistics()).add(np.nan_to_num(array))
        hashes.extend(row_hash(found, row) for row in range(found.rows))
        if found.groups is not None:
            groups.update(found.groups.tolist())
        summary.labelled = found.labels is not None
        summary.rows += found.rows
    if not problems and not summary.rows:
        problems["has no rows"] = None
    if not problems:
        for problem in _overall_problems(summary, fewest):
            problems[problem] = None
    if problems:
        raise BadInput(*[f"{source.name}: {problem}" for problem in list(problems)[:MOST_PROBLEMS]])
    summary.hashes = np.array(hashes, np.uint64)
    summary.groups = len(groups) if groups else None
    summary.duplicates = summary.rows - len(np.unique(summary.hashes))
    if summary.duplicates:
        summary.warnings.append(f"{source.name}: {summary.duplicates} rows occur more than once")
    return summary


def check_disjoint(calibration: DataSummary, evaluation: DataSummary) -> None:
    """Raises BadInput if a row is in both."""
    common = np.intersect1d(calibration.hashes, evaluation.hashes)
    if len(common):
        raise BadInput(
            f"{len(common)} rows are in both calibration and evaluation: what is judged must not have been "
            "calibrated with"
        )


def row_hash(batch: Batch, row: int) -> int:
    """Returns 64 bits that identify a row's inputs."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(batch.inputs):
        array = batch.inputs[name][row]
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return int.from_bytes(digest.digest(), "little")


def _shape_problems(batch: Batch, specs: dict[str, TensorSpec]) -> list[str]:
    problems = [f"input {name!r} is missing" for name in specs if name not in batch.inputs]
    for name, array in batch.inputs.items():
        if name not in specs:
            problems.append(f"{name!r} is not an input of the model (inputs: {', '.join(specs)}; labels: label)")
            continue
        spec = specs[name]
        if array.dtype != spec.dtype:
            problems.append(f"{name} is {array.dtype.name}, the model takes {spec.dtype.name}")
        wanted, given = spec.dims[1:], array.shape[1:]
        if len(wanted) != len(given) or any(w is not None and w != g for w, g in zip(wanted, given, strict=True)):
            shown = [str(d) if d is not None else "?" for d in wanted]
            hint = ""
            if None not in wanted and sorted(given) == sorted(d for d in wanted if d is not None) and given != wanted:
                hint = " (the same sizes in another order: wrong layout)"
            problems.append(
                f"{name} has rows of [{', '.join(map(str, given))}], the model takes [{', '.join(shown)}]{hint}"
            )
    return problems


def _label_problems(batch: Batch, wanted: bool) -> list[str]:
    if not wanted:
        return []
    if batch.labels is None:
        return ["has no `label`: the metric needs to know the right answers"]
    if batch.labels.dtype.kind == "f" and not np.isfinite(batch.labels).all():
        return ["labels have NaN or infinity"]
    return []


def _value_problems(name: str, array: NDArray[Any], table: int | None, start: int) -> list[str]:
    problems = []
    if array.dtype.kind == "f":
        for what, bad in (("NaN", np.isnan(array)), ("infinity", np.isinf(array))):
            if bad.any():
                row = start + int(np.argwhere(bad)[0][0])
                problems.append(f"{name} has {what} (first in row {row})")
    if table is not None and ((array >= table) | (array < -table)).any():
        bad = (array >= table) | (array < -table)
        row = start + int(np.argwhere(bad)[0][0])
        problems.append(f"{name} has {int(array[bad][0])} in row {row}, outside its table of {table} entries")
    return problems


def _overall_problems(summary: DataSummary, fewest: int) -> list[str]:
    problems = []
    if summary.rows < fewest:
        problems.append(f"has {summary.rows} rows, at least {fewest} are needed")
    for name, found in summary.inputs.items():
        # Attention masks of equally long texts are all ones: constant integers say nothing bad.
        if summary.rows > 1 and not found.varies and found.low == found.high == 0:
            problems.append(f"{name} is zero everywhere")
        elif summary.rows > 1 and not found.varies and "mask" not in name and "type" not in name:
            problems.append(f"{name} is the same in every row")
    return problems


def _short(value: float) -> float:
    return float(f"{value:.6g}")
