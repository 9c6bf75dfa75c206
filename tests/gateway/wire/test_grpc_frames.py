"""gRPC framing: exactly one message, bounded decompression, timeouts."""

from __future__ import annotations

import contextlib
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorCode, GatewayError
from gateway.wire.grpc_frames import (
    error_headers,
    error_trailers,
    format_timeout,
    frame,
    frame_prefix,
    parse_timeout,
    unframe,
)


@given(st.binary(max_size=300))
def test_round_trip(message: bytes) -> None:
    assert bytes(unframe(frame(message))) == message
    assert frame(message) == frame_prefix(len(message)) + message


@given(st.binary(max_size=300), st.sampled_from([("gzip", gzip.compress), ("deflate", zlib.compress)]))
def test_compressed(message: bytes, form: tuple[str, object]) -> None:
    name, compress = form
    packed: bytes = compress(message)  # type: ignore[operator]
    body = b"\1" + len(packed).to_bytes(4, "big") + packed
    assert bytes(unframe(body, name.encode())) == message
    assert bytes(unframe(body, name.upper().encode(), len(message))) == message


def compressed(packed: bytes) -> bytes:
    return b"\1" + len(packed).to_bytes(4, "big") + packed


BOMB = compressed(gzip.compress(bytes(1_000_000), mtime=0))
REFUSED = [
    (b"", b"", ErrorCode.INVALID_REQUEST),
    (b"\0\0\0\0", b"", ErrorCode.INVALID_REQUEST),
    (b"\0\0\0\0\2a", b"", ErrorCode.INVALID_REQUEST),
    (b"\0\0\0\0\1ab", b"", ErrorCode.INVALID_REQUEST),
    (b"\2\0\0\0\1a", b"", ErrorCode.INVALID_REQUEST),
    (frame(b"a") + frame(b"b"), b"", ErrorCode.INVALID_REQUEST),
    (compressed(b"a"), b"", ErrorCode.INVALID_REQUEST),
    (compressed(b"a"), b"identity", ErrorCode.INVALID_REQUEST),
    (compressed(b"a"), b"snappy", ErrorCode.UNSUPPORTED),
    (compressed(b"a"), b"\xff" * 100, ErrorCode.UNSUPPORTED),
    (compressed(b"not gzip"), b"gzip", ErrorCode.INVALID_REQUEST),
    (compressed(gzip.compress(b"abc", mtime=0)[:-1]), b"gzip", ErrorCode.INVALID_REQUEST),
    (compressed(gzip.compress(b"abc", mtime=0) + b"x"), b"gzip", ErrorCode.INVALID_REQUEST),
    (BOMB, b"gzip", ErrorCode.PAYLOAD_TOO_LARGE),
]


@pytest.mark.parametrize(("body", "encoding", "code"), REFUSED)
def test_refused(body: bytes, encoding: bytes, code: ErrorCode) -> None:
    with pytest.raises(GatewayError) as caught:
        unframe(body, encoding, 999_999)
    assert caught.value.code is code


def test_the_bound_is_inclusive() -> None:
    assert len(unframe(BOMB, b"gzip", 1_000_000)) == 1_000_000


@given(st.binary(max_size=60), st.sampled_from([b"", b"gzip", b"deflate", b"x"]))
def test_nothing_but_gateway_errors(body: bytes, encoding: bytes) -> None:
    with contextlib.suppress(GatewayError):
        assert len(unframe(body, encoding, 100)) <= 100


@pytest.mark.parametrize(
    ("value", "nanos"),
    [
        (b"100m", 100_000_000),
        (b"1H", 3_600_000_000_000),
        (b"2M", 120_000_000_000),
        (b"3S", 3_000_000_000),
        (b"4u", 4_000),
        (b"99999999n", 99_999_999),
        (b"0n", 0),
    ],
)
def test_timeout(value: bytes, nanos: int) -> None:
    assert parse_timeout(value) == nanos


@pytest.mark.parametrize("value", [b"", b"m", b"10", b"1s", b"-1m", b"1.5S", b"999999999n", b" 1m", b"1m ", b"\xb2m"])
def test_wrong_timeout(value: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        parse_timeout(value)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@given(st.integers(min_value=-5, max_value=99_999_999 * 10**9))
def test_formatted_timeouts_are_never_shorter(span: int) -> None:
    found = parse_timeout(format_timeout(span))
    assert found >= span
    assert found <= max(span, 0) * 1.0001 + 1


def test_error_lists() -> None:
    error = GatewayError(ErrorCode.OVERLOADED, "queue full: 100%")
    assert error_trailers(error) == [(b"grpc-status", b"14"), (b"grpc-message", b"queue full: 100%25")]
    assert error_headers(error)[:2] == [(b":status", b"200"), (b"content-type", b"application/grpc")]
    assert error_headers(error)[2:] == error_trailers(error)
