"""Triton model configurations: built as one nested value, written as JSON (over the API) or as config.pbtxt (on disk).

Invariant: both spellings come from the same value, so a model behaves alike whichever way it reaches Triton.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.tensors import DataType


class EnumName(str):
    """The name of a protobuf enum value: quoted in JSON, bare in text format."""

    __slots__ = ()


def triton_datatype(datatype: DataType) -> EnumName:
    """Returns Triton's configuration spelling: FP32 is TYPE_FP32, BYTES is TYPE_STRING."""
    return EnumName("TYPE_STRING" if datatype is DataType.BYTES else f"TYPE_{datatype.value}")


def to_json(config: Mapping[str, Any]) -> str:
    """Returns `config` as the JSON that RepositoryModelLoad takes."""
    return json.dumps(config, ensure_ascii=False)


def to_text(config: Mapping[str, Any]) -> str:
    """Returns `config` in protobuf text format, as config.pbtxt. The value at "parameters" is a protobuf map."""
    return "".join(_field(key, value, "") for key, value in config.items())


def _field(key: str, value: Any, indent: str) -> str:
    if isinstance(value, Mapping):
        if key == "parameters":
            return "".join(_message(key, {"key": k, "value": v}, indent) for k, v in value.items())
        return _message(key, value, indent)
    if isinstance(value, list | tuple):
        return "".join(_field(key, item, indent) for item in value)
    return f"{indent}{key}: {_scalar(value)}\n"


def _message(key: str, value: Mapping[str, Any], indent: str) -> str:
    inner = "".join(_field(k, v, indent + "  ") for k, v in value.items())
    return f"{indent}{key} {{\n{inner}{indent}}}\n"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, EnumName):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    return repr(value)


def _quoted(text: str) -> str:
    """Returns a text-format string: bytes outside printable ASCII as octal escapes, so that any name survives."""
    pieces = []
    for byte in text.encode():
        if byte in b'"\\':
            pieces.append("\\" + chr(byte))
        elif 32 <= byte < 127:
            pieces.append(chr(byte))
        else:
            pieces.append(f"\\{byte:03o}")
    return '"' + "".join(pieces) + '"'
