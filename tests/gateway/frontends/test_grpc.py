"""The gRPC port: what is no gRPC, what is no method, what is no message."""

from __future__ import annotations

import pytest

from tests.gateway.frontends.doors import Doors
from tests.support.engine import World

SERVICE = b"/inference.GRPCInferenceService/"
EMPTY = b"\0\0\0\0\0"


@pytest.mark.parametrize(
    "kind", [b"", b"text/plain", b"application/json", b"application/grpc-web", b"application/grpc-web+proto"]
)
def test_other_content_types_are_an_http_error(kind: bytes) -> None:
    answer = Doors(World()).call(SERVICE + b"ServerLive", EMPTY, content_type=kind)
    assert answer[b":status"] == b"415"
    assert (answer[b"grpc-status"], b"application/grpc" in answer[b"grpc-message"]) == (b"12", True)


@pytest.mark.parametrize(
    "kind", [b"application/grpc", b"application/grpc+proto", b"Application/gRPC", b"application/grpc; charset=utf-8"]
)
def test_grpc_content_types(kind: bytes) -> None:
    answer = Doors(World()).call(SERVICE + b"ServerLive", EMPTY, content_type=kind)
    assert (answer[b":status"], answer[b"grpc-status"]) == (b"200", b"0")


def test_other_http_methods_are_an_http_error() -> None:
    doors = Doors(World())
    answer = doors.call(SERVICE + b"ServerLive", EMPTY, **{":method": b"GET"})
    assert (answer[b":status"], answer[b"grpc-status"]) == (b"405", b"12")


@pytest.mark.parametrize("path", [SERVICE + b"ModelStreamInfer", b"/grpc.health.v1.Health/Watch", b"/"])
def test_unknown_methods_are_answered_without_their_body(path: bytes) -> None:
    doors = Doors(World())
    assert path not in doors.grpc.known_paths
    answer = doors.call(path, b"")
    assert (answer[b":status"], answer[b"grpc-status"]) == (b"200", b"12")
    assert path in answer[b"grpc-message"]


@pytest.mark.parametrize("method", [b"ServerLive", b"ServerReady", b"ServerMetadata"])
def test_malformed_messages_are_refused_by_every_method(method: bytes) -> None:
    doors = Doors(World())
    assert doors.call(SERVICE + method, EMPTY)[b"grpc-status"] == b"0"
    assert doors.call(SERVICE + method, b"\0\0\0\0\1\xff")[b"grpc-status"] == b"3"
