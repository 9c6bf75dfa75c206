"""Builders and strategies for wire tests: tensors of every data type with their raw bytes and plain values."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypothesis import strategies as st

from gateway._generated import open_inference_pb2 as pb
from gateway.tensors import DataType, TensorSpec, element_count

CODES = {
    DataType.BOOL: "?", DataType.UINT8: "B", DataType.UINT16: "H", DataType.UINT32: "I", DataType.UINT64: "Q",
    DataType.INT8: "b", DataType.INT16: "h", DataType.INT32: "i", DataType.INT64: "q",
    DataType.FP32: "f", DataType.FP64: "d",
}  # fmt: skip
"""Data types that have a plain form in every protocol, and their struct codes."""


@dataclass
class Case:
    """A tensor: `values` are its elements in row-major order, `raw` the same as OIP bytes."""

    spec: TensorSpec
    values: list[object]
    raw: bytes


def raw_bytes(datatype: DataType, values: list[object]) -> bytes:
    """Returns the raw form, written independently of the code under test."""
    if datatype is DataType.BYTES:
        return b"".join(struct.pack("<I", len(v)) + v for v in values)  # type: ignore[arg-type,misc]
    return b"".join(struct.pack("<" + CODES[datatype], v) for v in values)


def elements(datatype: DataType, *, text: bool = False) -> st.SearchStrategy[object]:
    """Returns a strategy for single elements; `text` restricts BYTES to UTF-8 and floats to finite ones."""
    if datatype is DataType.BOOL:
        return st.booleans()
    if datatype is DataType.BYTES:
        return st.text(max_size=5).map(str.encode) if text else st.binary(max_size=5)
    if datatype in (DataType.FP32, DataType.FP64):
        wide = datatype is DataType.FP64
        return st.floats(width=64 if wide else 32, allow_nan=False, allow_infinity=not text)
    bits = 8 * datatype.itemsize
    if datatype.value.startswith("U"):
        return st.integers(0, 2**bits - 1)
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@st.composite
def cases(draw: st.DrawFn, name: str = "x", *, text: bool = False) -> Case:
    """Draws a tensor of any data type with a plain form: scalars and empty ones included."""
    datatype = draw(st.sampled_from([*CODES, DataType.BYTES]))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    count = element_count(shape)
    values = draw(st.lists(elements(datatype, text=text), min_size=count, max_size=count))
    return Case(TensorSpec(name, datatype, shape), values, raw_bytes(datatype, values))


@st.composite
def several(draw: st.DrawFn, *, text: bool = False, most: int = 3) -> list[Case]:
    """Draws up to `most` tensors with different names."""
    names = draw(st.lists(st.text(max_size=4), max_size=most, unique=True))
    return [draw(cases(name, text=text)) for name in names]


FIELDS = {
    DataType.BOOL: "bool_contents", DataType.INT8: "int_contents", DataType.INT16: "int_contents",
    DataType.INT32: "int_contents", DataType.INT64: "int64_contents", DataType.UINT8: "uint_contents",
    DataType.UINT16: "uint_contents", DataType.UINT32: "uint_contents", DataType.UINT64: "uint64_contents",
    DataType.FP32: "fp32_contents", DataType.FP64: "fp64_contents", DataType.BYTES: "bytes_contents",
}  # fmt: skip


def message(cases: list[Case], identifier: str = "", *, typed: bool = False) -> pb.ModelInferRequest:
    """Returns a request for model "m" with these tensors, as raw or as typed contents."""
    request = pb.ModelInferRequest(model_name="m", id=identifier)
    for case in cases:
        tensor = request.inputs.add(name=case.spec.name, datatype=case.spec.datatype.value)
        tensor.shape.extend(case.spec.shape)
        if typed:
            getattr(tensor.contents, FIELDS[case.spec.datatype]).extend(case.values)
        else:
            request.raw_input_contents.append(case.raw)
    return request
