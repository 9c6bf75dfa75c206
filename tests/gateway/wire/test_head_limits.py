"""Descriptions of requests are bounded in size before work is done on them, over REST and over gRPC alike."""

from __future__ import annotations

import contextlib
import gc
import json
import struct
import tracemalloc

import pytest

from gateway._generated import open_inference_pb2 as pb
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import RequestedOutput
from gateway.tensors import DataType, TensorSpec
from gateway.wire.head_limits import MOST_DIMENSIONS, MOST_ENTRIES, MOST_TEXT
from gateway.wire.interning import BYTES, HeadInterner
from gateway.wire.json_document import parse_json
from gateway.wire.json_requests import RestDecoder
from gateway.wire.proto_requests import RequestDecoder


def proto() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32").shape.extend([1, 2])
    request.raw_input_contents.append(struct.pack("<2f", 1, 2))
    return request


def refused_proto(message: bytes, named: str) -> None:
    with pytest.raises(GatewayError, match=named) as caught:
        RequestDecoder().decode(message)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def refused_json(document: object, named: str) -> None:
    with pytest.raises(GatewayError, match=named) as caught:
        RestDecoder().decode(json.dumps(document).encode(), "m", None)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("typed", [False, True])
def test_grpc_rank(typed: bool) -> None:
    request = proto()
    del request.inputs[0].shape[:]
    request.inputs[0].shape.extend([(1 << 63) - 1] * 40_000)
    if typed:
        del request.raw_input_contents[:]
        request.inputs[0].contents.fp32_contents.append(1.0)
    refused_proto(request.SerializeToString(), "'x' has 40000 dimensions")


def test_the_largest_rank_is_taken() -> None:
    request = proto()
    request.inputs[0].shape.extend([1] * (MOST_DIMENSIONS - 2))
    assert len(RequestDecoder().decode(request.SerializeToString()).head.inputs[0].shape) == MOST_DIMENSIONS


@pytest.mark.parametrize("data", [[1.0], [[1.0]]])
def test_json_rank(data: object) -> None:
    shape = [(1 << 63) - 1] * 40_000
    refused_json(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": data}]}, "'x' has 40000 dimensions"
    )


def test_grpc_entries() -> None:
    for field in ("inputs", "outputs"):
        request = proto()
        for _ in range(MOST_ENTRIES + 1):
            getattr(request, field).add(name="y", datatype="FP32") if field == "inputs" else request.outputs.add()
        refused_proto(request.SerializeToString(), "too many")
    for parameters in ("own", "input"):
        request = proto()
        found = request.parameters if parameters == "own" else request.inputs[0].parameters
        for number in range(MOST_ENTRIES + 1):
            found[str(number)].bool_param = True
        refused_proto(request.SerializeToString(), "too many")


def test_a_flood_of_fields_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes is a small part of what it sends."""
    flood = proto().SerializeToString() + b"\x32\x00" * 1_000_000
    raws = proto().SerializeToString() + b"\x3a\x00" * 1_000_000
    unusual = b"\x9b\x06\x9c\x06" + flood
    monkeypatch.setattr("gateway.wire.proto_requests._parsed", lambda data: pytest.fail("parsed"))
    for message in (flood, raws, unusual):
        tracemalloc.start()
        refused_proto(message, "too many|unusual")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * len(message)


@pytest.mark.parametrize("part", ["inputs", "outputs"])
def test_a_flood_of_parameters_is_refused_before_it_is_parsed(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    request = proto()
    if part == "outputs":
        request.outputs.add(name="y")
    found = getattr(request, part)[0].parameters
    for number in range(30_000):
        found[str(number)].bool_param = True
    monkeypatch.setattr("gateway.wire.proto_requests._parsed", lambda data: pytest.fail("parsed"))
    refused_proto(request.SerializeToString(), "too many parameters")


def test_large_typed_contents_are_still_taken() -> None:
    request = proto()
    del request.raw_input_contents[:]
    request.inputs[0].shape[1] = 200_000
    request.inputs[0].contents.fp32_contents.extend([0.5] * 200_000)
    (data,) = RequestDecoder().decode(request.SerializeToString()).data
    assert bytes(data) == struct.pack("<f", 0.5) * 200_000


@pytest.mark.parametrize("text", [b"[" + b"[]," * 100_000 + b"1]", b"[" + b"[]," * 100_000])
def test_no_garbage_is_looked_for_while_json_is_read(text: bytes) -> None:
    collections: list[str] = []
    hear = lambda phase, info: collections.append(phase)  # noqa: E731
    gc.collect()
    gc.callbacks.append(hear)
    try:
        with contextlib.suppress(GatewayError):
            parse_json(text)
        counted = len(collections)
        assert gc.isenabled()
    finally:
        gc.callbacks.remove(hear)
    assert counted <= 2


def test_json_entries() -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    many = {str(number): True for number in range(MOST_ENTRIES + 1)}
    refused_json({"inputs": [tensor] * (MOST_ENTRIES + 1)}, "too many")
    refused_json({"inputs": [tensor], "outputs": [{"name": "y"}] * (MOST_ENTRIES + 1)}, "too many")
    refused_json({"inputs": [tensor], "parameters": many}, "too many")
    refused_json({"inputs": [tensor | {"parameters": many}]}, "too many")
    half = dict(list(many.items())[: MOST_ENTRIES // 2 + 1])
    refused_json({"inputs": [tensor | {"parameters": half}, tensor | {"name": "z", "parameters": half}]}, "too many")


def test_text() -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    refused_json({"inputs": [tensor | {"name": "x" * (MOST_TEXT + 1)}]}, "belong into a tensor")
    refused_json({"inputs": [tensor], "outputs": [{"name": "x" * MOST_TEXT}]}, "belong into a tensor")
    refused_json({"inputs": [tensor], "parameters": {"p": "x" * MOST_TEXT}}, "belong into a tensor")
    request = proto()
    request.inputs[0].parameters["p"].string_param = "x" * MOST_TEXT
    refused_proto(request.SerializeToString(), "belong into a tensor")


@pytest.mark.parametrize("part", ["outputs", "parameters", "input parameters"])
def test_distinct_heads_take_bounded_memory(part: str) -> None:
    """Whatever a head consists of counts: a client whose heads never repeat cannot fill the memory."""
    interner = HeadInterner()
    spec = (TensorSpec("x", DataType.FP32, (1, 2)),)
    tracemalloc.start()
    for number in range(1000):
        text = f"{number:06}" * 1000
        interner.intern(
            "m",
            None,
            spec,
            (RequestedOutput(text),) if part == "outputs" else (),
            {"p": text} if part == "parameters" else None,
            {"x": {"p": text}} if part == "input parameters" else None,
        )
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 1.5 * BYTES
    assert 0 < len(interner) < 200


def test_what_is_used_after_a_flood_still_weighs() -> None:
    interner = HeadInterner()
    spec = (TensorSpec("x", DataType.FP32, (1, 2)),)
    for number in range(2000):
        interner.intern("m", None, spec, (), {"p": "x" * 5000 + str(number)})
        interner.intern("m", None, spec, (), {"p": "y" * 5000 + str(number % 7)})
    assert len(interner) < 2 * BYTES // (8 * 5000)
