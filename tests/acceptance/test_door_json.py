"""Malformed JSON requests: each is named and refused, none reaches Triton, neighbours notice nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.acceptance.clients import refused, rest
from tests.support.processes import Gateway

pytestmark = pytest.mark.usefixtures("neighbour")


def tensor(name: str = "A", datatype: str = "INT32", shape: Any = (1, 16), **more: Any) -> dict[str, Any]:
    more.setdefault("data", [1] * 16)
    return {"name": name, "datatype": datatype, "shape": shape, **more}


def both(**change: Any) -> dict[str, Any]:
    """A right request to add_sub, but for what is changed in its first tensor."""
    return {"inputs": [tensor(**change), tensor("B")]}


def shared(size: int = 64) -> dict[str, Any]:
    return {"shared_memory_region": "r", "shared_memory_byte_size": size}


def without_data(**change: Any) -> dict[str, Any]:
    request = both(**change)
    del request["inputs"][0]["data"]
    return request


RIGHT = {"inputs": [tensor(), tensor("B")]}

JSON_CASES: list[tuple[str, Any, str]] = [
    ("cut short", b'{"inputs": [', ""),
    ("empty", b"", ""),
    ("an array", b"[]", ""),
    ("a word", b"hello", ""),
    ("not UTF-8", b'{"inputs": "\xff\xfe"}', ""),
    ("two values", json.dumps(RIGHT).encode() + b"{}", ""),
    ("deep nesting", b'{"inputs":' + b"[" * 50_000 + b"]" * 50_000 + b"}", ""),
    ("deep data", b'{"inputs":[{"name":"A","datatype":"INT32","shape":[1,16],"data":' + b"[" * 900 + b"1" + b"]" * 900
     + b"}]}", "A"),
    ("NaN", json.dumps(both(data=[float("nan")] * 16)).encode(), ""),
    ("infinite", json.dumps(both(data=[float("inf")] * 16)).encode(), ""),
    ("no inputs", {}, "inputs"),
    ("inputs null", {"inputs": None}, "inputs"),
    ("inputs empty", {"inputs": []}, "A"),
    ("inputs a number", {"inputs": 3}, "inputs"),
    ("an input a number", {"inputs": [3]}, "input"),
    ("no name", {"inputs": [{"datatype": "INT32", "shape": [1, 16], "data": [1] * 16}]}, "name"),
    ("name a number", both(name=7), "name"),
    ("no shape", {"inputs": [{"name": "A", "datatype": "INT32", "data": [1] * 16}, tensor("B")]}, "A"),
    ("no data", without_data(), "A"),
    ("duplicate", {"inputs": [tensor(), tensor(), tensor("B")]}, "A"),
    ("missing", {"inputs": [tensor()]}, "B"),
    ("unknown", {"inputs": [tensor(), tensor("B"), tensor("C")]}, "C"),
    ("negative shape", both(shape=[-1, 16]), "A"),
    ("negative row", both(shape=[1, -16]), "A"),
    ("huge shape", both(shape=[1 << 40, 1 << 40]), "A"),
    ("shape beyond int64", both(shape=[1 << 70, 16]), "A"),
    ("shape overflows to 16", both(shape=[(1 << 60) + 1, 16]), "A"),
    ("shape of words", both(shape=["1", "16"]), "A"),
    ("shape of floats", both(shape=[1.0, 16.0]), "A"),
    ("shape of booleans", both(shape=[True, 16]), "A"),
    ("shape null", both(shape=None), "A"),
    ("shape a scalar's", both(shape=[]), "A"),
    ("rank", both(shape=[1, 16, 1]), "A"),
    ("inner axis", both(shape=[1, 15], data=[1] * 15), "A"),
    ("rows differ", {"inputs": [tensor(shape=[2, 16], data=[1] * 32), tensor("B")]}, "B"),
    ("too few values", both(data=[1] * 15), "A"),
    ("too many values", both(data=[1] * 17), "A"),
    ("zero rows", {"inputs": [tensor(shape=[0, 16], data=[]), tensor("B", shape=[0, 16], data=[])]}, "row"),
    ("too many rows", {"inputs": [tensor(shape=[9, 16], data=[1] * 144), tensor("B", shape=[9, 16], data=[1] * 144)]},
     "8"),
    ("data a word", both(data="abc"), "A"),
    ("data of words", both(data=["1"] * 16), "A"),
    ("data of floats", both(data=[1.5] * 16), "A"),
    ("data null", both(data=None), "A"),
    ("data of nulls", both(data=[None] * 16), "A"),
    ("value too large", both(data=[1 << 31] * 16), "A"),
    ("value too small", both(data=[-(1 << 31) - 1] * 16), "A"),
    ("value huge", both(data=[10**400] * 16), ""),
    ("ragged", both(shape=[2, 8], data=[[1] * 7, [1] * 9]), "A"),
    ("unknown datatype", both(datatype="INT33"), "INT33"),
    ("wrong datatype", both(datatype="FP32", data=[1.0] * 16), "A"),
    ("datatype a number", both(datatype=4), "A"),
    ("unknown output", {**RIGHT, "outputs": [{"name": "NOPE"}]}, "NOPE"),
    ("output twice", {**RIGHT, "outputs": [{"name": "SUM"}, {"name": "SUM"}]}, "SUM"),
    ("outputs a word", {**RIGHT, "outputs": "SUM"}, "outputs"),
    ("timeout a word", {**RIGHT, "parameters": {"timeout": "soon"}}, "timeout"),
    ("timeout negative", {**RIGHT, "parameters": {"timeout": -1}}, "timeout"),
    ("priority negative", {**RIGHT, "parameters": {"priority": -1}}, "priority"),
    ("parameters a list", {**RIGHT, "parameters": [1]}, "parameters"),
    ("binary size without a binary part", without_data(parameters={"binary_data_size": 64}), ""),
]  # fmt: skip


@pytest.mark.parametrize(("body", "named"), [case[1:] for case in JSON_CASES], ids=[case[0] for case in JSON_CASES])
def test_json(gateway: Gateway, body: Any, named: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    refused(rest(gateway.rest, "/v2/models/add_sub/infer", data), named, 400)


def test_a_lone_surrogate_is_no_text(gateway: Gateway) -> None:
    body = b'{"inputs":[{"name":"BYTES_IN","datatype":"BYTES","shape":[1,1],"data":["\\ud800"]}]}'
    refused(rest(gateway.rest, "/v2/models/identity/infer", body), "", 400)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"inputs": [{**without_data()["inputs"][0], "parameters": shared()}, tensor("B")]}, "'A'"),
        ({**RIGHT, "outputs": [{"name": "SUM", "parameters": shared()}]}, "'SUM'"),
    ],
    ids=["input", "output"],
)
def test_shared_memory_is_not_supported(gateway: Gateway, body: Any, named: str) -> None:
    answer = rest(gateway.rest, "/v2/models/add_sub/infer", json.dumps(body).encode())
    refused(answer, named, 501)
    assert "shared memory" in answer.message
