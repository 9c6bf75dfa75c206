"""REST bodies: JSON, binary and both mixed; only GatewayError gets out."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorCode, GatewayError
from gateway.messages import InferRequest, RequestedOutput
from gateway.wire.interning import HeadInterner
from gateway.wire.json_requests import RestDecoder
from gateway.wire.proto_requests import RequestDecoder
from gateway.wire.reply_format import BINARY_REPLY, JSON_REPLY
from tests.support.wire import Case, message, several

FORMS = st.sampled_from(["flat", "nested", "binary"])


def nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return values[0]
    if len(shape) == 1:
        return values
    step = len(values) // shape[0] if shape[0] else 0
    return [nested(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def tensor(case: Case, form: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": case.spec.name,
        "datatype": case.spec.datatype.value,
        "shape": list(case.spec.shape),
    }
    values = [v.decode() if isinstance(v, bytes) else v for v in case.values]
    if form == "binary":
        fields["parameters"] = {"binary_data_size": len(case.raw)}
    else:
        fields["data"] = values if form == "flat" else nested(values, case.spec.shape)
    return fields


def check(request: InferRequest, cases: list[Case], identifier: str) -> None:
    assert request.head.inputs == tuple(case.spec for case in cases)
    assert [bytes(chunk) for chunk in request.data] == [case.raw for case in cases]
    assert request.id == identifier


@given(several(text=True), st.lists(FORMS, min_size=3, max_size=3), st.text(max_size=5), st.booleans())
def test_round_trip_of_every_datatype(cases: list[Case], forms: list[str], identifier: str, indent: bool) -> None:
    document = {"id": identifier, "inputs": [tensor(c, f) for c, f in zip(cases, forms, strict=False)]}
    header = json.dumps(document, indent=2 if indent else None).encode()
    tail = b"".join(case.raw for case, form in zip(cases, forms, strict=False) if form == "binary")
    interner = HeadInterner()
    decoder = RestDecoder(interner)
    heads = set()
    for _ in range(3):
        request, reply = decoder.decode(header + tail, "m", None, len(header))
        check(request, cases, identifier)
        heads.add(request.head)
        assert reply is JSON_REPLY
    if not tail and "binary" not in forms[: len(cases)]:
        for body in (header, header, bytearray(header), memoryview(header)):
            request, _ = decoder.decode(body, "m", None)
            check(request, cases, identifier)
            heads.add(request.head)
    heads.add(RequestDecoder(interner).decode(message(cases).SerializeToString()).head)
    assert len(heads) == 1


def body(**fields: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5], **fields}


def test_equal_requests_share_a_head_and_only_the_data_differ() -> None:
    decoder = RestDecoder()
    heads = set()
    for number in range(4):
        for data in ([number, 0.5], [[number, 0.5]]):
            request, _ = decoder.decode(orjson.dumps({"inputs": [body(data=data)]}), "m", "1")
            assert request.data == [struct.pack("<2f", number, 0.5)]
            heads.add(request.head)
    assert len(heads) == 1
    assert len(decoder._templates._known) == 1
    other, _ = decoder.decode(orjson.dumps({"inputs": [body()]}), "m", "2")
    assert other.head.model_version == "2"


TRICKS = [
    b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[%b]}]}',
    b'{"inputs":[{"name":"x","data":[%b],"shape":[1],"datatype":"FP32"}]}',
    b'{"inputs":[{"name":"x","data":[7],"data":[%b],"shape":[1],"datatype":"FP32"}]}',
    b'{"inputs":[{"name":"x","data":[%b],"data":[7],"shape":[1],"datatype":"FP32"}]}',
    b'{"parameters":{"data":1},"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[%b]}]}',
    b'{"parameters":{"a":"\\"data\\":[0]"},"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[%b]}]}',
    b'{"parameters":{"a":"\\\\\\"data\\":"},"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[%b]}]}',
    b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[%b]}],"id":"","parameters":{"p":[]}}',
    b'{"inputs":[{"name":"x","shape":[],"datatype":"FP32","data":%b}]}',
    b' {"inputs" : [ {"name":"x","shape":[1],"datatype":"FP32","data": [ %b ] } ] } ',
]
PIECES = [
    b"1", b"-2.5", b"1e3", b"3]", b"[4]", b"5,6", b'"7"', b"true", b"null", b"NaN", b"{}", b"", b"8}",
    b'9],"data":[3', b"1e39", b"1e400", b"1]}]}", b'2],"shape":[2],"data":[3,4', b" 1 ", b"01",
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_a_remembered_request_reads_every_variation_like_a_fresh_one(trick: bytes) -> None:
    warm = RestDecoder()
    for piece in (b"1", b"2"):
        with contextlib.suppress(GatewayError):
            warm.decode(trick % piece, "m", None)
    for piece in PIECES:
        results = []
        for decoder in (warm, RestDecoder()):
            try:
                request, _ = decoder.decode(trick % piece, "m", None)
            except GatewayError as error:
                results.append((error.code, None, None))
            else:
                results.append((None, request.head.inputs, [bytes(chunk) for chunk in request.data]))
        assert repr(results[0]) == repr(results[1]), piece


def test_reply_formats() -> None:
    def reply(**fields: Any) -> Any:
        document = {"inputs": [body()], **fields}
        return RestDecoder().decode(orjson.dumps(document), "m", None)[1]

    assert reply() is JSON_REPLY
    assert reply(parameters={"binary_data_output": False}) is JSON_REPLY
    assert reply(parameters={"binary_data_output": True}) is BINARY_REPLY
    mixed = [{"name": "y", "parameters": {"binary_data": True}}, {"name": "z"}]
    found = reply(outputs=mixed)
    assert (found.is_binary("y"), found.is_binary("z"), found.only_json) == (True, False, False)
    found = reply(
        outputs=[{"name": "y", "parameters": {"binary_data": False}}], parameters={"binary_data_output": True}
    )
    assert (found.is_binary("y"), found.is_binary("other")) == (False, True)
    assert reply(outputs=None, id=None, parameters=None) is JSON_REPLY


def test_what_is_about_the_form_stays_out_of_the_head() -> None:
    document = {
        "inputs": [{**body(), "parameters": {"k": 1}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}],
        "parameters": {"binary_data_output": True, "timeout": 5, "b": "x"},
    }
    head = RestDecoder().decode(orjson.dumps(document), "m", "3")[0].head
    assert head.parameters == {"b": "x", "timeout": 5}
    assert head.input_parameters == {"x": {"k": 1}}
    assert head.outputs == (RequestedOutput("y", 2),)
    assert head.model_version == "3"


def test_non_finite_numbers_are_read() -> None:
    text = b'{"inputs":[{"name":"x","shape":[3],"datatype":"FP64","data":[NaN,Infinity,-Infinity]}]}'
    values = struct.unpack("<3d", RestDecoder().decode(text, "m", None)[0].data[0])
    assert str(values) == "(nan, inf, -inf)"


REFUSED = [
    (b"", "not valid JSON"),
    (b"[" * 100_000, "not valid JSON"),
    (b'{"a":NaN,"b":' + b"[" * 100_000, "not valid JSON"),
    (b'{"a":NaN,"b":"\\ud800"}', "not valid JSON"),
    (b'{"a":NaN,"b":' + b"9" * 5000 + b"}", "not valid JSON"),
    (b"\xff\xfe{\0}\0", "not valid JSON"),
    (b"[]", "must be a JSON object"),
    (b"{}", "array 'inputs'"),
    ({"inputs": {}}, "array 'inputs'"),
    ({"inputs": [1]}, "entry of 'inputs' must be an object"),
    ({"inputs": [{}]}, "needs a string 'name'"),
    ({"inputs": [body(datatype=None)]}, "input 'x' needs a string 'datatype'"),
    ({"inputs": [body(datatype="FLOAT")]}, "unknown datatype 'FLOAT'"),
    ({"inputs": [body(shape=None)]}, "input 'x' needs an array 'shape'"),
    ({"inputs": [body(shape=[1, -2])]}, "non-negative integer"),
    ({"inputs": [body(shape=[1, 2.0])]}, "non-negative integer"),
    ({"inputs": [body(shape=[1, True])]}, "non-negative integer"),
    ({"inputs": [body(data=None)]}, "input 'x' has no 'data'"),
    ({"inputs": [body(data=1)]}, "must be an array"),
    ({"inputs": [body(data="12")]}, "must be an array"),
    ({"inputs": [body(data=[1])]}, "input 'x' has 1 elements, but its shape needs 2"),
    ({"inputs": [body(data=[])]}, "nesting"),
    ({"inputs": [body(data=[[1], [2]])]}, "nesting"),
    ({"inputs": [body(data=[[[1], [2]]])]}, "nesting"),
    ({"inputs": [body(data=[[1, 2], 3])]}, "nesting"),
    ({"inputs": [body(data=[[1, [2]]])]}, "numbers only"),
    ({"inputs": [body(data=[1, "2"])]}, "numbers only"),
    ({"inputs": [body(data=[1, None])]}, "numbers only"),
    ({"inputs": [body(data=[1, True])]}, "numbers only"),
    ({"inputs": [body(data=[1, 1e39])]}, "do not fit FP32"),
    ({"inputs": [body(datatype="INT8", data=[1, 128])]}, "do not fit INT8"),
    ({"inputs": [body(datatype="UINT64", data=[1, -1])]}, "do not fit UINT64"),
    ({"inputs": [body(datatype="INT32", data=[1, 2.0])]}, "integers only"),
    ({"inputs": [body(datatype="INT32", data=[1, False])]}, "integers only"),
    ({"inputs": [body(datatype="BOOL", data=[1, 0])]}, "true or false only"),
    ({"inputs": [body(datatype="BYTES")]}, "strings only"),
    ({"inputs": [body(datatype="FP16")]}, "FP16 has no JSON form"),
    ({"inputs": [body(datatype="BF16")]}, "BF16 has no JSON form"),
    ({"inputs": [body(parameters=1)]}, "'parameters' of input 'x' must be an object"),
    ({"inputs": [body(parameters={"p": []})]}, "parameter 'p' of input 'x'"),
    ({"inputs": [body(parameters={"binary_data_size": 8})]}, "both 'data' and binary data"),
    ({"inputs": [body(data=None, parameters={"binary_data_size": 8})]}, "Inference-Header-Content-Length"),
    ({"inputs": [body(data=None, parameters={"binary_data_size": -1})]}, "'binary_data_size' of input 'x'"),
    ({"inputs": [], "id": 1}, "'id' must be a string"),
    ({"inputs": [], "outputs": {}}, "'outputs' must be an array"),
    ({"inputs": [], "outputs": [{"name": 1}]}, "entry of 'outputs' needs a string 'name'"),
    ({"inputs": [], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, "'binary_data' of output 'y'"),
    ({"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": True}}]}, "'classification'"),
    ({"inputs": [], "parameters": {"binary_data_output": "yes"}}, "'binary_data_output' of the request"),
    ({"inputs": [body(shape=[2**62] * 60, data=[1])]}, "(huge)"),
]


@pytest.mark.parametrize(("document", "reason"), REFUSED)
def test_refused_with_a_reason(document: Any, reason: str) -> None:
    text = document if isinstance(document, bytes) else orjson.dumps(document)
    with pytest.raises(GatewayError) as caught:
        RestDecoder().decode(text, "m", None)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert reason in caught.value.message
    assert len(caught.value.message) < 3000


def test_shared_memory_is_unsupported() -> None:
    own = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    for document in ({"inputs": [body(parameters=own)]}, {"inputs": [], "outputs": [{"name": "y", "parameters": own}]}):
        with pytest.raises(GatewayError, match="shared memory") as caught:
            RestDecoder().decode(orjson.dumps(document), "m", None)
        assert caught.value.code is ErrorCode.UNSUPPORTED


HEADER = orjson.dumps({"inputs": [body(data=None, parameters={"binary_data_size": 8})]})


def test_binary_requests_must_add_up() -> None:
    decoder = RestDecoder()
    for _ in range(2):
        assert decoder.decode(HEADER + bytes(8), "m", None, len(HEADER))[0].data == [bytes(8)]
        for tail in (b"", bytes(7), bytes(9)):
            with pytest.raises(GatewayError, match="announce 8 bytes"):
                decoder.decode(HEADER + tail, "m", None, len(HEADER))
        for length in (-1, len(HEADER) + 9, 10**30):
            with pytest.raises(GatewayError, match="Inference-Header-Content-Length is"):
                decoder.decode(HEADER + bytes(8), "m", None, length)


def test_large_binary_tensors_are_views() -> None:
    header = orjson.dumps({"inputs": [body(shape=[1, 1000], data=None, parameters={"binary_data_size": 4000})]})
    decoder = RestDecoder()
    sent = header + bytes(4000)
    for _ in range(2):
        chunk = decoder.decode(sent, "m", None, len(header))[0].data[0]
        assert isinstance(chunk, memoryview)
        assert chunk.obj is sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "id", "binary_data_size"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.sampled_from(["inputs", "outputs", "parameters", "data", "shape", "datatype", "name", "id"]))
def test_any_document_gives_a_request_or_a_gateway_error(value: Any, field: str) -> None:
    document: dict[str, Any] = {"inputs": [body()], "outputs": [{"name": "y"}]}
    (document if field in ("inputs", "outputs", "id") else document["inputs"][0])[field] = value
    for form in (document, value):
        text = json.dumps(form).encode()
        for length in (None, len(text)):
            with contextlib.suppress(GatewayError):
                RestDecoder().decode(text, "m", None, length)


@given(st.binary(max_size=60), st.integers(-2, 62) | st.none())
def test_any_bytes_give_a_gateway_error(data: bytes, length: int | None) -> None:
    with contextlib.suppress(GatewayError):
        RestDecoder().decode(data, "m", None, length)
