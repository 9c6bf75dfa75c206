"""Addresses and raw tensors: what both protocols of the demo clients share."""

from __future__ import annotations

import pytest

from gateway.demo.client import DemoError, decode_raw, parse_address


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("localhost:8000", ("localhost", 8000)),
        ("http://10.0.0.1:80/", ("10.0.0.1", 80)),
        ("grpc://[::1]:8001", ("::1", 8001)),
    ],
)
def test_addresses(url: str, found: tuple[str, int]) -> None:
    assert parse_address(url) == found


@pytest.mark.parametrize("url", ["", ":1", "host:", "host:0", "host:65536", "host:x", "ftp://host:1"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(DemoError, match="--url"):
        parse_address(url)


@pytest.mark.parametrize("raw", [b"\x01", b"\x05\x00\x00\x00ab"])
def test_cut_off_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        decode_raw("BYTES", [1], raw)
