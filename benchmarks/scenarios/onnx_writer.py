"""Writes ONNX graphs with numpy alone: the few protobuf fields that matter, by hand (numbers from onnx.proto3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 17
_IR_VERSION = 8
_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    pieces = bytearray()
    while number > 0x7F:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    pieces.append(number)
    return bytes(pieces)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _block(field: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _attribute(name: str, value: int | float | Sequence[int]) -> bytes:
    if isinstance(value, float):
        return _block(1, name) + _varint(2 << 3 | 5) + np.float32(value).tobytes() + _integer(20, 1)
    if isinstance(value, int):
        return _block(1, name) + _integer(3, value) + _integer(20, 2)
    return _block(1, name) + b"".join(_integer(8, number) for number in value) + _integer(20, 7)


class Graph:
    """A graph under construction: every method that adds a node returns the name of its output."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._weights: list[bytes] = []
        self._edges: list[bytes] = []
        self._count = 0

    def input(self, name: str, datatype: str, shape: Sequence[int | str]) -> str:
        """Declares an input; a dimension that is a text is open."""
        self._edges.append(_block(11, _value_info(name, datatype, shape)))
        return name

    def output(self, name: str, shape: Sequence[int | str], datatype: str = "float32") -> None:
        """Declares an output; a node must be named so."""
        self._edges.append(_block(12, _value_info(name, datatype, shape)))

    def weight(self, values: NDArray[Any]) -> str:
        """Adds a constant."""
        name = self._fresh("w")
        dims = b"".join(_integer(1, size) for size in values.shape)
        data = values.astype(values.dtype.newbyteorder("<")).tobytes()
        self._weights.append(
            _block(5, dims + _integer(2, _TYPES[values.dtype.name]) + _block(8, name) + _block(9, data))
        )
        return name

    def node(self, operator: str, *inputs: str, name: str = "", **attributes: int | float | Sequence[int]) -> str:
        """Adds a node with one output."""
        result = name or self._fresh("t")
        parts = [_block(1, entry) for entry in inputs] + [_block(2, result), _block(3, result), _block(4, operator)]
        parts += [_block(5, _attribute(key, value)) for key, value in attributes.items()]
        self._nodes.append(_block(1, b"".join(parts)))
        return result

    def serialize(self) -> bytes:
        """Returns the ModelProto."""
        graph = b"".join([*self._nodes, _block(2, self._name), *self._weights, *self._edges])
        opset = _block(8, _block(1, "") + _integer(2, OPSET))
        return _integer(1, _IR_VERSION) + _block(2, "sluice") + _block(7, graph) + opset

    def _fresh(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"


def _value_info(name: str, datatype: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_block(1, _block(2, d) if isinstance(d, str) else _integer(1, d)) for d in shape)
    return _block(1, name) + _block(2, _block(1, _integer(1, _TYPES[datatype]) + _block(2, dims)))
