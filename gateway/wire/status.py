"""The one error table: what a kind of failure is called in HTTP and in gRPC, and how it is written.

Nothing else in the gateway knows these numbers. The table is exhaustive (checked when the module is imported, so a new
kind cannot be forgotten).
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from gateway.errors import ErrorCode, GatewayError


class Status(NamedTuple):
    """The HTTP status and the gRPC code of one kind."""

    http: int
    grpc: int


TABLE: dict[ErrorCode, Status] = {
    ErrorCode.INVALID_REQUEST: Status(400, 3),
    ErrorCode.UNAUTHENTICATED: Status(401, 16),
    ErrorCode.FORBIDDEN: Status(403, 7),
    ErrorCode.MODEL_NOT_FOUND: Status(404, 5),
    ErrorCode.PAYLOAD_TOO_LARGE: Status(413, 8),
    ErrorCode.RATE_LIMITED: Status(429, 8),
    ErrorCode.OVERLOADED: Status(503, 14),
    ErrorCode.MODEL_NOT_READY: Status(503, 14),
    ErrorCode.SHUTTING_DOWN: Status(503, 14),
    ErrorCode.DEADLINE_EXCEEDED: Status(504, 4),
    ErrorCode.CANCELLED: Status(499, 1),
    ErrorCode.BACKEND_UNREACHABLE: Status(502, 14),
    ErrorCode.BACKEND_FAILED: Status(502, 13),
    ErrorCode.UNSUPPORTED: Status(501, 12),
    ErrorCode.INTERNAL: Status(500, 13),
}

_missing = [code.name for code in ErrorCode if code not in TABLE]
if _missing:
    raise RuntimeError(f"no HTTP and gRPC status for {', '.join(_missing)}")

_LONGEST_GRPC_MESSAGE = 2048
"""Bytes of a message in a trailer, before percent-encoding: peers bound the size of their header lists."""
_PERCENT = [bytes([b]) if 0x20 <= b <= 0x7E and b != 0x25 else b"%%%02X" % b for b in range(256)]


def http_status(code: ErrorCode) -> int:
    """Returns the HTTP status of a kind."""
    return TABLE[code].http


def grpc_status(code: ErrorCode) -> int:
    """Returns the gRPC status code of a kind."""
    return TABLE[code].grpc


def http_error_body(error: GatewayError) -> bytes:
    """Returns the OIP error object: {"error": message}."""
    return error_json(error.message)


def error_json(message: str) -> bytes:
    """Returns the OIP error object for a message; what cannot be encoded (lone surrogates) is replaced."""
    try:
        return orjson.dumps({"error": message})
    except orjson.JSONEncodeError:
        return orjson.dumps({"error": message.encode("utf-8", "replace").decode()})


def retry_after_seconds(error: GatewayError) -> int | None:
    """Returns the value of Retry-After: the hint rounded up to whole seconds, at least 1; None where there is none."""
    milliseconds = error.retry_after_ms
    if milliseconds is None:
        return None
    return max(1, -(-milliseconds // 1000))


def grpc_message(message: str) -> bytes:
    """Returns `message` percent-encoded as the gRPC specification wants it in `grpc-message`, bounded in length."""
    raw = message.encode("utf-8", "replace")
    if len(raw) > _LONGEST_GRPC_MESSAGE:
        raw = raw[:_LONGEST_GRPC_MESSAGE].decode("utf-8", "ignore").encode() + b"..."
    return b"".join([_PERCENT[b] for b in raw])


def parse_grpc_message(value: bytes) -> str:
    """Returns the text of a `grpc-message` header; never fails, as the specification demands of receivers."""
    head, *parts = value.split(b"%")
    out = [head]
    for part in parts:
        try:
            out.append(bytes.fromhex(part[:2].decode("ascii")) + part[2:] if len(part) >= 2 else b"%" + part)
        except ValueError:
            out.append(b"%" + part)
    return b"".join(out).decode("utf-8", "replace")
