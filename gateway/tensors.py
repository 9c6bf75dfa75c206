"""Tensor nouns: the OIP data types, a tensor's name-type-shape, and the byte sizes that follow from them.

Tensors travel as raw little-endian bytes in row-major order, as in OIP's `raw_input_contents`; BYTES elements stay
length-prefixed (4-byte little-endian length, then the bytes) and never become numpy object arrays.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


class DataType(enum.Enum):
    """OIP data types; `value` is the OIP spelling, `itemsize` the bytes per element (0 for BYTES)."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    itemsize: int


_ITEMSIZE = {
    "BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
    "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8, "BYTES": 0,
}  # fmt: skip
for _member in DataType:
    _member.itemsize = _ITEMSIZE[_member.value]

DATATYPES: dict[str, DataType] = {member.value: member for member in DataType}
"""OIP spelling to data type."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, data type and shape of one tensor; in model metadata a dimension of -1 means "any"."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]


def element_count(shape: tuple[int, ...]) -> int:
    """Returns the number of elements of a concrete `shape` (1 for a scalar)."""
    count = 1
    for dimension in shape:
        count *= dimension
    return count


def byte_size(spec: TensorSpec) -> int | None:
    """Returns the raw size in bytes of a concrete tensor, or None for BYTES, whose size depends on its elements."""
    if spec.datatype is DataType.BYTES:
        return None
    return element_count(spec.shape) * spec.datatype.itemsize


def bytes_elements(data: Buffer) -> list[bytes]:
    """Returns the elements of a raw BYTES tensor.

    Raises:
        ValueError: a length prefix is cut short or points past the end.
    """
    view = memoryview(data)
    elements, offset, end = [], 0, len(view)
    while offset < end:
        start = offset + 4
        if start > end:
            raise ValueError("length prefix is cut short")
        stop = start + int.from_bytes(view[offset:start], "little")
        if stop > end:
            raise ValueError("element reaches past the end of the data")
        elements.append(bytes(view[start:stop]))
        offset = stop
    return elements
