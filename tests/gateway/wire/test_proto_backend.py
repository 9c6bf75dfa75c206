"""The gateway as Triton's client: executions out, answers in."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway._generated import open_inference_pb2 as pb
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import RequestedOutput, RequestHead
from gateway.ports import BackendRequest
from gateway.tensors import DataType, TensorSpec
from gateway.versions import ModelVersion
from gateway.wire.grpc_frames import frame, unframe
from gateway.wire.proto_backend import BackendRequestEncoder, BackendResponseDecoder
from tests.support.wire import Case, several

HEAD = RequestHead(
    "m",
    None,
    (TensorSpec("x", DataType.UINT8, (1, 2)), TensorSpec("s", DataType.BYTES, (1, 1))),
    (RequestedOutput("y", 2), RequestedOutput("z")),
    {"timeout": 1, "priority": 2, "binary_data_output": True, "own": "kept", "sequence_id": 7, "sluice_user": "u"},
    {"x": {"binary_data_size": 2, "extra": 1.5, "sluice_more": 1}},
)


def request(members: int = 3) -> BackendRequest:
    chunks = [[b"ab"] * members, [memoryview(b"\1\0\0\0z")] * members]
    return BackendRequest(ModelVersion("m", 4), HEAD, members, ((members, 2), (members, 1)), chunks, 10**9)


def test_an_execution() -> None:
    encoder = BackendRequestEncoder()
    for members in (3, 1, 3):
        body = b"".join(encoder.encode("m.v4", "", request(members)))
        message = pb.ModelInferRequest.FromString(bytes(unframe(body)))
        assert (message.model_name, message.model_version, message.id) == ("m.v4", "", "")
        assert [(t.name, t.datatype, list(t.shape)) for t in message.inputs] == [
            ("x", "UINT8", [members, 2]),
            ("s", "BYTES", [members, 1]),
        ]
        assert list(message.raw_input_contents) == [b"ab" * members, b"\1\0\0\0z" * members]
        assert [output.name for output in message.outputs] == ["y", "z"]
        assert message.outputs[0].parameters["classification"].int64_param == 2
        assert set(message.parameters) == {"own", "sequence_id"}
        assert set(message.inputs[0].parameters) == {"extra"}


def test_the_gateways_own_parameters_stay_here() -> None:
    body = b"".join(BackendRequestEncoder().encode("a", "9", request()))
    message = pb.ModelInferRequest.FromString(bytes(unframe(body)))
    assert set(message.parameters) == {"own", "sequence_id"}
    assert message.model_version == "9"


@given(st.lists(st.integers(0, (1 << 35) - 1), min_size=2, max_size=2), st.integers(1, 3))
def test_an_execution_in_shared_memory_says_where_each_input_is(offsets: list[int], members: int) -> None:
    encoder = BackendRequestEncoder()
    sizes = (2 * members, 5 * members)
    for places in (offsets, offsets[::-1]):
        body = encoder.encode_placed(
            "m.v4", "1", request(members), "region", list(zip(places, sizes, strict=True))
        )  # fmt: skip
        message = pb.ModelInferRequest.FromString(bytes(unframe(body)))
        found = [{name: p.WhichOneof("parameter_choice") for name, p in t.parameters.items()} for t in message.inputs]
        assert all(kinds["shared_memory_offset"] == "int64_param" for kinds in found)
        assert [t.parameters["shared_memory_offset"].int64_param for t in message.inputs] == places
        assert [t.parameters["shared_memory_byte_size"].int64_param for t in message.inputs] == list(sizes)
        assert {t.parameters["shared_memory_region"].string_param for t in message.inputs} == {"region"}
        assert not message.raw_input_contents
        for tensor in message.inputs:
            for name in ("region", "offset", "byte_size"):
                del tensor.parameters[f"shared_memory_{name}"]
        plain = pb.ModelInferRequest.FromString(bytes(unframe(b"".join(encoder.encode("m.v4", "1", request(members))))))
        del plain.raw_input_contents[:]
        assert message == plain, "all else is the same"


def test_remembered_prefixes_are_bounded() -> None:
    encoder = BackendRequestEncoder(entries=8)
    for members in range(1, 60):
        encoder.encode("m.v4", "", request(members))
        encoder.encode_placed("m.v4", "", request(members), "region", [(0, 1), (1, 1)])
    assert len(encoder._known) <= 8
    assert len(encoder._placed) <= 8


def test_parameters_of_an_answer() -> None:
    message = pb.ModelInferResponse(model_name="m.v4", model_version="1", raw_output_contents=[b"12"])
    message.outputs.add(name="y", datatype="UINT8").shape.extend([1, 2])
    decoder = BackendResponseDecoder()
    assert decoder.decode(message.SerializeToString()).parameters is None
    message.parameters["triton_final_response"].bool_param = True
    assert decoder.decode(message.SerializeToString()).parameters is None
    message.parameters["tokens"].int64_param = 7
    message.parameters["why"].string_param = "stop"
    for _ in range(2):
        assert decoder.decode(message.SerializeToString()).parameters == {"tokens": 7, "why": "stop"}


def test_what_is_remembered_of_a_version_is_forgotten() -> None:
    encoder, decoder = BackendRequestEncoder(), BackendResponseDecoder()
    for name in ("m.v4", "m.v41"):
        encoder.encode(name, "1", request())
        encoder.encode_placed(name, "1", request(), "region", [(0, 1), (1, 1)])
        message = pb.ModelInferResponse(model_name=name, model_version="1", raw_output_contents=[b"12"])
        message.outputs.add(name="y", datatype="UINT8").shape.extend([1, 2])
        decoder.decode(message.SerializeToString())
    encoder.forget("m.v4")
    decoder.forget("m.v4")
    assert (len(encoder._known), len(encoder._placed), len(decoder._known)) == (1, 1, 1), (
        "what belongs to version 41 stays"
    )


def answer(cases: list[Case], *, typed: bool = False) -> pb.ModelInferResponse:
    fields = {"BOOL": "bool", "BYTES": "bytes", "FP32": "fp32", "FP64": "fp64", "INT64": "int64", "UINT64": "uint64"}
    message = pb.ModelInferResponse(model_name="m.v4", model_version="1", id="7")
    for case in cases:
        tensor = message.outputs.add(name=case.spec.name, datatype=case.spec.datatype.value)
        tensor.shape.extend(case.spec.shape)
        name = case.spec.datatype.value
        if typed:
            field = fields.get(name, "uint" if name[0] == "U" else "int")
            getattr(tensor.contents, f"{field}_contents").extend(case.values)
        else:
            message.raw_output_contents.append(case.raw)
    return message


@given(several(), st.booleans())
def test_answers(cases: list[Case], typed: bool) -> None:
    decoder = BackendResponseDecoder()
    data = answer(cases, typed=typed).SerializeToString()
    first = decoder.decode(data)
    for response in (first, decoder.decode_framed(frame(data)), decoder.decode_framed(memoryview(frame(data)))):
        assert response.outputs == tuple(case.spec for case in cases)
        assert [bytes(chunk) for chunk in response.data] == [case.raw for case in cases]
    if not typed:
        assert decoder.decode_framed(frame(data)).outputs is first.outputs


@given(st.binary(max_size=60))
def test_nonsense_is_the_backends_fault(data: bytes) -> None:
    decoder = BackendResponseDecoder()
    for body in (data, frame(data)):
        try:
            decoder.decode_framed(body)
        except GatewayError as error:
            if error.code is not ErrorCode.BACKEND_FAILED:
                raise
    with contextlib.suppress(GatewayError):
        assert decoder.decode(data).outputs == tuple(
            TensorSpec(t.name, DataType(t.datatype), tuple(t.shape))
            for t in pb.ModelInferResponse.FromString(data).outputs
        )


@pytest.mark.parametrize("change", ["raw", "datatype", "elements"])
def test_contradictions_are_the_backends_fault(change: str) -> None:
    message = pb.ModelInferResponse()
    tensor = message.outputs.add(name="y", datatype="FP32" if change != "datatype" else "FP33")
    tensor.shape.append(2)
    if change == "elements":
        tensor.contents.fp32_contents.append(1)
    else:
        message.raw_output_contents.extend([bytes(8)] * (2 if change == "raw" else 1))
    for _ in range(2):
        with pytest.raises(GatewayError) as caught:
            BackendResponseDecoder().decode(message.SerializeToString())
        assert caught.value.code is ErrorCode.BACKEND_FAILED
