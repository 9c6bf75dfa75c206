"""gRPC's framing of unary messages: the five-byte prefix, compression, `grpc-timeout`, the header lists.

A unary body is exactly one frame: a flag (1 = compressed), four bytes of big-endian length, the message. Everything
else is refused with a GatewayError; what a compressed message may grow to is bounded.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TypeAlias

from gateway.errors import ErrorCode, GatewayError, invalid
from gateway.messages import Nanos
from gateway.tensors import Buffer
from gateway.wire.status import grpc_message, grpc_status

HeaderList: TypeAlias = list[tuple[bytes, bytes]]

PREFIX_BYTES = 5
LARGEST_MESSAGE = (1 << 32) - 1
_PREFIX = Struct(">BI")
_IDENTITY = (b"", b"identity")
_WINDOW = {b"gzip": 31, b"deflate": 15}

ACCEPT_ENCODING = b"identity,gzip,deflate"
RESPONSE_HEADERS: HeaderList = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", ACCEPT_ENCODING),
]
"""What every answer with a message starts with. Shared: never change it."""
OK_TRAILERS: HeaderList = [(b"grpc-status", b"0")]
"""What every successful answer ends with. Shared: never change it."""


def unframe(body: Buffer, encoding: bytes = b"", max_bytes: int = LARGEST_MESSAGE) -> memoryview:
    """Returns the one message of a unary body, as a view of it unless it was compressed.

    `encoding` is the value of `grpc-encoding`; `max_bytes` bounds the decompressed size.

    Raises:
        GatewayError: INVALID_REQUEST when the body is not exactly one frame or does not decompress, PAYLOAD_TOO_LARGE
            when it would grow beyond `max_bytes`, UNSUPPORTED for an unknown encoding.
    """
    size = len(body)
    if size < PREFIX_BYTES:
        raise invalid(f"the gRPC message is cut short: {size} bytes cannot hold its prefix")
    flag, length = _PREFIX.unpack_from(body)
    if length != size - PREFIX_BYTES:
        if length > size - PREFIX_BYTES:
            raise invalid(f"the gRPC message is cut short: {length} bytes announced, {size - PREFIX_BYTES} sent")
        raise invalid("a unary call must carry exactly one message")
    message = memoryview(body)[PREFIX_BYTES:]
    if flag == 0:
        return message
    if flag != 1:
        raise invalid(f"the gRPC message prefix has an unknown flag {flag}")
    return _decompress(message, encoding.strip().lower(), max_bytes)


def _decompress(message: memoryview, encoding: bytes, max_bytes: int) -> memoryview:
    if encoding in _IDENTITY:
        raise invalid("the gRPC message is marked as compressed, but grpc-encoding names no compression")
    window = _WINDOW.get(encoding)
    if window is None:
        name = encoding[:32].decode("ascii", "replace")
        raise GatewayError(ErrorCode.UNSUPPORTED, f"grpc-encoding '{name}' is not supported: use gzip or deflate")
    inflater = zlib.decompressobj(window)
    try:
        plain = inflater.decompress(message, min(max_bytes + 1, LARGEST_MESSAGE))
    except zlib.error:
        raise invalid(f"the gRPC message is not valid {encoding.decode()} data") from None
    if len(plain) > max_bytes or inflater.unconsumed_tail:
        raise GatewayError(
            ErrorCode.PAYLOAD_TOO_LARGE, f"the gRPC message is larger than {max_bytes} bytes when decompressed"
        )
    if not inflater.eof or inflater.unused_data:
        raise invalid(f"the gRPC message is not exactly one {encoding.decode()} stream")
    return memoryview(plain)


def frame_prefix(length: int) -> bytes:
    """Returns the five bytes that precede an uncompressed message of `length` bytes."""
    return _PREFIX.pack(0, length)


def prefix(size: int) -> bytes:
    """Returns what goes before a message of `size` bytes."""
    return _PREFIX.pack(0, size)


def frame(message: bytes) -> bytes:
    """Returns `message` as a body; for the small messages of the control plane."""
    return prefix(len(message)) + message


_UNITS = {
    0x48: 3_600_000_000_000,  # H
    0x4D: 60_000_000_000,  # M
    0x53: 1_000_000_000,  # S
    0x6D: 1_000_000,  # m
    0x75: 1_000,  # u
    0x6E: 1,  # n
}


def parse_timeout(value: bytes) -> Nanos:
    """Returns the span of a `grpc-timeout` header: one to eight digits and a unit (H, M, S, m, u, n).

    Raises:
        GatewayError: INVALID_REQUEST for anything else.
    """
    digits = value[:-1]
    if not 1 <= len(digits) <= 8 or not digits.isdigit() or value[-1] not in _UNITS:
        raise invalid("grpc-timeout must be one to eight digits and one of H, M, S, m, u, n")
    return int(digits) * _UNITS[value[-1]]


def format_timeout(span: Nanos) -> bytes:
    """Returns a `grpc-timeout` for `span`: the finest unit that fits eight digits, rounded up, never negative."""
    span = max(span, 0)
    for unit, nanos in ((b"n", 1), (b"u", 1_000), (b"m", 1_000_000), (b"S", 1_000_000_000)):
        count = -(-span // nanos)
        if count < 100_000_000:
            return b"%d%s" % (count, unit)
    return b"99999999S"


def error_trailers(error: GatewayError) -> HeaderList:
    """Returns the trailers of a call that failed."""
    return [
        (b"grpc-status", b"%d" % grpc_status(error.code)),
        (b"grpc-message", grpc_message(error.message)),
    ]


def error_headers(error: GatewayError) -> HeaderList:
    """Returns the header list of an answer that is nothing but a failure (a "trailers-only" response)."""
    return [(b":status", b"200"), (b"content-type", b"application/grpc"), *error_trailers(error)]
