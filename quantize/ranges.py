"""From what a tensor was seen to hold to the range that its integers cover, and from a range to scale and zero point.

Pure. Methods: `minmax`; `percentile:P` (the central P per cent of values); `entropy` (least KL divergence); `mse`
(least squared error). All of them work on one histogram of BINS bins between the smallest and the largest value.
Invariant: a range includes 0, and every scale is finite and at least SMALLEST_SCALE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quantize.errors import BadInput

BINS = 2048
SMALLEST_SCALE = 1e-8
METHODS = ("minmax", "percentile", "entropy", "mse")
Loss = Callable[[NDArray[np.float64], NDArray[np.int64], "Scale"], float]
_SHARES = np.linspace(0.3, 1.0, 71)


@dataclass(slots=True)
class TensorHistogram:
    """Values of one tensor over all calibration rows."""

    low: float
    high: float
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def centres(self) -> NDArray[np.float64]:
        width = (self.high - self.low) / BINS
        return np.asarray(self.low + width * (np.arange(BINS) + 0.5), np.float64)


@dataclass(frozen=True, slots=True)
class Scale:
    """x ~ scale * (q - zero_point); `signed` tells int8 from uint8."""

    scale: float
    zero_point: int
    signed: bool


def parse_method(text: str) -> tuple[str, float]:
    """Returns the method and its parameter (the percentile).

    Raises:
        BadInput: unknown method, or a percentile outside 90 to 100.
    """
    name, _, parameter = text.partition(":")
    if name not in METHODS or (parameter and name != "percentile"):
        raise BadInput(f"method {text!r} is not one of minmax, percentile:P, entropy, mse")
    try:
        value = float(parameter) if parameter else 99.99
    except ValueError as error:
        raise BadInput(f"method {text!r}: {parameter!r} is not a number") from error
    if not 90.0 <= value <= 100.0:
        raise BadInput(f"method {text!r}: the percentile must lie between 90 and 100")
    return name, value


def tensor_range(found: TensorHistogram, method: str, *, symmetric: bool) -> tuple[float, float]:
    """Returns the range (low <= 0 <= high) that the method chooses."""
    name, parameter = parse_method(method)
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    if name == "minmax" or found.high <= found.low or not found.counts.any():
        return low, high
    if name == "percentile":
        return _percentile(found, parameter)
    return _least(found, low, high, _kl_loss if name == "entropy" else _mse_loss, symmetric=symmetric)


def activation_scale(low: float, high: float, *, symmetric: bool) -> Scale:
    """Returns int8 with zero point 0 if symmetric, else uint8."""
    if symmetric:
        return Scale(max(max(-low, high) / 127.0, SMALLEST_SCALE), 0, True)
    scale = max((high - low) / 255.0, SMALLEST_SCALE)
    return Scale(scale, int(np.clip(round(-low / scale), 0, 255)), False)


def weight_scales(weight: NDArray[np.float32], axis: int | None) -> NDArray[np.float32]:
    """Returns one scale for each slice along `axis` (one in all if None); a slice of zeros gets 1."""
    if axis is None:
        peak = np.abs(weight).max(keepdims=True).reshape(1)
    else:
        peak = np.abs(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)).max(axis=1)
    scales = np.where(peak > 0, np.maximum(peak / 127.0, SMALLEST_SCALE), 1.0)
    return scales.astype(np.float32)


def _percentile(found: TensorHistogram, percentile: float) -> tuple[float, float]:
    shares = np.cumsum(found.counts) / found.counts.sum()
    tail = (1.0 - percentile / 100.0) / 2.0
    width = (found.high - found.low) / BINS
    # A one-sided tensor (after ReLU) has no lower tail to cut: all of the cut is taken from the other side.
    upper = 1.0 - tail if found.low < 0 < found.high else 1.0 - 2 * tail
    first = int(np.searchsorted(shares, tail, side="left"))
    last = int(np.searchsorted(shares, upper, side="left"))
    low = found.low + width * first if found.low < 0 else 0.0
    high = found.low + width * (last + 1) if found.high > 0 else 0.0
    return min(low, 0.0), max(high, 0.0)


def _least(found: TensorHistogram, low: float, high: float, loss: Loss, *, symmetric: bool) -> tuple[float, float]:
    centres, counts = found.centres(), found.counts
    best, least = (low, high), np.inf
    for share in _SHARES:
        scale = activation_scale(low * share, high * share, symmetric=symmetric)
        value = loss(centres, counts, scale)
        if value < least - 1e-15:
            best, least = (low * float(share), high * float(share)), value
    return best


def _rounded(centres: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    bounds = (-128, 127) if scale.signed else (0, 255)
    rounded: NDArray[np.float64] = np.clip(np.round(centres / scale.scale) + scale.zero_point, *bounds)
    return rounded


def _mse_loss(centres: NDArray[np.float64], counts: NDArray[np.int64], scale: Scale) -> float:
    back = (_rounded(centres, scale) - scale.zero_point) * scale.scale
    return float((counts * np.square(centres - back)).sum() / counts.sum())


def _kl_loss(centres: NDArray[np.float64], counts: NDArray[np.int64], scale: Scale) -> float:
    """KL divergence between the histogram and what is left of it after rounding (each level's mass spread evenly)."""
    levels = _rounded(centres, scale).astype(np.int64)
    levels -= levels.min()
    mass = np.bincount(levels, weights=counts)
    occupied = np.bincount(levels, weights=(counts > 0).astype(np.float64))
    spread = np.where(counts > 0, mass[levels] / np.maximum(occupied[levels], 1.0), 0.0)
    p, q = counts / counts.sum(), spread / max(spread.sum(), 1.0)
    used = p > 0
    return float((p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))).sum())
