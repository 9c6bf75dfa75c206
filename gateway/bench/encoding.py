"""Requests as bytes, ready to be sent again and again: REST with JSON and with binary tensors, gRPC's frame. Pure.

Written apart from the gateway's own codecs, so that a mistake of theirs cannot hide here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import orjson

from gateway.bench.payload import Tensor
from gateway.tensors import DataType

PROTOCOLS = ("grpc", "rest_json", "rest_binary")
GRPC_PATH = b"/inference.GRPCInferenceService/"
HEADER_LENGTH = "Inference-Header-Content-Length"


def grpc_frame(message: bytes) -> bytes:
    """Returns a message with gRPC's five-byte prefix."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def grpc_headers(authority: str, method: str, deadline_ms: int | None = None) -> tuple[tuple[bytes, bytes], ...]:
    """Returns the header list of a unary call; `deadline_ms` becomes `grpc-timeout`."""
    headers = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", GRPC_PATH + method.encode()),
        (b":authority", authority.encode()), (b"content-type", b"application/grpc"), (b"te", b"trailers"),
    ]  # fmt: skip
    if deadline_ms is not None:
        headers.append((b"grpc-timeout", f"{deadline_ms}m".encode()))
    return tuple(headers)


def infer_path(model: str, version: str) -> str:
    """Returns the REST path of an inference; `version` may be empty."""
    place = f"/v2/models/{quote(model, safe='')}"
    return f"{place}/versions/{quote(version, safe='')}/infer" if version else f"{place}/infer"


def rest_json_body(tensors: Sequence[Tensor], deadline_ms: int | None = None) -> bytes:
    """Returns an inference request with its tensors as JSON. Raises ValueError for FP16 and BF16, which have none."""
    inputs = []
    for tensor in tensors:
        if tensor.spec.datatype in (DataType.FP16, DataType.BF16):
            raise ValueError(f"{tensor.spec.datatype.value} has no JSON form: use rest_binary or grpc")
        inputs.append(_head(tensor) | {"data": tensor.values})
    return orjson.dumps({"inputs": inputs, **_parameters(deadline_ms)})


def rest_binary_body(
    tensors: Sequence[Tensor], outputs: Sequence[str], deadline_ms: int | None = None
) -> tuple[bytes, int]:
    """Returns the body of an inference request in the binary tensor extension, and the length of its JSON header."""
    head = orjson.dumps(
        {
            "inputs": [_head(tensor) | {"parameters": {"binary_data_size": len(tensor.raw)}} for tensor in tensors],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
            **_parameters(deadline_ms),
        }
    )
    return b"".join([head, *(tensor.raw for tensor in tensors)]), len(head)


def http_request(authority: str, path: str, body: bytes, header_length: int | None = None) -> tuple[bytes, ...]:
    """Returns one HTTP/1.1 POST as pieces to write; small ones are one piece."""
    kind = "application/json" if header_length is None else "application/octet-stream"
    more = "" if header_length is None else f"{HEADER_LENGTH}: {header_length}\r\n"
    start = f"POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: {kind}\r\n"
    head = f"{start}{more}Content-Length: {len(body)}\r\n\r\n".encode()
    return (head + body,) if len(body) <= 65_536 else (head, body)


def _head(tensor: Tensor) -> dict[str, Any]:
    spec = tensor.spec
    return {"name": spec.name, "datatype": spec.datatype.value, "shape": list(spec.shape)}


def _parameters(deadline_ms: int | None) -> dict[str, Any]:
    return {} if deadline_ms is None else {"parameters": {"timeout": deadline_ms * 1000}}
