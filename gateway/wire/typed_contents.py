"""Typed tensor contents (InferTensorContents) become raw bytes, because inside the gateway tensors are always raw.

Every element must be in the one field that belongs to the tensor's data type, there must be as many as the shape says,
and each must fit; nothing is truncated or guessed.
"""

from __future__ import annotations

from struct import error as StructError  # noqa: N812
from struct import pack

from gateway._generated.open_inference_pb2 import InferTensorContents
from gateway.errors import GatewayError, invalid
from gateway.tensors import DataType, TensorSpec, element_count

_SHOWN = 200
_FIELDS: dict[DataType, tuple[str, str]] = {
    DataType.BOOL: ("bool_contents", ""),
    DataType.INT8: ("int_contents", "b"),
    DataType.INT16: ("int_contents", "h"),
    DataType.INT32: ("int_contents", "i"),
    DataType.INT64: ("int64_contents", "q"),
    DataType.UINT8: ("uint_contents", "B"),
    DataType.UINT16: ("uint_contents", "H"),
    DataType.UINT32: ("uint_contents", "I"),
    DataType.UINT64: ("uint64_contents", "Q"),
    DataType.FP32: ("fp32_contents", ""),
    DataType.FP64: ("fp64_contents", ""),
    DataType.BYTES: ("bytes_contents", ""),
}
"""Data type to its field and the struct code of an element ("": the packed field has the raw form already)."""


def raw_contents(spec: TensorSpec, contents: InferTensorContents, kind: str = "input") -> bytes:
    """Returns the raw little-endian bytes of a tensor's typed contents.

    Raises:
        GatewayError: INVALID_REQUEST naming the tensor: elements in a foreign field, too few or too many, out of range.
    """
    owner = f"{kind} '{spec.name[:_SHOWN]}'"
    known = _FIELDS.get(spec.datatype)
    if known is None:
        raise invalid(f"{owner}: {spec.datatype.value} has no typed contents; send its data as raw contents")
    field, code = known
    for descriptor, _ in contents.ListFields():
        if descriptor.name != field:
            raise invalid(f"{owner} has data in {descriptor.name}, but {spec.datatype.value} belongs in {field}")
    values = getattr(contents, field)
    count = len(values)
    expected = element_count(spec.shape)
    if count != expected:
        raise _wrong_count(owner, count, expected)
    if not count:
        return b""
    if code:
        try:
            return pack(f"<{count}{code}", *values)
        except StructError:
            raise invalid(f"{owner} has elements that do not fit {spec.datatype.value}") from None
    if spec.datatype is DataType.BYTES:
        return b"".join([part for value in values for part in (len(value).to_bytes(4, "little"), value)])
    width = spec.datatype.itemsize
    packed: bytes = contents.SerializeToString()
    return packed[-count * width :]


def _wrong_count(owner: str, count: int, expected: int) -> GatewayError:
    wanted = str(expected) if expected < 1 << 63 else "far more"
    return invalid(f"{owner} has {count} elements, but its shape needs {wanted}")
