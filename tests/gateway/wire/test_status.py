"""The one error table, against the table of the design."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorCode, GatewayError
from gateway.wire.status import (
    TABLE,
    error_json,
    grpc_message,
    grpc_status,
    http_error_body,
    http_status,
    parse_grpc_message,
    retry_after_seconds,
)

DESIGN = {
    "INVALID_REQUEST": (400, 3),
    "UNAUTHENTICATED": (401, 16),
    "FORBIDDEN": (403, 7),
    "MODEL_NOT_FOUND": (404, 5),
    "PAYLOAD_TOO_LARGE": (413, 8),
    "RATE_LIMITED": (429, 8),
    "OVERLOADED": (503, 14),
    "MODEL_NOT_READY": (503, 14),
    "SHUTTING_DOWN": (503, 14),
    "DEADLINE_EXCEEDED": (504, 4),
    "CANCELLED": (499, 1),
    "BACKEND_UNREACHABLE": (502, 14),
    "BACKEND_FAILED": (502, 13),
    "UNSUPPORTED": (501, 12),
    "INTERNAL": (500, 13),
}


def test_the_table_is_exhaustive() -> None:
    assert set(TABLE) == set(ErrorCode)
    assert {code.name for code in ErrorCode} == set(DESIGN)


@pytest.mark.parametrize("code", ErrorCode)
def test_the_table_is_the_designs(code: ErrorCode) -> None:
    assert (http_status(code), grpc_status(code)) == DESIGN[code.name]


def test_error_body() -> None:
    assert orjson.loads(http_error_body(GatewayError(ErrorCode.INTERNAL, 'a "quoted" ü'))) == {"error": 'a "quoted" ü'}
    assert orjson.loads(error_json("lone \ud800")) == {"error": "lone ?"}


@pytest.mark.parametrize(("milliseconds", "seconds"), [(None, None), (0, 1), (1000, 1), (1001, 2), (90_000, 90)])
def test_retry_after(milliseconds: int | None, seconds: int | None) -> None:
    assert retry_after_seconds(GatewayError(ErrorCode.OVERLOADED, "", retry_after_ms=milliseconds)) == seconds


def test_grpc_message_is_percent_encoded() -> None:
    assert grpc_message("50% of\nü") == b"50%25 of%0A%C3%BC"


@given(st.text(max_size=100))
def test_grpc_message_round_trip(text: str) -> None:
    encoded = grpc_message(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert parse_grpc_message(encoded) == text


def test_grpc_message_is_bounded() -> None:
    assert len(grpc_message("ü" * 10_000)) <= 3 * 2048 + 3
    assert parse_grpc_message(grpc_message("ü" * 10_000)).endswith("ü...")


@given(st.binary(max_size=40))
def test_any_grpc_message_can_be_read(value: bytes) -> None:
    assert isinstance(parse_grpc_message(value), str)
    assert parse_grpc_message(b"a%zz%4") == "a%zz%4"
