"""Do two versions answer the same? Compares the outputs of many requests at once, row by row.

What counts as equal is a rule of the output, or follows from its type: BYTES and integers must be equal; floats may
differ by a tenth in norm (an INT8 version of a network does, by a few hundredths; one with a scale forgotten does not)
and must agree on the largest element of a row, unless rows are unit vectors with signs, as embeddings are, which must
point the same way. An answer with a NaN or an infinity where stable has none is not the same.

Invariants: never raises for what a model answered; errors are never negative and never NaN (what cannot be computed is
infinite); a request is as bad as its worst row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.releases import OutputRule
from gateway.tensors import Buffer, DataType, TensorSpec, bytes_elements

AUTO_NORM = 0.1
"""How much two rows of floats may differ in norm, as a share of stable's, where no rule says otherwise."""
AUTO_COSINE = 0.99
_UNIT = 1e-3

_NUMPY = {
    DataType.BOOL: np.dtype(np.bool_), DataType.UINT8: np.dtype(np.uint8), DataType.UINT16: np.dtype("<u2"),
    DataType.UINT32: np.dtype("<u4"), DataType.UINT64: np.dtype("<u8"), DataType.INT8: np.dtype(np.int8),
    DataType.INT16: np.dtype("<i2"), DataType.INT32: np.dtype("<i4"), DataType.INT64: np.dtype("<i8"),
    DataType.FP16: np.dtype("<f2"), DataType.FP32: np.dtype("<f4"), DataType.FP64: np.dtype("<f8"),
}  # fmt: skip
_FLOATS = frozenset({DataType.FP16, DataType.BF16, DataType.FP32, DataType.FP64})

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RowErrors:
    """How far the candidate's rows are from stable's, one element a row (of one output)."""

    same: Flags
    largest: Floats
    mean: Floats
    relative_largest: Floats
    relative_mean: Floats
    cosine: Floats
    top_k: Floats
    flipped: Flags
    stable_nan: Flags
    candidate_nan: Flags


def rows_array(spec: TensorSpec, data: Sequence[Buffer], rows: int) -> NDArray[np.generic] | None:
    """Returns the joined tensors as (rows, elements of a row); None for BYTES. Floats come as FP64.

    `data` are the raw bytes of each request's tensor, in order; `rows` how many rows they have together.
    """
    if spec.datatype is DataType.BYTES:
        return None
    joined = data[0] if len(data) == 1 else b"".join(data)
    with np.errstate(invalid="ignore"):  # a signalling NaN is only a NaN here
        if spec.datatype is DataType.BF16:
            found = (np.frombuffer(joined, dtype="<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        else:
            found = np.frombuffer(joined, dtype=_NUMPY[spec.datatype])
            if spec.datatype in _FLOATS:
                found = found.astype(np.float64)
    return found.reshape(max(1, rows), -1)


def finite_rows(spec: TensorSpec, data: Buffer, rows: int) -> Flags | None:
    """Returns for each row whether all of it is finite; None where everything is, or for types without NaN."""
    if spec.datatype not in _FLOATS or not len(data):
        return None
    if spec.datatype is DataType.BF16:
        bits = np.frombuffer(data, dtype="<u2")
        finite = (bits & 0x7F80) != 0x7F80
    else:
        finite = np.isfinite(np.frombuffer(data, dtype=_NUMPY[spec.datatype]))
    if finite.all():
        return None
    flags: Flags = finite.reshape(max(1, rows), -1).all(axis=1)
    return flags


def is_float(datatype: DataType) -> bool:
    """Whether tensors of this type may hold a NaN."""
    return datatype in _FLOATS


def compare_rows(
    spec: TensorSpec, rule: OutputRule | None, stable: Sequence[Buffer], candidate: Sequence[Buffer], rows: int
) -> RowErrors:
    """Compares one output of several requests; `spec` is that of any of them, `rows` the rows of all together."""
    left, right = rows_array(spec, stable, rows), rows_array(spec, candidate, rows)
    if left is None or right is None:
        return _compare_bytes(stable, candidate, rows)
    if left.shape != right.shape:
        return _unlike(rows)
    if rule is not None and rule.compare == "bytes":
        return _errors(left, right, (left == right).all(axis=1) | _both_nan(left, right), rule, spec)
    return _errors(left, right, None, rule, spec)


def _compare_bytes(stable: Sequence[Buffer], candidate: Sequence[Buffer], rows: int) -> RowErrors:
    try:
        left = [element for data in stable for element in bytes_elements(data)]
        right = [element for data in candidate for element in bytes_elements(data)]
    except ValueError:
        return _unlike(rows)
    if len(left) != len(right) or not rows or len(left) % rows:
        return _unlike(rows)
    width = len(left) // rows
    same = np.array([left[i * width : (i + 1) * width] == right[i * width : (i + 1) * width] for i in range(rows)])
    return _plain(same.astype(np.bool_))


def _plain(same: Flags) -> RowErrors:
    """Returns what is known of rows that are either equal or not."""
    off = np.where(same, 0.0, 1.0)
    no = np.zeros(len(same), np.bool_)
    return RowErrors(same, off, off, off, off, 1.0 - off, 1.0 - off, ~same, no, no)


def _unlike(rows: int) -> RowErrors:
    """Returns the errors of answers that cannot even be compared: other shapes."""
    return _plain(np.zeros(max(1, rows), np.bool_))


def _both_nan(left: NDArray[np.generic], right: NDArray[np.generic]) -> Flags:
    if left.dtype.kind != "f":
        return np.zeros(len(left), np.bool_)
    return np.asarray(((left == right) | (np.isnan(left) & np.isnan(right))).all(axis=1))


def _errors(
    left: NDArray[np.generic],
    right: NDArray[np.generic],
    same: Flags | None,
    rule: OutputRule | None,
    spec: TensorSpec,
) -> RowErrors:
    is_real = left.dtype.kind == "f"
    one, two = left.astype(np.float64), right.astype(np.float64)
    width = one.shape[1]
    if width == 0:
        return _plain(np.ones(len(one), np.bool_))
    with np.errstate(all="ignore"):
        gap = np.abs(two - one)
        gap = np.where(one == two, 0.0, gap)
        nan_left: Flags = ~np.asarray(np.isfinite(one).all(axis=1))
        nan_right: Flags = ~np.asarray(np.isfinite(two).all(axis=1))
        scale = np.abs(one)
        relative = np.where(gap == 0.0, 0.0, gap / np.maximum(scale, 1e-12))
        norm_one, norm_two = np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1)
        norm_gap = np.linalg.norm(gap, axis=1)
        product = norm_one * norm_two
        cosine = np.where(product > 0.0, (one * two).sum(axis=1) / np.maximum(product, 1e-300), 1.0 * (norm_gap == 0.0))
        last = spec.shape[-1] if len(spec.shape) > 1 and spec.shape[-1] > 0 and width % spec.shape[-1] == 0 else 1
        flipped, agreement = _labels(one, two, last, rule.top_k if rule is not None else 1)
        if same is None:
            same = _same(one, gap, norm_one, norm_gap, cosine, flipped, is_real, last, rule)
        same = (same & ~nan_right) | (nan_left & nan_right & _both_nan(one, two))
    return RowErrors(
        same, _finite(gap.max(axis=1)), _finite(gap.mean(axis=1)), _finite(relative.max(axis=1)),
        _finite(relative.mean(axis=1)), np.nan_to_num(cosine, nan=-1.0, posinf=-1.0, neginf=-1.0), agreement,
        flipped.astype(np.bool_), nan_left, nan_right,
    )  # fmt: skip


def _same(
    one: Floats, gap: Floats, norm_one: Floats, norm_gap: Floats, cosine: Floats, flipped: Flags, is_real: bool,
    last: int, rule: OutputRule | None,
) -> Flags:  # fmt: skip
    kind = rule.compare if rule is not None else "auto"
    if kind == "label":
        # Of one element there is no largest: the label is the (rounded) element itself.
        return ~flipped if last > 1 else np.asarray((gap < 0.5).all(axis=1))
    if kind == "cosine" and rule is not None:
        return cosine >= 1.0 - rule.absolute
    if kind == "close" and rule is not None:
        return np.asarray((gap <= rule.absolute + rule.relative * np.abs(one)).all(axis=1))
    if not is_real:
        return np.asarray((gap == 0.0).all(axis=1))
    floor = (rule.absolute if rule is not None else 1e-3) * np.sqrt(one.shape[1])
    near = norm_gap <= floor + AUTO_NORM * norm_one
    unit = (np.abs(norm_one - 1.0) < _UNIT) & (one < 0.0).any(axis=1)
    return np.where(unit, cosine >= AUTO_COSINE, near & ~flipped).astype(np.bool_)


def _labels(one: Floats, two: Floats, last: int, k: int) -> tuple[Flags, Floats]:
    """Returns for each row whether a label flipped (the largest element of the last axis, of `last` elements), and
    the share of stable's k largest elements that are among the candidate's k largest."""
    rows = len(one)
    if last == 1:
        return np.zeros(rows, np.bool_), np.ones(rows)
    one, two = one.reshape(rows, -1, last), two.reshape(rows, -1, last)
    same = np.argmax(one, axis=2) == np.argmax(two, axis=2)
    k = max(1, min(k, last))
    if k == 1:
        return ~np.asarray(same.all(axis=1)), same.mean(axis=1)
    left = np.argpartition(-one, k - 1, axis=2)[:, :, :k]
    right = np.argpartition(-two, k - 1, axis=2)[:, :, :k]
    shares = (left[..., :, None] == right[..., None, :]).any(axis=3).mean(axis=(1, 2))
    return ~np.asarray(same.all(axis=1)), shares


def _finite(values: Floats) -> Floats:
    """Returns errors with NaN made infinite: what cannot be computed is as bad as can be."""
    return np.where(np.isnan(values), np.inf, values)
