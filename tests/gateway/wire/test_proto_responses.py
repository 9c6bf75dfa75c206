"""Answers over gRPC: what is written, the protobuf library reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway._generated import open_inference_pb2 as pb
from gateway.messages import InferResponse, ResponseHead
from gateway.tensors import DataType, TensorSpec
from gateway.wire.grpc_frames import unframe
from gateway.wire.proto_responses import encode_response, encode_response_framed
from tests.support.wire import Case, several


def check(body: bytes, head: ResponseHead, identifier: str, data: list[bytes]) -> None:
    message = pb.ModelInferResponse.FromString(bytes(unframe(body)))
    assert (message.model_name, message.model_version, message.id) == (head.model_name, head.model_version, identifier)
    found = tuple((tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in message.outputs)
    assert found == tuple((spec.name, spec.datatype.value, spec.shape) for spec in head.outputs)
    assert list(message.raw_output_contents) == data


@given(several(), st.text(max_size=8), st.booleans())
def test_round_trip(cases: list[Case], identifier: str, views: bool) -> None:
    head = ResponseHead("model", "12", tuple(case.spec for case in cases))
    data = [case.raw for case in cases]
    for name in (identifier, "", identifier):
        response = InferResponse(head, name, [memoryview(raw) for raw in data] if views else list(data))
        check(encode_response_framed(response), head, name, data)
        assert encode_response(response) == encode_response_framed(response)[5:]


def test_data_of_another_size_than_the_head_says_is_still_framed_right() -> None:
    head = ResponseHead("m", "1", (TensorSpec("y", DataType.FP32, (1,)), TensorSpec("z", DataType.FP32, (1,))))
    for data in ([b"1234", b"5678"], [b"1234", b"567"], [b"", b"5678"]):
        check(encode_response_framed(InferResponse(head, "", list(data))), head, "", data)
    single = ResponseHead("m", "1", (TensorSpec("y", DataType.FP32, (1,)),))
    for data in ([b"1234"], [b"123"]):
        check(encode_response_framed(InferResponse(single, "", list(data))), single, "", data)


def test_parameters() -> None:
    parameters = {"b": True, "i": -3, "u": 2**64 - 1, "s": "text", "f": 0.5, "no": False}
    message = pb.ModelInferResponse.FromString(
        encode_response(InferResponse(ResponseHead("m", "1", (), parameters), "", []))
    )
    found = {name: getattr(p, str(p.WhichOneof("parameter_choice"))) for name, p in message.parameters.items()}
    assert found == parameters
    assert message.parameters["no"].WhichOneof("parameter_choice") == "bool_param"
    assert message.parameters["u"].WhichOneof("parameter_choice") == "uint64_param"


def test_large_answers() -> None:
    head = ResponseHead("m", "1", (TensorSpec("y", DataType.UINT8, (1 << 20,)),))
    check(encode_response_framed(InferResponse(head, "", [bytes(1 << 20)])), head, "", [bytes(1 << 20)])
