"""Metadata, configuration, health and repository messages in both directions."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from gateway._generated import health_pb2
from gateway._generated import open_inference_pb2 as pb
from gateway._generated.model_config_pb2 import ModelConfig, ModelInput, ModelOutput, ModelSequenceBatching
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import ModelMetadata
from gateway.tensors import DataType, TensorSpec
from gateway.wire import json_control, proto_control
from gateway.wire.model_config import config_json, instance_count, model_metadata_from, unbatchable_reason

METADATA = ModelMetadata(
    "m", ("1", "2"), "onnx", (TensorSpec("x", DataType.FP32, (-1, 3)),), (TensorSpec("y", DataType.BYTES, (-1, 1)),)
)
CASES = ModelConfig(name="m", max_batch_size=8)
NONSENSE = b"\x0a\xff"


def tensors(*shapes: tuple[str, list[int]]) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [pb.ModelMetadataResponse.TensorMetadata(name=n, datatype="FP32", shape=s) for n, s in shapes]


def test_requests_of_callers() -> None:
    assert proto_control.decode_model_request(proto_control.encode_model_request("m", "3")) == ("m", "3")
    assert proto_control.decode_model_request(memoryview(proto_control.encode_model_request("m"))) == ("m", None)
    assert proto_control.decode_health_check(health_pb2.HealthCheckRequest(service="s").SerializeToString()) == "s"
    assert proto_control.decode_repository_index(proto_control.encode_repository_index_request(ready=True)) is True
    proto_control.check_empty_request(b"")


@pytest.mark.parametrize(
    "decode",
    [
        proto_control.decode_model_request,
        proto_control.decode_health_check,
        proto_control.decode_repository_index,
        proto_control.check_empty_request,
    ],
)
def test_malformed_requests(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(GatewayError) as caught:
        decode(NONSENSE)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "decode",
    [
        proto_control.decode_flag,
        proto_control.decode_repository_index_response,
        proto_control.decode_server_metadata,
        proto_control.decode_model_config,
        lambda data: proto_control.decode_model_metadata(data, b""),
    ],
)
def test_malformed_answers(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(GatewayError) as caught:
        decode(NONSENSE)
    assert caught.value.code is ErrorCode.BACKEND_FAILED


@pytest.mark.parametrize("value", [True, False])
def test_flags(value: bool) -> None:
    data = proto_control.encode_flag(value)
    assert pb.ServerLiveResponse.FromString(data).live is value
    assert pb.ServerReadyResponse.FromString(data).ready is value
    assert pb.ModelReadyResponse.FromString(data).ready is value
    assert proto_control.decode_flag(data) is value


@pytest.mark.parametrize(("serving", "name"), [(True, "SERVING"), (False, "NOT_SERVING"), (None, "UNKNOWN")])
def test_health(serving: bool | None, name: str) -> None:
    message = health_pb2.HealthCheckResponse.FromString(proto_control.encode_health(serving))
    assert health_pb2.HealthCheckResponse.ServingStatus.Name(message.status) == name


def test_server_metadata() -> None:
    data = proto_control.encode_server_metadata("sluice", "1", ["a", "b"])
    assert proto_control.decode_server_metadata(data) == ("sluice", "1", ("a", "b"))
    assert orjson.loads(json_control.server_metadata_json("sluice", "1", ("a",))) == {
        "name": "sluice",
        "version": "1",
        "extensions": ["a"],
    }


def test_model_metadata_survives_the_wire() -> None:
    found = proto_control.decode_model_metadata(
        proto_control.metadata_response(METADATA), proto_control.encode_config_response(ModelConfig(max_batch_size=0))
    )
    assert found == METADATA
    assert orjson.loads(json_control.metadata_json(METADATA)) == {
        "name": "m",
        "versions": ["1", "2"],
        "platform": "onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1, 1]}],
    }


def test_repository_index() -> None:
    models = [proto_control.ModelIndex("m", "1", "READY"), proto_control.ModelIndex("n", "", "UNAVAILABLE", "why")]
    assert proto_control.decode_repository_index_response(proto_control.encode_repository_index(models)) == models
    assert orjson.loads(json_control.repository_index_json(models)) == [
        {"name": "m", "version": "1", "state": "READY"},
        {"name": "n", "state": "UNAVAILABLE", "reason": "why"},
    ]
    assert json_control.decode_repository_index_json(b"") is False
    assert json_control.decode_repository_index_json(b'{"ready":true}') is True
    with pytest.raises(GatewayError):
        json_control.decode_repository_index_json(b"{")


def test_load_and_unload() -> None:
    big = bytes(300)
    pieces = proto_control.encode_load("m", "{}", {"1/model.py": b"x", "1/big": big, "1/empty": b""})
    assert any(piece is big for piece in pieces), "contents are not copied"
    load = pb.RepositoryModelLoadRequest.FromString(b"".join(pieces))
    wanted = pb.RepositoryModelLoadRequest(model_name="m")
    wanted.parameters["config"].string_param = "{}"
    for name, content in (("1/model.py", b"x"), ("1/big", big), ("1/empty", b"")):
        wanted.parameters[f"file:{name}"].bytes_param = content
    assert load == wanted
    bare = pb.RepositoryModelLoadRequest.FromString(b"".join(proto_control.encode_load("m")))
    assert not bare.parameters
    unload = pb.RepositoryModelUnloadRequest.FromString(proto_control.encode_unload("m", unload_dependents=True))
    assert unload.parameters["unload_dependents"].bool_param


def test_a_batchable_model() -> None:
    config = ModelConfig(
        name="m.v1", max_batch_size=8, input=[ModelInput(name="x"), ModelInput(name="o", optional=True)]
    )
    config.instance_group.add(count=2)
    config.instance_group.add(count=1).gpus.extend([0, 1])
    config.instance_group.add(count=5, passive=True)
    answer = pb.ModelMetadataResponse(
        name="m.v1", inputs=tensors(("x", [-1, 3]), ("o", [-1])), outputs=tensors(("y", [-1]))
    )
    found = model_metadata_from(answer, config)
    assert (found.max_batch_size, found.batchable, found.unbatchable_reason) == (8, True, "")
    assert found.optional_inputs == {"o"}
    assert found.instance_count == 4
    assert found.inputs[0] == TensorSpec("x", DataType.FP32, (-1, 3))


def test_instances_are_at_least_one() -> None:
    assert instance_count(ModelConfig()) == 1


UNBATCHABLE = [
    ("decoupled", lambda c: setattr(c.model_transaction_policy, "decoupled", True)),
    ("stateful", lambda c: c.sequence_batching.CopyFrom(ModelSequenceBatching())),
    ("'x' is ragged", lambda c: c.input.append(ModelInput(name="x", allow_ragged_batch=True))),
    ("'x' describes shapes", lambda c: c.input.append(ModelInput(name="x", is_shape_tensor=True))),
    ("'y' describes shapes", lambda c: c.output.append(ModelOutput(name="y", is_shape_tensor=True))),
    ("describe the batch", lambda c: c.batch_input.add()),
]


@pytest.mark.parametrize(("reason", "change"), UNBATCHABLE)
def test_unbatchable_models(reason: str, change: Callable[[ModelConfig], object]) -> None:
    config = ModelConfig(max_batch_size=4)
    assert unbatchable_reason(config) == ""
    change(config)
    assert reason in unbatchable_reason(config)
    inputs = tensors(("x", [2] if "'x' describes" in reason else [-1, 2]))
    found = model_metadata_from(pb.ModelMetadataResponse(name="m", inputs=inputs, outputs=tensors(("y", [-1]))), config)
    assert not found.batchable


def test_ensembles_may_be_batched() -> None:
    config = ModelConfig(max_batch_size=4)
    config.ensemble_scheduling.step.add(model_name="a")
    assert unbatchable_reason(config) == ""


@pytest.mark.parametrize("shape", [[], [8, 3]])
def test_a_missing_batch_dimension_is_refused(shape: list[int]) -> None:
    with pytest.raises(GatewayError, match="first dimension must be -1"):
        model_metadata_from(pb.ModelMetadataResponse(name="m", inputs=tensors(("x", shape))), CASES)


def test_an_unknown_datatype_is_refused() -> None:
    answer = pb.ModelMetadataResponse(name="m")
    answer.inputs.add(name="x", datatype="COMPLEX")
    with pytest.raises(GatewayError, match="COMPLEX"):
        model_metadata_from(answer, ModelConfig())


def test_config_json_has_field_names_and_defaults() -> None:
    document = orjson.loads(config_json(CASES))
    assert document["max_batch_size"] == 8
    assert document["input"] == []
    assert document["platform"] == ""
