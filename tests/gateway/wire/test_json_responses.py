"""REST answers: what is written reads back to the same tensors, in the form that was asked for."""

from __future__ import annotations

import json
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorCode, GatewayError
from gateway.messages import InferResponse, ResponseHead
from gateway.tensors import DataType, TensorSpec
from gateway.wire.json_responses import encode_json
from gateway.wire.reply_format import BINARY_REPLY, JSON_REPLY, ReplyFormat, reply_format
from tests.support.wire import Case, raw_bytes, several


def read(headers: bytes, chunks: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (document, output name to raw bytes or JSON list)."""
    lines = dict(line.split(b": ") for line in headers.split(b"\r\n")[:-1])
    body = b"".join(chunks)
    length = lines.get(b"inference-header-content-length")
    if length is None:
        assert lines == {b"content-type": b"application/json"}
    else:
        assert lines[b"content-type"] == b"application/octet-stream"
    end = len(body) if length is None else int(length)
    document = json.loads(body[:end])
    found = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = output["data"]
        else:
            assert "data" not in output
            found[output["name"]] = body[end : end + size]
            end += size
    assert end == len(body)
    return document, found


@given(several(text=True), st.text(max_size=5), st.booleans(), st.lists(st.booleans(), min_size=3, max_size=3))
def test_round_trip(cases: list[Case], identifier: str, default: bool, wishes: list[bool]) -> None:
    head = ResponseHead("m", "3", tuple(case.spec for case in cases))
    response = InferResponse(head, identifier, [memoryview(case.raw) for case in cases])
    asked = {case.spec.name: wish for case, wish in zip(cases, wishes, strict=False)}
    for reply in (JSON_REPLY, BINARY_REPLY, reply_format(default, asked), JSON_REPLY):
        document, found = read(*encode_json(response, reply))
        assert (document["model_name"], document["model_version"]) == ("m", "3")
        assert document.get("id", "") == identifier
        assert [(o["name"], o["datatype"], tuple(o["shape"])) for o in document["outputs"]] == [
            (case.spec.name, case.spec.datatype.value, case.spec.shape) for case in cases
        ]
        for case in cases:
            value = found[case.spec.name]
            assert isinstance(value, bytes) is reply.is_binary(case.spec.name)
            if isinstance(value, list):
                values = [v.encode() for v in value] if case.spec.datatype is DataType.BYTES else value
                value = raw_bytes(case.spec.datatype, values)
            assert value == case.raw


def answer(datatype: DataType, raw: bytes, shape: tuple[int, ...] = (1,)) -> InferResponse:
    return InferResponse(ResponseHead("m", "1", (TensorSpec("y", datatype, shape),)), "", [raw])


def test_floats_are_as_short_as_they_can_be() -> None:
    body = b"".join(encode_json(answer(DataType.FP32, struct.pack("<2f", 0.1, 1e30), (2,)))[1])
    assert b'"data":[0.1,1e+30]' in body or b'"data":[0.1,1e30]' in body
    assert orjson.loads(body)["outputs"][0]["shape"] == [2]


@pytest.mark.parametrize(("datatype", "code"), [(DataType.FP32, "f"), (DataType.FP64, "d")])
def test_non_finite_numbers_are_tokens_as_from_triton(datatype: DataType, code: str) -> None:
    nan, inf = float("nan"), float("inf")
    raw = struct.pack(f"<6{code}", nan, 0.5, inf, -inf, nan, 1)
    body = b"".join(encode_json(answer(datatype, raw, (6,)))[1])
    assert b'"data":[NaN,0.5,Infinity,-Infinity,NaN,1.0]' in body
    document, found = read(*encode_json(answer(datatype, raw, (6,)), BINARY_REPLY))
    assert found["y"] == raw
    assert "data" not in document["outputs"][0]


@pytest.mark.parametrize(
    ("datatype", "raw", "code"),
    [
        (DataType.FP16, bytes(2), ErrorCode.INVALID_REQUEST),
        (DataType.BF16, bytes(2), ErrorCode.INVALID_REQUEST),
        (DataType.BYTES, b"\1\0\0\0\xff", ErrorCode.INVALID_REQUEST),
        (DataType.BYTES, b"\2\0\0\0a", ErrorCode.BACKEND_FAILED),
        (DataType.FP32, bytes(3), ErrorCode.BACKEND_FAILED),
        (DataType.INT64, bytes(9), ErrorCode.BACKEND_FAILED),
    ],
)
def test_what_has_no_json_form_names_the_output(datatype: DataType, raw: bytes, code: ErrorCode) -> None:
    with pytest.raises(GatewayError, match="output 'y'") as caught:
        encode_json(answer(datatype, raw))
    assert caught.value.code is code
    if datatype is not DataType.FP32:
        assert read(*encode_json(answer(datatype, raw), BINARY_REPLY))[1] == {"y": raw}


def test_parameters_are_written() -> None:
    response = InferResponse(ResponseHead("m", "1", (), {"p": 1, "q": "x"}), "", [])
    document, _ = read(*encode_json(response))
    assert document["parameters"] == {"p": 1, "q": "x"}
    assert document["outputs"] == []


def test_remembered_forms_are_bounded() -> None:
    response = answer(DataType.FP32, bytes(4))
    for number in range(100):
        encode_json(response, ReplyFormat(True, {f"name {number}": False}))
    assert len(response.head.encoded) <= 16
