"""Malformed binary tensors over REST and text elements over both: named, refused, and nothing reaches Triton."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from gateway._generated.open_inference_pb2 import ModelInferRequest
from tests.acceptance.clients import grpc, refused, rest
from tests.support.processes import Gateway

pytestmark = pytest.mark.usefixtures("neighbour")


def binary(
    sizes: tuple[Any, Any], payload: bytes, announced: Any = None, **change: Any
) -> tuple[bytes, dict[str, str]]:
    inputs = [
        {"name": name, "datatype": "INT32", "shape": [1, 16], "parameters": {"binary_data_size": size}, **change}
        for name, size in zip("AB", sizes, strict=True)
    ]
    head = json.dumps({"inputs": inputs}).encode()
    return head + payload, {"Inference-Header-Content-Length": str(len(head) if announced is None else announced)}


BINARY_CASES: list[tuple[str, tuple[bytes, dict[str, str]], str]] = [
    ("bytes missing", binary((64, 64), bytes(127)), "127"),
    ("bytes left over", binary((64, 64), bytes(129)), ""),
    ("size too small", binary((60, 64), bytes(124)), "A"),
    ("size too large", binary((68, 64), bytes(132)), "A"),
    ("size negative", binary((-64, 64), bytes(128)), "A"),
    ("size a word", binary(("64", 64), bytes(128)), "A"),
    ("size huge", binary((1 << 62, 64), bytes(128)), "announce"),
    ("size beyond int64", binary((1 << 80, 64), bytes(128)), "A"),
    ("head longer than the body", binary((64, 64), bytes(128), 99_999), "Inference-Header-Content-Length"),
    ("head's length a word", binary((64, 64), bytes(128), "ten"), "Inference-Header-Content-Length"),
    ("head's length negative", binary((64, 64), bytes(128), -1), "Inference-Header-Content-Length"),
    ("head's length huge", binary((64, 64), bytes(128), 10**30), "Inference-Header-Content-Length"),
    ("head cut", binary((64, 64), bytes(128), 20), ""),
    ("head empty", binary((64, 64), bytes(128), 0), ""),
    ("data as well", binary((64, 64), bytes(128), None, data=[1] * 16), "A"),
    ("shape overflows", binary((64, 64), bytes(128), None, shape=[(1 << 60) + 1, 16]), "A"),
]


@pytest.mark.parametrize(("sent", "named"), [c[1:] for c in BINARY_CASES], ids=[case[0] for case in BINARY_CASES])
def test_binary(gateway: Gateway, sent: tuple[bytes, dict[str, str]], named: str) -> None:
    refused(rest(gateway.rest, "/v2/models/add_sub/infer", sent[0], headers=sent[1]), named, 400)


@pytest.mark.parametrize(
    "raw",
    [struct.pack("<I", 1000) + b"abc", b"\1", struct.pack("<I", 3) + b"abcd", struct.pack("<I", 0xFFFFFFFF), b""],
    ids=["beyond the end", "half a length", "left over", "largest length", "nothing"],
)
def test_broken_text_elements(gateway: Gateway, raw: bytes) -> None:
    entry = {"name": "BYTES_IN", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [entry]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    refused(rest(gateway.rest, "/v2/models/identity/infer", head + raw, headers=headers), "BYTES_IN", 400)
    message = ModelInferRequest(model_name="identity", raw_input_contents=[raw])
    message.inputs.add(name="BYTES_IN", datatype="BYTES", shape=[1, 1])
    refused(grpc(gateway.grpc, "ModelInfer", message.SerializeToString()), "BYTES_IN", 3)
