"""Tensor data in JSON becomes raw bytes and back.

In: nested lists that match the shape, or one flat list. An element must be what its data type says (Triton refuses the
others too): no floats or booleans for integers, nothing out of range. NaN and Infinity are read for FP32 and FP64.

Out: one flat list, floats in the shortest form that reads back to the same value. Non-finite floats are written as the
tokens NaN, Infinity and -Infinity, which is what Triton writes and what most clients' parsers (Python's json among
them) read: a strict parser fails loudly instead of taking null for a number. FP16 and BF16 have no JSON form, as in
Triton. The binary form is safe for everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Any

import numpy as np
import orjson

from gateway.errors import ErrorCode, GatewayError, invalid
from gateway.tensors import Buffer, DataType, TensorSpec, bytes_elements, element_count

_CODES = {
    DataType.INT8: "b", DataType.INT16: "h", DataType.INT32: "i", DataType.INT64: "q",
    DataType.UINT8: "B", DataType.UINT16: "H", DataType.UINT32: "I", DataType.UINT64: "Q",
    DataType.FP32: "f", DataType.FP64: "d", DataType.BOOL: "?",
}  # fmt: skip
_FLOATS = (DataType.FP32, DataType.FP64)
_INTEGERS_ONLY = {int}
_NUMBERS = ({int}, {float}, {int, float})
_BOOLEANS_ONLY = {bool}
_STRINGS_ONLY = {str}
_NUMPY = {datatype: np.dtype(code if code == "?" else f"<{code}") for datatype, code in _CODES.items()}
_SHOWN = 200
_STRUCTS = 512
_structs: dict[tuple[int, str], Struct] = {}


def packer(datatype: DataType, count: int) -> Callable[..., bytes]:
    """Returns what packs `count` numbers of a numeric data type; remembered (bounded)."""
    key = (count, _CODES[datatype])
    known = _structs.get(key)
    if known is None:
        if len(_structs) >= _STRUCTS:
            _structs.clear()
        known = _structs[key] = Struct(f"<{count}{key[1]}")
    return known.pack


def raw_from_json(spec: TensorSpec, data: object) -> bytes:
    """Returns the raw little-endian bytes of JSON data.

    Raises:
        GatewayError: INVALID_REQUEST naming the input and what is wrong: shape, element type, range, data type.
    """
    datatype = spec.datatype
    code = _CODES.get(datatype)
    if code is None and datatype is not DataType.BYTES:
        raise invalid(f"input '{spec.name[:_SHOWN]}': {datatype.value} has no JSON form; send its data in binary form")
    flat = _flat(spec, data)
    if not flat:
        return b""
    types = set(map(type, flat))
    if datatype is DataType.BYTES:
        if types != _STRINGS_ONLY:
            raise _wrong_type(spec, "strings")
        return _length_prefixed(flat)
    if datatype in _FLOATS:
        if types not in _NUMBERS:
            raise _wrong_type(spec, "numbers")
    elif datatype is DataType.BOOL:
        if types != _BOOLEANS_ONLY:
            raise _wrong_type(spec, "true or false")
    elif types != _INTEGERS_ONLY:
        raise _wrong_type(spec, "integers")
    try:
        return packer(datatype, len(flat))(*flat)
    except (StructError, OverflowError):
        raise invalid(f"input '{spec.name[:_SHOWN]}' has elements that do not fit {datatype.value}") from None


def _length_prefixed(texts: list[Any]) -> bytes:
    parts: list[bytes] = []
    for text in texts:
        element = text.encode()
        parts += (len(element).to_bytes(4, "little"), element)
    return b"".join(parts)


def _flat(spec: TensorSpec, data: object) -> list[Any]:
    """Returns the elements as one list of as many as the shape says."""
    shape = spec.shape
    if type(data) is not list:
        if shape:
            raise invalid(f"input '{spec.name[:_SHOWN]}': 'data' must be an array")
        return [data]
    count = element_count(shape)
    if (data and type(data[0]) is list) or (not data and count):
        return _nested(spec, data)
    if len(data) != count:
        raise invalid(f"input '{spec.name[:_SHOWN]}' has {len(data)} elements, but its shape needs {_number(count)}")
    return data


def _nested(spec: TensorSpec, data: list[Any]) -> list[Any]:
    level: list[Any] = data
    expected = 1
    for axis, dimension in enumerate(spec.shape):
        expected *= dimension
        if axis:
            if set(map(type, level)) - {list} or set(map(len, level)) - {dimension}:
                raise _wrong_shape(spec, axis)
            level = list(chain.from_iterable(level))
        if len(level) != expected:
            raise _wrong_shape(spec, axis)
        if not level:
            break
    if level and type(level[0]) is list:
        raise _wrong_shape(spec, len(spec.shape))
    return level


def _wrong_shape(spec: TensorSpec, axis: int) -> GatewayError:
    return invalid(
        f"input '{spec.name[:_SHOWN]}': the nesting of 'data' does not match the shape "
        f"[{', '.join(map(_number, spec.shape[:64]))}] at dimension {axis}"
    )


def _wrong_type(spec: TensorSpec, wanted: str) -> GatewayError:
    return invalid(f"input '{spec.name[:_SHOWN]}' of type {spec.datatype.value} must contain {wanted} only")


def _number(value: int) -> str:
    return str(value) if value < 1 << 64 else "(huge)"


def json_writer(spec: TensorSpec) -> Callable[[Buffer], bytes]:
    """Returns what turns raw data of `spec` into the text of a flat JSON array.

    The returned function raises:
        GatewayError: INVALID_REQUEST where the data has no JSON form (FP16, BF16, BYTES that are not UTF-8): the caller
            should ask for the binary form; BACKEND_FAILED when the data does not fit the data type.
    """
    datatype = spec.datatype
    if datatype is DataType.BYTES:
        return lambda raw: _json_strings(spec, raw)
    dtype = _NUMPY.get(datatype)
    if dtype is None:
        return lambda raw: _no_json(spec)
    if datatype in _FLOATS:
        return lambda raw: _json_floats(spec, dtype, raw)
    return lambda raw: orjson.dumps(_array(spec, dtype, raw), option=orjson.OPT_SERIALIZE_NUMPY)


def json_from_raw(spec: TensorSpec, raw: Buffer) -> bytes:
    """Returns raw data as the text of a flat JSON array; raises as `json_writer` says."""
    return json_writer(spec)(raw)


def _array(spec: TensorSpec, dtype: np.dtype[Any], raw: Buffer) -> np.ndarray[Any, Any]:
    try:
        return np.frombuffer(raw, dtype)
    except ValueError:
        raise _broken(spec) from None


def _json_floats(spec: TensorSpec, dtype: np.dtype[Any], raw: Buffer) -> bytes:
    array = _array(spec, dtype, raw)
    text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    return _with_tokens(text, array.tolist()) if b"n" in text else text


def _no_json(spec: TensorSpec) -> bytes:
    raise no_json_form(spec.name)


def no_json_form(output: str) -> GatewayError:
    """Returns the refusal of an output of a data type that cannot be written as JSON."""
    return invalid(
        f"output '{output[:_SHOWN]}' is of a data type (FP16, BF16) without JSON form; ask for it in binary form"
    )


def _with_tokens(text: bytes, values: list[float]) -> bytes:
    """Returns `text` with each null replaced by the token of the non-finite value that it stands for."""
    first, *rest = text.split(b"null")
    parts = [first]
    odd = [value for value in values if not math.isfinite(value)]
    for value, after in zip(odd, rest, strict=True):
        parts += (b"NaN" if math.isnan(value) else b"Infinity" if value > 0 else b"-Infinity", after)
    return b"".join(parts)


def _json_strings(spec: TensorSpec, raw: Buffer) -> bytes:
    try:
        elements = bytes_elements(raw)
    except ValueError:
        raise _broken(spec) from None
    try:
        return orjson.dumps([element.decode() for element in elements])
    except UnicodeDecodeError:
        raise invalid(
            f"output '{spec.name[:_SHOWN]}' holds bytes that are not UTF-8 text; ask for it in binary form"
        ) from None


def _broken(spec: TensorSpec) -> GatewayError:
    return GatewayError(
        ErrorCode.BACKEND_FAILED, f"output '{spec.name[:_SHOWN]}' has data that is not {spec.datatype.value}"
    )
