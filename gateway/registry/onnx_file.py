"""Reads what an ONNX file says of itself: inputs, outputs, opset, files it refers to.

A small reader of the protobuf wire format over a memory map, so that publishing needs no onnx package and a model of
many gigabytes costs no memory: weights are skipped, not read. It decides nothing about what the model computes.
Invariant: a damaged or hostile file gives a ValueError, never a crash, an endless loop or a large allocation.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.tensors import DataType

_TYPES = {
    1: DataType.FP32, 2: DataType.UINT8, 3: DataType.INT8, 4: DataType.UINT16, 5: DataType.INT16, 6: DataType.INT32,
    7: DataType.INT64, 8: DataType.BYTES, 9: DataType.BOOL, 10: DataType.FP16, 11: DataType.FP64,
    12: DataType.UINT32, 13: DataType.UINT64, 16: DataType.BF16,
}  # fmt: skip
_MOST_NESTING = 32
_MOST_TENSORS = 10_000

Field = tuple[int, int, int]
"""A field's number, and its value: (start, end) of a length-delimited one, (value, -1) of a number."""


@dataclass(frozen=True, slots=True)
class OnnxTensor:
    """An input or output. A dimension is a size, a name (equal names are equal sizes), or None if nothing is said."""

    name: str
    datatype: DataType
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxModel:
    """What the file says. `external` are the files (relative to the model's) that hold weights."""

    inputs: tuple[OnnxTensor, ...]
    outputs: tuple[OnnxTensor, ...]
    ir_version: int
    opset: int
    producer: str
    external: tuple[str, ...]
    domains: tuple[str, ...] = ()


def read_onnx(path: Path) -> OnnxModel:
    """Returns what the ONNX file says of itself.

    Raises:
        ValueError: it is not an ONNX model, or one that cannot be served (no inputs, a type that has no name here).
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        if file.read(1) == b"":
            raise ValueError(f"{path.name} is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return _model(content)
            except (IndexError, UnicodeDecodeError) as error:
                raise ValueError(f"{path.name} is not an ONNX model (damaged at the protobuf level)") from error
            except ValueError as error:
                raise ValueError(f"{path.name}: {error}") from error


def _model(content: mmap.mmap) -> OnnxModel:
    ir_version, producer, opset, graph = 0, "", 0, None
    domains = []
    for number, start, end in _fields(content, 0, len(content)):
        if number == 1 and end < 0:
            ir_version = start
        elif number == 2 and end >= 0:
            producer = _text(content, start, end)
        elif number == 7 and end >= 0:
            graph = (start, end)
        elif number == 8 and end >= 0:
            domain, version = _opset(content, start, end)
            domains.append(domain)
            opset = version if domain in ("", "ai.onnx") else opset
    if graph is None or ir_version == 0:
        raise ValueError("is not an ONNX model (no graph in it)")
    inputs: list[OnnxTensor] = []
    outputs: list[OnnxTensor] = []
    weights: set[str] = set()
    external: dict[str, None] = {}
    for number, start, end in _fields(content, *graph):
        if end < 0:
            continue
        if number == 1:
            _collect_external(content, start, end, 1, external, nesting=0)
        elif number == 5:
            weights.add(_tensor_proto(content, start, end, external))
        elif number in (11, 12):
            into = inputs if number == 11 else outputs
            into.append(_value(content, start, end))
            if len(into) > _MOST_TENSORS:
                raise ValueError(f"has more than {_MOST_TENSORS} inputs or outputs")
    # Old files list the weights among the inputs.
    inputs = [tensor for tensor in inputs if tensor.name not in weights]
    if not inputs or not outputs:
        raise ValueError("has no inputs or no outputs, so nothing can be asked of it")
    return OnnxModel(
        inputs=tuple(inputs), outputs=tuple(outputs), ir_version=ir_version, opset=opset, producer=producer,
        external=tuple(external), domains=tuple(domains),
    )  # fmt: skip


def _opset(content: mmap.mmap, start: int, end: int) -> tuple[str, int]:
    domain, version = "", 0
    for number, first, last in _fields(content, start, end):
        if number == 1 and last >= 0:
            domain = _text(content, first, last)
        elif number == 2 and last < 0:
            version = first
    return domain, version


def _value(content: mmap.mmap, start: int, end: int) -> OnnxTensor:
    """ValueInfoProto: name 1, type 2 -> tensor_type 1 -> elem_type 1, shape 2 -> dim 1 -> value 1 or name 2."""
    name, shape, element = "", None, 0
    for number, first, last in _fields(content, start, end):
        if number == 1 and last >= 0:
            name = _text(content, first, last)
        elif number == 2 and last >= 0:
            for kind, inner, limit in _fields(content, first, last):
                if kind != 1 or limit < 0:
                    raise ValueError(f"{name!r} is a sequence, map or optional, and only tensors can be served")
                for part, a, b in _fields(content, inner, limit):
                    if part == 1 and b < 0:
                        element = a
                    elif part == 2 and b >= 0:
                        shape = tuple(_dimension(content, c, d) for n, c, d in _fields(content, a, b) if n == 1)
    if element not in _TYPES:
        raise ValueError(f"{name!r} has the ONNX element type {element}, which has no name in the protocol")
    if shape is None:
        raise ValueError(f"{name!r} has no shape, not even its number of dimensions: run onnx's shape inference first")
    return OnnxTensor(name, _TYPES[element], shape)


def _dimension(content: mmap.mmap, start: int, end: int) -> int | str | None:
    found: int | str | None = None
    for number, first, last in _fields(content, start, end):
        if number == 1 and last < 0:
            found = first if 0 < first < 1 << 62 else None
        elif number == 2 and last >= 0:
            found = _text(content, first, last) or None
    return found


def _tensor_proto(content: mmap.mmap, start: int, end: int, external: dict[str, None]) -> str:
    """Returns a TensorProto's name and notes where its data lies: external_data 13 -> key 1, value 2."""
    name = ""
    for number, first, last in _fields(content, start, end):
        if last < 0:
            continue
        if number == 8:
            name = _text(content, first, last)
        elif number == 13:
            pair = {n: _text(content, a, b) for n, a, b in _fields(content, first, last) if b >= 0}
            if pair.get(1) == "location":
                external[pair.get(2, "")] = None
    return name


def _collect_external(
    content: mmap.mmap, start: int, end: int, kind: int, external: dict[str, None], nesting: int
) -> None:
    """Walks a NodeProto (kind 1: attributes in 5) for tensors of its attributes: t 5, tensors 10, graphs 6 and 11."""
    if nesting > _MOST_NESTING:
        raise ValueError("is nested too deeply")
    for number, first, last in _fields(content, start, end):
        if number != 5 or last < 0:
            continue
        for part, a, b in _fields(content, first, last):
            if b < 0:
                continue
            if part in (5, 10):
                _tensor_proto(content, a, b, external)
            elif part in (6, 11):
                for inner, c, d in _fields(content, a, b):
                    if inner == 1 and d >= 0:
                        _collect_external(content, c, d, 1, external, nesting + 1)
                    elif inner == 5 and d >= 0:
                        _tensor_proto(content, c, d, external)


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[Field]:
    """Yields the fields of the message in content[start:end]."""
    position = start
    while position < end:
        key, position = _varint(content, position, end)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(content, position, end)
            yield number, value, -1
        elif wire == 2:
            length, position = _varint(content, position, end)
            if length > end - position:
                raise IndexError("a field is longer than its message")
            yield number, position, position + length
            position += length
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise IndexError("an unknown wire type")
        if number == 0 or position > end:
            raise IndexError("not a field")


def _varint(content: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= end or shift > 63:
            raise IndexError("a number without end")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _text(content: mmap.mmap, start: int, end: int) -> str:
    if end - start > 4096:
        raise IndexError("a name that is too long")
    return content[start:end].decode()
