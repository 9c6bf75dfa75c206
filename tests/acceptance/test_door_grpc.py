"""Malformed gRPC calls: each is named and refused, none reaches Triton, neighbours notice nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc as grpcio
import pytest

from gateway._generated.open_inference_pb2 import ModelInferRequest
from tests.acceptance.clients import SERVICE, calls, exchange, framed, grpc, grpc_head, refused
from tests.support.processes import Gateway

pytestmark = pytest.mark.usefixtures("neighbour")


def proto(*, raw: tuple[int, ...] = (64, 64), model: str = "add_sub", **change: Any) -> ModelInferRequest:
    message = ModelInferRequest(model_name=model, raw_input_contents=[bytes(size) for size in raw])
    message.inputs.add(**{"name": "A", "datatype": "INT32", "shape": [1, 16], **change})
    message.inputs.add(name="B", datatype="INT32", shape=[1, 16])
    return message


def edited(edit: Any, **arguments: Any) -> ModelInferRequest:
    message = proto(**arguments)
    edit(message)
    return message


def typed(kind: str, values: list[Any]) -> ModelInferRequest:
    def edit(message: ModelInferRequest) -> None:
        getattr(message.inputs[0].contents, kind).extend(values)
        message.inputs[1].contents.int_contents.extend([1] * 16)

    return edited(edit, raw=())


def region(message: ModelInferRequest) -> None:
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    message.inputs[0].parameters["shared_memory_byte_size"].int64_param = 64


PROTO_CASES: list[tuple[str, ModelInferRequest | bytes, str]] = [
    ("cut short", proto().SerializeToString()[:-3], ""),
    ("garbage", b"\xff" * 40, ""),
    ("unmatched end of a group", b"\x0c" * 10, ""),
    ("endless varint", b"\x0a" + b"\xff" * 12, ""),
    ("name not UTF-8", b"\x0a\x02\xff\xfe", ""),
    ("no inputs", ModelInferRequest(model_name="add_sub"), "A"),
    ("duplicate", proto(name="B"), "B"),
    ("unknown input", proto(name="C"), "C"),
    ("negative shape", proto(shape=[-1, 16]), "A"),
    ("huge shape", proto(shape=[1 << 40, 1 << 40]), "A"),
    ("shape overflows", proto(shape=[(1 << 60) + 1, 16]), "A"),
    ("rank", proto(shape=[16]), "A"),
    ("zero rows", edited(lambda m: m.inputs[1].shape.__setitem__(0, 0), shape=[0, 16], raw=(0, 0)), "row"),
    ("too few bytes", proto(raw=(60, 64)), "A"),
    ("too many bytes", proto(raw=(68, 64)), "A"),
    ("fewer raws than inputs", proto(raw=(64,)), "raw_input_contents"),
    ("more raws than inputs", proto(raw=(64, 64, 64)), "raw_input_contents"),
    ("unknown datatype", proto(datatype="INT33"), "INT33"),
    ("wrong datatype", proto(datatype="FP32"), "A"),
    ("typed and raw", edited(lambda m: m.inputs[0].contents.int_contents.extend([1] * 16)), ""),
    ("typed, wrong kind", typed("fp32_contents", [1.0] * 16), "A"),
    ("typed, too few", typed("int_contents", [1] * 15), "A"),
    ("typed, too many", typed("int_contents", [1] * 17), "A"),
    ("unknown output", edited(lambda m: m.outputs.add(name="NOPE")), "NOPE"),
    ("negative timeout", edited(lambda m: m.parameters["timeout"].__setattr__("int64_param", -5)), "timeout"),
    ("timeout a word", edited(lambda m: m.parameters["timeout"].__setattr__("string_param", "soon")), "timeout"),
]


@pytest.mark.parametrize(("message", "named"), [case[1:] for case in PROTO_CASES], ids=[c[0] for c in PROTO_CASES])
def test_protobuf(gateway: Gateway, message: ModelInferRequest | bytes, named: str) -> None:
    data = message if isinstance(message, bytes) else message.SerializeToString()
    refused(grpc(gateway.grpc, "ModelInfer", data), named, 3)


@pytest.mark.parametrize(
    ("headers", "body", "status", "named"),
    [
        (grpc_head(SERVICE + "Nothing"), framed(b""), 12, "Nothing"),
        (grpc_head("/other.Service/Call"), framed(b""), 12, "other.Service"),
        (grpc_head(SERVICE + "RepositoryModelUnload"), framed(b""), 12, "RepositoryModelUnload"),
        (grpc_head(SERVICE + "ModelStreamInfer"), framed(b""), 12, "ModelStreamInfer"),
        (grpc_head(SERVICE + "ServerLive", replace={b":method": b"GET"}), b"", 12, "gRPC"),
        (grpc_head(SERVICE + "ServerLive", replace={b"content-type": b"text/plain"}), framed(b""), 12, "grpc"),
        (grpc_head(SERVICE + "ServerLive", replace={b"content-type": b""}), framed(b""), 12, "grpc"),
        (grpc_head(SERVICE + "ModelInfer"), b"", 3, ""),
        (grpc_head(SERVICE + "ModelInfer"), b"\0\0\0", 3, ""),
        (grpc_head(SERVICE + "ModelInfer"), b"\0\0\0\0\x05ab", 3, ""),
        (grpc_head(SERVICE + "ModelInfer"), framed(b"") + b"more", 3, ""),
        (grpc_head(SERVICE + "ModelInfer"), b"\x07\0\0\0\0", 3, ""),
        (grpc_head(SERVICE + "ModelInfer"), b"\x01\0\0\0\0", 3, ""),
        (grpc_head(SERVICE + "ModelInfer", (b"grpc-encoding", b"br")), b"\x01" + framed(b"x")[1:], 12, "br"),
        (grpc_head(SERVICE + "ModelInfer", (b"grpc-encoding", b"gzip")), b"\x01" + framed(b"x")[1:], 3, ""),
        (grpc_head(SERVICE + "ModelInfer", (b"grpc-timeout", b"soon")), framed(b""), 3, "grpc-timeout"),
        (grpc_head(SERVICE + "ModelInfer", (b"grpc-timeout", b"123456789S")), framed(b""), 3, "grpc-timeout"),
        (grpc_head(SERVICE + "ModelMetadata"), framed(b"\xff"), 3, ""),
        (grpc_head("/grpc.health.v1.Health/Check"), framed(b"\xff"), 3, ""),
        (grpc_head("/grpc.health.v1.Health/Check"), framed(b"\x0a\x06nobody"), 5, "nobody"),
        (grpc_head(SERVICE + "ModelInfer"), framed(bytes(64 << 20)), 8, "max_body_bytes"),
    ],
    ids=lambda value: repr(value[-24:])[2:40] if isinstance(value, bytes) else "",
)  # fmt: skip
def test_grpc_itself(gateway: Gateway, headers: Any, body: bytes, status: int, named: str) -> None:
    refused(asyncio.run(calls(gateway.grpc, [(headers, body)]))[0], named, status)


def test_what_is_no_grpc_is_an_http_error(gateway: Gateway) -> None:
    for replaced, status in (({b"content-type": b"application/json"}, "415"), ({b":method": b"GET"}, "405")):
        answer = asyncio.run(calls(gateway.grpc, [(grpc_head(SERVICE + "ServerLive", replace=replaced), framed(b""))]))[
            0
        ]
        assert answer.headers[":status"] == status, answer


def test_a_streaming_call_is_refused_while_its_client_waits(gateway: Gateway) -> None:
    """A real client whose stream stays open hears at once that there is no such method."""
    done = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b""
        done.wait(20)

    with grpcio.insecure_channel(gateway.grpc) as channel:
        try:
            with pytest.raises(grpcio.RpcError) as caught:
                next(channel.stream_stream(SERVICE + "ModelStreamInfer")(requests(), timeout=10))
            assert caught.value.code() is grpcio.StatusCode.UNIMPLEMENTED
            assert "ModelStreamInfer" in caught.value.details()
        finally:
            done.set()


def test_shared_memory_is_not_supported(gateway: Gateway) -> None:
    answer = grpc(gateway.grpc, "ModelInfer", edited(region).SerializeToString())
    refused(answer, "'A'", 12)
    assert "shared memory" in answer.message


@pytest.mark.parametrize(
    "data",
    [
        b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\5\1\5\0\0\0\1\xff\xff\xff\xff\xff",
    ],
    ids=["HTTP/1.1", "TLS", "no frame", "broken headers"],
)
def test_what_is_no_http2_ends_its_own_connection(gateway: Gateway, data: bytes) -> None:
    answer = exchange(gateway.grpc, data)
    assert b"HTTP/1.1" not in answer
    assert grpc(gateway.grpc, "ServerLive", b"").status == 0
