"""InferParameter maps: read into plain values, written as bytes.

int64 and uint64 are both int here; writing chooses uint64 only for what int64 cannot hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import pack

from gateway._generated.open_inference_pb2 import InferParameter
from gateway.errors import invalid
from gateway.messages import Parameters, ParameterValue
from gateway.wire.wire_format import delimited, varint

_WORD = (1 << 64) - 1


def read_parameters(found: Mapping[str, InferParameter], owner: str) -> dict[str, ParameterValue]:
    """Returns the parameters of a request or a tensor, by name in sorted order (maps have none of their own).

    Raises:
        GatewayError: INVALID_REQUEST for a parameter without a value; `owner` says whose it is.
    """
    values: dict[str, ParameterValue] = {}
    for name in sorted(found):
        parameter = found[name]
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise invalid(f"parameter '{name[:200]}' of {owner} has no value")
        values[name] = getattr(parameter, choice)
    return values


def write_parameters(tag: int, parameters: Parameters) -> bytes:
    """Returns `parameters` as the entries of the map field with the one-byte tag `tag`."""
    return b"".join([parameter_entry(tag, name, value) for name, value in parameters.items()])


def parameter_entry(tag: int, name: str, value: ParameterValue) -> bytes:
    """Returns one entry of a parameter map field.

    Raises:
        GatewayError: INVALID_REQUEST for an integer that 64 bits cannot hold.
    """
    if isinstance(value, bool):
        content = b"\x08\x01" if value else b"\x08\x00"
    elif isinstance(value, int):
        if not -(1 << 63) <= value <= _WORD:
            raise invalid(f"parameter '{name}' does not fit 64 bits")
        content = (b"\x10" if value < 1 << 63 else b"\x28") + varint(value & _WORD)
    elif isinstance(value, str):
        content = delimited(0x1A, value.encode())
    else:
        content = b"\x21" + pack("<d", value)
    return delimited(tag, delimited(0x0A, name.encode()) + delimited(0x12, content))
