"""Answers in each protocol, and what counts as the same answer."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from gateway._generated import open_inference_pb2 as pb
from gateway.bench.answers import Expected, Outputs, decode_rest, same
from gateway.bench.encoding import grpc_frame
from gateway.bench.grpc_codec import decode_grpc


def grpc_answer(values: list[float], *, typed: bool = False) -> bytes:
    response = pb.ModelInferResponse(model_name="m")
    output = response.outputs.add(name="y", datatype="FP32")
    output.shape.extend([len(values), 1])
    if typed:
        output.contents.fp32_contents.extend(values)
    else:
        response.raw_output_contents.append(np.array(values, "<f4").tobytes())
    return grpc_frame(response.SerializeToString())


def rest_answer(values: list[float]) -> bytes:
    return orjson.dumps({"outputs": [{"name": "y", "datatype": "FP32", "shape": [len(values), 1], "data": values}]})


def binary_answer(values: list[float]) -> tuple[bytes, int]:
    raw = np.array(values, "<f4").tobytes()
    output = {"name": "y", "datatype": "FP32", "shape": [len(values), 1], "parameters": {"binary_data_size": len(raw)}}
    head = orjson.dumps({"outputs": [output]})
    return head + raw, len(head)


def test_every_protocol_says_the_same() -> None:
    values = [1.5, -2.0]
    found = [
        decode_grpc(grpc_answer(values)),
        decode_grpc(grpc_answer(values, typed=True)),
        decode_rest(rest_answer(values), None),
        decode_rest(*binary_answer(values)),
    ]
    for outputs in found:
        assert same(found[0], outputs)
        assert np.asarray(outputs["y"]).tolist() == [[1.5], [-2.0]]


def test_last_bits_may_differ_values_may_not() -> None:
    wanted: Outputs = {"y": np.array([1.0, 1e-3])}
    assert same(wanted, {"y": np.array([1.0 + 5e-4, 1e-3])})
    assert not same(wanted, {"y": np.array([1.01, 1e-3])})
    assert not same(wanted, {"y": np.array([[1.0, 1e-3]])})
    assert not same(wanted, {"z": np.array([1.0, 1e-3])})


@pytest.mark.parametrize("other", [np.array([1, 3]), [b"1", b"2"]])
def test_whole_numbers_and_texts_are_exact(other: np.ndarray | list[bytes]) -> None:
    assert same({"y": np.array([1, 2])}, {"y": np.array([1, 2])})
    assert not same({"y": np.array([1, 2])}, {"y": other})
    assert same({"y": [b"a"]}, {"y": [b"a"]})
    assert not same({"y": [b"a"]}, {"y": [b"b"]})


def test_expected_remembers_what_was_right_and_refuses_the_rest() -> None:
    expected = Expected(decode_rest, rest_answer([1.0]), None)
    assert expected.matches(rest_answer([1.0]), None)
    assert expected.matches(rest_answer([1.0001]), None)
    assert expected.matches(rest_answer([1.0001]), None)
    assert not expected.matches(rest_answer([2.0]), None)
    assert not expected.matches(b"not json", None)
    assert not expected.matches(b"{}", None)


def test_a_cut_grpc_answer_is_wrong_not_a_crash() -> None:
    whole = grpc_answer([1.0])
    assert not Expected(decode_grpc, whole, None).matches(whole[:-1], None)
