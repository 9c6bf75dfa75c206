"""Answers: what is in them, and whether they are the expected ones. Pure.

The expected answer of a payload is what the server said when it was asked that alone. Batching may change the last
bits of a float, so values are compared within a thousandth of the largest magnitude of the output; everything else
must be equal. Bodies already found right are remembered, which makes the usual check one look-up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.bench.payload import NUMPY
from gateway.tensors import DATATYPES, Buffer, DataType, bytes_elements

Outputs: TypeAlias = dict[str, NDArray[Any] | list[bytes]]
Decode: TypeAlias = Callable[[Buffer, int | None], Outputs]

TOLERANCE = 1e-3
_MOST_REMEMBERED = 64


def decode_rest(body: Buffer, header_length: int | None) -> Outputs:
    """Returns the outputs of a REST answer; `header_length` as its header says, None for plain JSON."""
    view = memoryview(body)
    document = orjson.loads(view if header_length is None else view[:header_length])
    offset = 0 if header_length is None else header_length
    found: Outputs = {}
    for output in document["outputs"]:
        shape = tuple(output["shape"])
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            found[output["name"]] = array_of(output["datatype"], shape, view[offset : offset + size])
            offset += size
        elif output["datatype"] == "BYTES":
            found[output["name"]] = [str(value).encode() for value in np.array(output["data"]).ravel()]
        else:
            found[output["name"]] = np.array(output["data"]).reshape(shape)
    return found


def same(expected: Outputs, found: Outputs) -> bool:
    """Returns whether `found` is the expected answer within the tolerance."""
    if expected.keys() != found.keys():
        return False
    for name, wanted in expected.items():
        got = found[name]
        if isinstance(wanted, list) or isinstance(got, list):
            if not (isinstance(wanted, list) and isinstance(got, list) and wanted == got):
                return False
            continue
        if wanted.shape != got.shape:
            return False
        if wanted.dtype.kind != "f":
            if not np.array_equal(wanted, got):
                return False
            continue
        finite = np.isfinite(wanted)
        scale = float(np.abs(wanted[finite]).max()) if finite.any() else 0.0
        if not np.allclose(wanted, got, rtol=0, atol=TOLERANCE * max(scale, 1e-6), equal_nan=True):
            return False
    return True


class Expected:
    """The expected answer of one payload."""

    __slots__ = ("_decode", "_outputs", "_right")

    def __init__(self, decode: Decode, body: Buffer, header_length: int | None) -> None:
        self._decode = decode
        self._outputs = decode(body, header_length)
        self._right = {bytes(body)}

    def matches(self, body: Buffer, header_length: int | None) -> bool:
        """Returns whether an answer's body says the same."""
        if body in self._right:
            return True
        try:
            if not same(self._outputs, self._decode(body, header_length)):
                return False
        except (ValueError, KeyError, TypeError, IndexError):
            return False
        except Exception:  # protobuf's DecodeError has no better base: whatever cannot be read is not the answer
            return False
        if len(self._right) < _MOST_REMEMBERED:
            self._right.add(bytes(body))
        return True


def array_of(datatype: str, shape: tuple[int, ...], raw: Buffer) -> NDArray[Any] | list[bytes]:
    """Returns the tensor in `raw`, OIP's raw form."""
    known = DATATYPES[datatype]
    if known is DataType.BYTES:
        return bytes_elements(raw)
    if known is DataType.BF16:
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
    return np.frombuffer(raw, NUMPY[known]).reshape(shape)
