"""Requests over gRPC: the hand-written paths agree with the protobuf library, and only GatewayError gets out."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway._generated import open_inference_pb2 as pb
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import InferRequest, RequestedOutput
from gateway.tensors import DataType, TensorSpec
from gateway.wire.grpc_frames import frame
from gateway.wire.proto_requests import RequestDecoder
from gateway.wire.wire_format import delimited, varint
from tests.support.wire import Case, message, several


def one(n: int = 2, **fields: str) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m", **fields)
    request.inputs.add(name="x", datatype="FP32").shape.extend([1, n])
    request.raw_input_contents.append(struct.pack(f"<{n}f", *range(n)))
    return request


def contents(request: InferRequest) -> tuple[object, ...]:
    head = request.head
    return head.model_name, head.model_version, head.inputs, request.id, [bytes(chunk) for chunk in request.data]


def expected(cases: list[Case], identifier: str) -> tuple[object, ...]:
    return "m", None, tuple(case.spec for case in cases), identifier, [case.raw for case in cases]


@given(several(), st.text(max_size=10), st.booleans())
def test_round_trip_of_every_datatype(cases: list[Case], identifier: str, typed: bool) -> None:
    decoder = RequestDecoder()
    data = message(cases, identifier, typed=typed).SerializeToString()
    first, second, framed = decoder.decode(data), decoder.decode(memoryview(data)), decoder.decode_framed(frame(data))
    again = decoder.decode_framed(bytearray(frame(data)))
    for request in (first, second, framed, again):
        assert contents(request) == expected(cases, identifier)
        assert request.head is first.head


def top_level_fields(data: bytes) -> list[bytes]:
    """Splits a serialized request whose fields are all length-delimited with one-byte tags."""
    fields, at = [], 0
    while at < len(data):
        length, start = 0, at + 1
        shift = 0
        while True:
            byte = data[start]
            start += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        fields.append(data[at : start + length])
        at = start + length
    return fields


UNKNOWN = st.sampled_from(
    [
        b"\x40\x05",  # field 8, varint
        b"\xba\x01\x02ab",  # field 23, bytes
        b"\x49" + bytes(8),  # field 9, 64 bits
        b"\x55" + bytes(4),  # field 10, 32 bits
        b"\x38\x07",  # field 7 with a wire type that is not its own
        b"\x1d" + bytes(4),  # field 3 likewise
        b"\x9a\x00\x03new",  # field 3 with an overlong tag
        b"\xba\x00\x00",  # field 7 with an overlong tag, empty
        b"\x1a\x83\x00end",  # field 3 with an overlong length
        b"\x5b\x3a\x01z\x5c",  # a group that holds what looks like raw contents
        b"\x12\x013",  # model_version
        b"\x0a\x01n",  # model_name again: the last wins
        b"\x3a\x01q",  # one raw content more
    ]
)


@given(several(), st.lists(UNKNOWN, max_size=4), st.randoms(use_true_random=False), st.booleans())
def test_agrees_with_the_library_on_any_order_and_unknown_fields(
    cases: list[Case], extra: list[bytes], random: object, typed: bool
) -> None:
    fields = top_level_fields(message(cases, "id", typed=typed).SerializeToString()) + extra
    random.shuffle(fields)  # type: ignore[attr-defined]
    data = b"".join(fields)
    reference = pb.ModelInferRequest.FromString(data)
    decoder = RequestDecoder()
    for read in (decoder.decode, lambda d: decoder.decode_framed(frame(d)), lambda d: decoder.decode_framed(frame(d))):
        try:
            request = read(data)
        except GatewayError:
            typed_data = any(tensor.contents.ListFields() for tensor in reference.inputs)
            raws = len(reference.raw_input_contents)
            wrong = (raws and typed_data) or raws != len(reference.inputs)
            assert wrong
            continue
        assert request.id == reference.id
        assert request.head.model_name == reference.model_name
        assert request.head.model_version == (reference.model_version or None)
        names = [(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in reference.inputs]
        assert [(s.name, s.datatype.value, s.shape) for s in request.head.inputs] == names
        if reference.raw_input_contents:
            assert [bytes(chunk) for chunk in request.data] == list(reference.raw_input_contents)


@given(st.binary(max_size=80))
def test_any_bytes_give_a_request_or_an_invalid_request(data: bytes) -> None:
    check_like_the_library(RequestDecoder(), data)


@given(several(), st.data())
def test_damaged_requests_are_refused_like_the_library_does(cases: list[Case], data: st.DataObject) -> None:
    whole = bytearray(message(cases, "id").SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(whole) - 1))
        whole[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    decoder = RequestDecoder()
    with contextlib.suppress(GatewayError):
        decoder.decode(message(cases, "id").SerializeToString())
    check_like_the_library(decoder, bytes(whole))
    check_like_the_library(decoder, bytes(whole[:cut]))


def check_like_the_library(decoder: RequestDecoder, data: bytes) -> None:
    """The decoder may refuse more than the library (contents), never less, and never otherwise than GatewayError."""
    for body in (data, frame(data), frame(data)):
        try:
            request = decoder.decode(body) if body is data else decoder.decode_framed(body)
        except GatewayError as error:
            if error.code not in (ErrorCode.INVALID_REQUEST, ErrorCode.UNSUPPORTED):
                raise
            continue
        reference = pb.ModelInferRequest.FromString(data)
        assert request.id == reference.id
        if reference.raw_input_contents:
            assert [bytes(chunk) for chunk in request.data] == list(reference.raw_input_contents)


def test_a_repeated_layout_is_recognised_only_where_it_is_the_same() -> None:
    decoder = RequestDecoder()
    bodies = [
        frame(request.SerializeToString())
        for request in (one(id="aa"), one(id="bb"), one(model_version="7"), one(model_version="8"), one(3), one())
    ]
    for _ in range(3):
        for body in bodies:
            assert contents(decoder.decode_framed(body)) == contents(RequestDecoder().decode_framed(body))
    two = pb.ModelInferRequest(model_name="m")
    for name in ("a", "b"):
        two.inputs.add(name=name, datatype="UINT8").shape.append(3)
    two.raw_input_contents.extend([b"123", b"456"])
    body = frame(two.SerializeToString())
    decoder.decode_framed(body)
    assert [bytes(c) for c in decoder.decode_framed(body).data] == [b"123", b"456"]
    moved = body.replace(b"\x3a\x03123\x3a\x03456", b"\x3a\x02123\x3a\x044567"[:-1] + b"")
    with pytest.raises(GatewayError):
        decoder.decode_framed(moved)
    resized = body.replace(b"\x3a\x03123\x3a\x03456", b"\x3a\x0212\x3a\x043456")
    assert [bytes(c) for c in decoder.decode_framed(resized).data] == [b"12", b"3456"]


def test_large_tensors_are_views() -> None:
    decoder = RequestDecoder()
    body = frame(one(1000).SerializeToString())
    for _ in range(2):
        chunk = decoder.decode_framed(body).data[0]
        assert isinstance(chunk, memoryview)
        assert chunk.obj is body


def test_an_id_that_is_not_utf8() -> None:
    decoder = RequestDecoder()
    good = frame(one(id="ab").SerializeToString())
    decoder.decode_framed(good)
    with pytest.raises(GatewayError, match="UTF-8"):
        decoder.decode_framed(good.replace(b"\x02ab", b"\x02\xff\xff"))


def test_parameters_outputs_and_version() -> None:
    request = one(model_version="3")
    request.parameters["timeout"].int64_param = 5
    request.parameters["flag"].bool_param = True
    request.parameters["big"].uint64_param = 2**64 - 1
    request.inputs[0].parameters["k"].string_param = "v"
    request.outputs.add(name="y").parameters["classification"].int64_param = 3
    request.outputs.add(name="z")
    head = RequestDecoder().decode(request.SerializeToString()).head
    assert head.model_version == "3"
    assert head.parameters == {"big": 2**64 - 1, "flag": True, "timeout": 5}
    assert head.input_parameters == {"x": {"k": "v"}}
    assert head.outputs == (RequestedOutput("y", 3), RequestedOutput("z"))
    assert head.inputs == (TensorSpec("x", DataType.FP32, (1, 2)),)


def changed(change: str) -> pb.ModelInferRequest:
    request = one()
    exec(change, {"r": request, "t": request.inputs[0]})
    return request


REFUSED = [
    ("t.datatype = 'FLOAT'", "unknown datatype 'FLOAT'"),
    ("t.shape[1] = -1", "negative dimension"),
    ("r.raw_input_contents.append(b'')", "1 inputs but 2"),
    ("t.contents.fp32_contents.append(1)", "use one of the two"),
    ("r.parameters['p'].SetInParent()", "parameter 'p' of the request has no value"),
    ("r.outputs.add(name='y').parameters['classification'].bool_param = True", "'classification' of output 'y'"),
    ("r.outputs.add(name='y').parameters['classification'].int64_param = -1", "'classification' of output 'y'"),
    ("del r.raw_input_contents[:]", "input 'x' has 0 elements, but its shape needs 2"),
    ("del r.raw_input_contents[:]; t.contents.fp32_contents.append(1)", "has 1 elements"),
    ("del r.raw_input_contents[:]; t.contents.fp64_contents.extend([1, 2])", "FP32 belongs in fp32_contents"),
    ("del r.raw_input_contents[:]; t.datatype = 'FP16'; t.contents.fp32_contents.extend([1, 2])", "FP16 has no typed"),
    ("del r.raw_input_contents[:]; t.datatype = 'INT8'; t.contents.int_contents.extend([1, 128])", "do not fit INT8"),
    ("del r.raw_input_contents[:]; t.datatype = 'UINT8'; t.contents.uint_contents.extend([1, 256])", "not fit UINT8"),
    ("del r.raw_input_contents[:]; t.shape[:] = [2**62] * 9; t.contents.fp32_contents.append(1)", "needs far more"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED)
def test_refused_with_a_reason(change: str, reason: str) -> None:
    for _ in range(2):
        with pytest.raises(GatewayError) as caught:
            RequestDecoder().decode_framed(frame(changed(change).SerializeToString()))
        assert caught.value.code is ErrorCode.INVALID_REQUEST
        assert reason in caught.value.message


@pytest.mark.parametrize("where", ["t", "r.outputs.add(name='y')"])
def test_shared_memory_is_unsupported(where: str) -> None:
    request = changed(f"{where}.parameters['shared_memory_region'].string_param = 'r'")
    with pytest.raises(GatewayError, match="shared memory") as caught:
        RequestDecoder().decode(request.SerializeToString())
    assert caught.value.code is ErrorCode.UNSUPPORTED


def test_unpacked_shapes_and_contents_are_read() -> None:
    tensor = delimited(0x0A, b"x") + delimited(0x12, b"INT32") + b"\x18\x01\x18\x02"
    data = delimited(0x0A, b"m") + delimited(0x2A, tensor + delimited(0x2A, b"\x10\x05\x10\x06"))
    request = RequestDecoder().decode(data)
    assert request.head.inputs == (TensorSpec("x", DataType.INT32, (1, 2)),)
    assert request.data == [struct.pack("<2i", 5, 6)]


def test_compressed_requests() -> None:
    import gzip

    packed = gzip.compress(one().SerializeToString())
    body = b"\1" + len(packed).to_bytes(4, "big") + packed
    assert contents(RequestDecoder().decode_framed(body, b"gzip")) == contents(
        RequestDecoder().decode(one().SerializeToString())
    )


def test_many_different_requests_stay_within_bounds() -> None:
    decoder = RequestDecoder()
    for number in range(6000):
        request = one(model_version=str(number)).SerializeToString()
        assert decoder.decode_framed(frame(request)).head.model_version == str(number)
    assert len(decoder._heads) <= 4096
    assert len(decoder._interner) <= 4096
    assert len(decoder._layouts) <= 512


@given(st.integers(0, 2**64 - 1))
def test_varint(value: int) -> None:
    assert pb.StatisticDuration.FromString(b"\x08" + varint(value)).count == value
