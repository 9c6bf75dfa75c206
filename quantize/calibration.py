"""Runs the FP32 model over calibration rows and notes what every tensor to be quantized holds.

Two streaming passes: extremes (and per-channel peaks), then histograms between them. Memory: one batch of activations
and one histogram a tensor, whatever the number of rows. Invariant: a NaN or an infinity in any watched tensor refuses
the data.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quantize.errors import BadInput
from quantize.ranges import BINS, TensorHistogram
from quantize.runtimes import OnnxRuntime
from quantize.sources import Batch, Source

_LEAST_WIDTH = 1e-30
"""Narrower is as good as constant, and its bins cannot be counted in FP32."""
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Calibration:
    """Histograms by tensor name; `peaks` are absolute maxima along the last axis, for SmoothQuant."""

    rows: int = 0
    histograms: dict[str, TensorHistogram] = field(default_factory=dict)
    peaks: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def as_dict(self, bins: int = BINS) -> dict[str, Any]:
        """Returns the histograms as plain data, added up to `bins` bins (a divisor of BINS)."""
        return {
            "rows": self.rows,
            "bins": bins,
            "tensors": {
                name: {
                    "min": float(h.low),
                    "max": float(h.high),
                    "counts": h.counts.reshape(bins, -1).sum(axis=1).tolist(),
                }
                for name, h in sorted(self.histograms.items())
            },
        }


def calibrate(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    source: Source,
    *,
    rows: int | None,
    batch: int = 4,
    threads: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> Calibration:
    """Returns the histograms of `tensors` over the source's rows.

    Raises:
        BadInput: an activation is NaN or infinite, or there are no rows.
    """
    wanted = sorted(set(tensors))
    found = Calibration()
    lows: dict[str, float] = dict.fromkeys(wanted, np.inf)
    highs: dict[str, float] = dict.fromkeys(wanted, -np.inf)
    session = watching(model, wanted, threads)
    for chunk in source.batches(batch, rows):
        for name, array in _activations(session, chunk, wanted):
            low, high = float(array.min()), float(array.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise BadInput(f"{source.name}: the model computes NaN or infinity in {name!r} (rows {found.rows} to "
                               f"{found.rows + chunk.rows - 1})")  # fmt: skip
            lows[name], highs[name] = min(lows[name], low), max(highs[name], high)
            if array.ndim > 1:
                peak = np.abs(array).max(axis=tuple(range(array.ndim - 1))).astype(np.float32)
                known = found.peaks.get(name)
                if known is None or known.shape == peak.shape:
                    found.peaks[name] = peak if known is None else np.maximum(known, peak)
        found.rows += chunk.rows
        progress("ranges", found.rows, rows or 0)
    if not found.rows:
        raise BadInput(f"{source.name}: has no rows")
    found.histograms = {name: TensorHistogram(lows[name], highs[name]) for name in wanted}
    done = 0
    for chunk in source.batches(batch, rows):
        for name, array in _activations(session, chunk, wanted):
            _count(found.histograms[name], array)
        done += chunk.rows
        progress("histograms", done, found.rows)
    return found


def watching(model: onnx.ModelProto, tensors: Iterable[str], threads: int) -> OnnxRuntime:
    """Returns a session of the model whose outputs are `tensors`."""
    watched = copy.deepcopy(model)
    known = {v.name: v for v in [*watched.graph.output, *watched.graph.value_info, *watched.graph.input]}
    names = list(tensors)
    del watched.graph.output[:]
    inputs = {v.name for v in watched.graph.input}
    for name in names:
        if name in inputs:
            continue
        watched.graph.output.append(known.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return OnnxRuntime(watched.SerializeToString(), [n for n in names if n not in inputs], threads=threads)


def _activations(session: OnnxRuntime, chunk: Batch, wanted: list[str]) -> Iterable[tuple[str, NDArray[Any]]]:
    found = session.run(chunk.inputs) if session._outputs else {}
    for name in wanted:
        array = chunk.inputs[name] if name in chunk.inputs else found[name]
        if array.size:
            yield name, array


def _count(histogram: TensorHistogram, array: NDArray[Any]) -> None:
    width = histogram.high - histogram.low
    if width < _LEAST_WIDTH:
        histogram.counts[0] += array.size
        return
    # bincount of scaled integers is several times quicker than numpy.histogram on equal bins.
    bins = ((array.ravel() - np.float32(histogram.low)) * np.float32(BINS / width)).astype(np.int32)
    np.clip(bins, 0, BINS - 1, out=bins)
    histogram.counts += np.bincount(bins, minlength=BINS)
