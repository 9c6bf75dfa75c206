"""What a demo command says to the gateway and hears back, whichever protocol carries it.

Invariants: every failure is a `DemoError` with one sentence for the user and the command's exit code; arrays that come
back have the shape the gateway named.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BAD_INPUT, UNREACHABLE, REFUSED = 2, 3, 4
"""Exit codes: the user's mistake, no gateway there, the gateway answered an error."""

TIMEOUT_S = 60.0
DEFAULT_ADDRESS = {"rest": "127.0.0.1:8000", "grpc": "127.0.0.1:8001"}
_DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_DATATYPES = {np.dtype(dtype): datatype for datatype, dtype in _DTYPES.items()}


class DemoError(Exception):
    """A command cannot go on; `code` is its exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """The version that answered, and its outputs; a BYTES output is an array of `bytes` objects."""

    model_version: str
    outputs: Mapping[str, Array]


class InferClient(Protocol):
    """Sends one inference request; `class_counts` asks for an output's best classes instead of its values."""

    def infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str], class_counts: Mapping[str, int]
    ) -> Answer: ...

    def close(self) -> None: ...


def connect(arguments: argparse.Namespace) -> InferClient:
    """Returns the client that `--protocol` and `--url` ask for. Raises DemoError."""
    protocol: str = arguments.protocol
    host, port = parse_address(arguments.url or DEFAULT_ADDRESS[protocol])
    if protocol == "grpc":
        try:
            from gateway.demo.grpc_client import GrpcClient
        except ModuleNotFoundError as error:
            raise DemoError(BAD_INPUT, "gRPC needs the grpcio package: pip install 'sluice[grpcio]'") from error
        return GrpcClient(host, port)
    from gateway.demo.rest_client import RestClient

    return RestClient(host, port)


def parse_address(url: str) -> tuple[str, int]:
    """Returns host and port of `host:port`, `http://host:port` or `grpc://host:port`. Raises DemoError."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme not in ("http", "grpc"):
        raise DemoError(BAD_INPUT, f"--url {url}: the demo speaks http:// and grpc://, not {scheme}://")
    address = (rest if separator else url).rstrip("/")
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise DemoError(BAD_INPUT, f"--url {url}: write host:port, such as {DEFAULT_ADDRESS['rest']}")
    return host, int(port)


def unreachable(host: str, port: int, error: OSError) -> DemoError:
    """Returns the error for a gateway that cannot be reached."""
    reason = f"no answer within {TIMEOUT_S:.0f} s" if isinstance(error, TimeoutError) else error.strerror or str(error)
    return DemoError(
        UNREACHABLE,
        f"no gateway at {host}:{port} ({reason}): start one with `make demo`, or name its address with --url",
    )


def refused(model: str, status: str, message: str, *, missing: bool) -> DemoError:
    """Returns the error for an answer that is one; `missing` when the gateway does not know the model."""
    hint = f" (is it serving the demo models? `make demo` serves {model})" if missing else ""
    return DemoError(REFUSED, f"the gateway answered {status}: {message or 'no reason given'}{hint}")


def datatype_of(array: Array) -> str:
    """Returns the OIP datatype of a numeric array."""
    return _DATATYPES[array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype]


def decode_raw(datatype: str, shape: Sequence[int], raw: bytes) -> Array:
    """Returns the array in raw little-endian bytes. Raises ValueError if they do not fit."""
    if datatype == "BYTES":
        elements, offset = [], 0
        while offset < len(raw):
            if offset + 4 > len(raw):
                raise ValueError("a BYTES element is cut off")
            (size,) = struct.unpack_from("<I", raw, offset)
            offset += 4 + size
            if offset > len(raw):
                raise ValueError("a BYTES element is cut off")
            elements.append(raw[offset - size : offset])
        return np.array(elements, dtype=np.object_).reshape(tuple(shape))
    if datatype not in _DTYPES:
        raise ValueError(f"datatype {datatype!r} is not known here")
    return np.frombuffer(raw, dtype=_DTYPES[datatype]).reshape(tuple(shape))
