"""Golden answers: a version's recorded inputs cut into batches, and whether what came back is what was recorded.

Compares in the tensors' own types, widened where arithmetic needs it; NaN equals NaN; BYTES must be equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.bytes_elements import boundaries
from gateway.tensors import Buffer, DataType, TensorSpec, element_count
from gateway.versions import GoldenSet, TensorData

_NUMPY = {
    DataType.BOOL: "?", DataType.UINT8: "<u1", DataType.UINT16: "<u2", DataType.UINT32: "<u4", DataType.UINT64: "<u8",
    DataType.INT8: "<i1", DataType.INT16: "<i2", DataType.INT32: "<i4", DataType.INT64: "<i8",
    DataType.FP16: "<f2", DataType.FP32: "<f4", DataType.FP64: "<f8",
}  # fmt: skip


def rows_of(tensors: Sequence[TensorData]) -> int:
    """Returns how many rows batched tensors have."""
    return tensors[0].spec.shape[0] if tensors else 0


def cut(tensor: TensorData, start: int, stop: int) -> TensorData:
    """Returns rows `start` to `stop` of a batched tensor."""
    spec = tensor.spec
    rows, each = spec.shape[0], element_count(spec.shape[1:])
    if spec.datatype is DataType.BYTES:
        ends = [0, *boundaries(tensor.data, [each] * rows)]
        data = tensor.data[ends[start] : ends[stop]]
    else:
        width = each * spec.datatype.itemsize
        data = tensor.data[start * width : stop * width]
    return TensorData(TensorSpec(spec.name, spec.datatype, (stop - start, *spec.shape[1:])), data)


def batches(golden: GoldenSet, max_rows: int) -> Iterator[GoldenSet]:
    """Yields the set in pieces of at most `max_rows` rows, and its first row alone; 0 leaves it whole.

    An engine may answer one row otherwise than many: both must be right.
    """
    rows = rows_of(golden.inputs)
    if max_rows < 1 or rows < 1:
        yield golden
        return
    spans = [(start, min(start + max_rows, rows)) for start in range(0, rows, max_rows)]
    for start, stop in dict.fromkeys([(0, 1), *spans]):
        yield GoldenSet(
            tuple(cut(tensor, start, stop) for tensor in golden.inputs),
            tuple(cut(tensor, start, stop) for tensor in golden.outputs),
            golden.tolerance,
        )


def mismatches(golden: GoldenSet, specs: Sequence[TensorSpec], data: Sequence[Buffer]) -> list[str]:
    """Returns one sentence for each output that is not as recorded."""
    found = {spec.name: (spec, content) for spec, content in zip(specs, data, strict=True)}
    problems = []
    for expected in golden.outputs:
        name = expected.spec.name
        if name not in found:
            problems.append(f"output '{name}' was not answered")
            continue
        spec, content = found[name]
        if (spec.datatype, spec.shape) != (expected.spec.datatype, expected.spec.shape):
            problems.append(
                f"output '{name}' is {spec.datatype.value} {list(spec.shape)}, recorded is "
                f"{expected.spec.datatype.value} {list(expected.spec.shape)}"
            )
        elif why := _difference(expected, bytes(content), golden.tolerance.get(name, (0.0, 0.0))):
            problems.append(f"output '{name}' {why}")
    return problems


def _difference(expected: TensorData, content: bytes, tolerance: tuple[float, float]) -> str:
    if content == expected.data:
        return ""
    if expected.spec.datatype is DataType.BYTES:
        return "has other elements than recorded"
    wanted, got = _array(expected.spec.datatype, expected.data), _array(expected.spec.datatype, content)
    if wanted.shape != got.shape:
        return f"has {got.size} elements, recorded are {wanted.size}"
    absolute, relative = tolerance
    with np.errstate(all="ignore"):
        close = np.isclose(got, wanted, rtol=relative, atol=absolute, equal_nan=True)
        if close.all():
            return ""
        worst = float(np.nanmax(np.where(close, 0.0, np.abs(got - wanted))))
    wrong = int(close.size - np.count_nonzero(close))
    return f"differs from what was recorded in {wrong} of {close.size} values, by up to {worst:.6g}"


def _array(datatype: DataType, data: bytes) -> NDArray[Any]:
    """Returns the flat values, integers and floats alike as float64 (64-bit integers keep their type's precision)."""
    if datatype is DataType.BF16:
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    array = np.frombuffer(data, _NUMPY[datatype])
    return array.astype(np.longdouble) if array.dtype.itemsize == 8 else array.astype(np.float64)
