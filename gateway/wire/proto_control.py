"""The small messages of both gRPC roles: health, metadata, configuration, repository. Bytes in, nouns out, and back.

Requests of callers that are malformed raise INVALID_REQUEST; answers of Triton that are malformed raise BACKEND_FAILED.
Nothing here is on the hot path, so the protobuf library does all the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from gateway._generated import health_pb2
from gateway._generated import open_inference_pb2 as pb
from gateway._generated.model_config_pb2 import ModelConfig
from gateway.errors import ErrorCode, GatewayError, invalid
from gateway.messages import ModelMetadata
from gateway.tensors import Buffer, TensorSpec
from gateway.wire.model_config import model_metadata_from
from gateway.wire.wire_format import delimited, varint

M = TypeVar("M", bound=Message)

SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"


@dataclass(frozen=True, slots=True)
class ModelIndex:
    """One line of a repository index; `version` and `reason` may be empty, `state` is Triton's spelling."""

    name: str
    version: str
    state: str
    reason: str = ""


# ---- The gateway as server: requests in ----


def decode_model_request(message: Buffer) -> tuple[str, str | None]:
    """Returns (model name, version or None) of a ModelReady, ModelMetadata, ModelConfig or ModelStatistics request."""
    request = _request(pb.ModelReadyRequest, message)
    return request.name, request.version or None


def decode_health_check(message: Buffer) -> str:
    """Returns the service that a health check asks about; empty for the whole server."""
    return _request(health_pb2.HealthCheckRequest, message).service


def decode_repository_index(message: Buffer) -> bool:
    """Returns whether only models that are ready are asked for."""
    return _request(pb.RepositoryIndexRequest, message).ready


def check_empty_request(message: Buffer) -> None:
    """Checks a request without fields (ServerLive, ServerReady, ServerMetadata)."""
    _request(pb.ServerLiveRequest, message)


# ---- The gateway as server: answers out ----


def encode_flag(value: bool) -> bytes:
    """Returns a ServerLive, ServerReady or ModelReady response: they all are one boolean."""
    return _encoded(pb.ServerLiveResponse(live=value))


def encode_server_metadata(name: str, version: str, extensions: Sequence[str]) -> bytes:
    """Returns a ServerMetadataResponse."""
    return _encoded(pb.ServerMetadataResponse(name=name, version=version, extensions=extensions))


def metadata_response(metadata: ModelMetadata) -> bytes:
    """Returns a ModelMetadataResponse."""
    return _encoded(
        pb.ModelMetadataResponse(
            name=metadata.name,
            versions=metadata.versions,
            platform=metadata.platform,
            inputs=[_tensor(spec) for spec in metadata.inputs],
            outputs=[_tensor(spec) for spec in metadata.outputs],
        )
    )


def encode_health(serving: bool | None) -> bytes:
    """Returns a HealthCheckResponse; None says UNKNOWN."""
    status = health_pb2.HealthCheckResponse.UNKNOWN
    if serving is not None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    return _encoded(health_pb2.HealthCheckResponse(status=status))


def encode_repository_index(models: Iterable[ModelIndex]) -> bytes:
    """Returns a RepositoryIndexResponse."""
    entries = [
        pb.RepositoryIndexResponse.ModelIndex(name=m.name, version=m.version, state=m.state, reason=m.reason)
        for m in models
    ]
    return _encoded(pb.RepositoryIndexResponse(models=entries))


def encode_config_response(config: ModelConfig) -> bytes:
    """Returns a ModelConfigResponse."""
    return _encoded(pb.ModelConfigResponse(config=config))


# ---- The gateway as Triton's client ----


def encode_model_request(name: str, version: str = "") -> bytes:
    """Returns a ModelReady, ModelMetadata, ModelConfig or ModelStatistics request."""
    return _encoded(pb.ModelReadyRequest(name=name, version=version))


def encode_load(name: str, config: str | None = None, files: Mapping[str, Buffer] | None = None) -> list[Buffer]:
    """Returns a RepositoryModelLoadRequest, in pieces to be sent one after the other; with `config` (JSON) and `files`
    (path below the model to content) it pushes a model that need not be on Triton's disk. Triton refuses files without
    a config. Contents are pieces themselves: they may have gigabytes, and copying those would hold up the event loop.
    """
    request = pb.RepositoryModelLoadRequest(model_name=name)
    if config is not None:
        request.parameters["config"].string_param = config
    pieces: list[Buffer] = [_encoded(request)]
    for path, content in (files or {}).items():
        value = b"\x22" + varint(len(content))  # ModelRepositoryParameter.bytes_param
        entry = delimited(0x0A, f"file:{path}".encode()) + b"\x12" + varint(len(value) + len(content)) + value
        pieces += (b"\x1a" + varint(len(entry) + len(content)) + entry, content)
    return pieces


def encode_unload(name: str, *, unload_dependents: bool = False) -> bytes:
    """Returns a RepositoryModelUnloadRequest."""
    request = pb.RepositoryModelUnloadRequest(model_name=name)
    if unload_dependents:
        request.parameters["unload_dependents"].bool_param = True
    return _encoded(request)


def encode_shared_memory(name: str, nbytes: int) -> bytes:
    """Returns a SystemSharedMemoryRegisterRequest for the whole of a file of that name, as shm_open(3) knows it."""
    return _encoded(pb.SystemSharedMemoryRegisterRequest(name=name, key=f"/{name}", byte_size=nbytes))


def encode_repository_index_request(*, ready: bool = False) -> bytes:
    """Returns a RepositoryIndexRequest; `ready` asks only for models that are ready."""
    return _encoded(pb.RepositoryIndexRequest(ready=ready))


def encode_statistics_request(name: str = "", version: str = "") -> bytes:
    """Returns a ModelStatisticsRequest; without a name it asks for all models."""
    return _encoded(pb.ModelStatisticsRequest(name=name, version=version))


def decode_statistics_names(message: Buffer) -> list[str]:
    """Returns the names in Triton's statistics: every model that is loaded, also those pushed over the API."""
    return [model.name for model in _answer(pb.ModelStatisticsResponse, message).model_stats]


def decode_flag(message: Buffer) -> bool:
    """Returns the answer to ServerLive, ServerReady or ModelReady."""
    return _answer(pb.ServerLiveResponse, message).live


def decode_repository_index_response(message: Buffer) -> list[ModelIndex]:
    """Returns the lines of Triton's repository index."""
    models = _answer(pb.RepositoryIndexResponse, message).models
    return [ModelIndex(m.name, m.version, m.state, m.reason) for m in models]


def decode_server_metadata(message: Buffer) -> tuple[str, str, tuple[str, ...]]:
    """Returns Triton's (name, version, extensions)."""
    answer = _answer(pb.ServerMetadataResponse, message)
    return answer.name, answer.version, tuple(answer.extensions)


def decode_model_config(message: Buffer) -> ModelConfig:
    """Returns the configuration in a ModelConfigResponse."""
    return _answer(pb.ModelConfigResponse, message).config


def decode_model_metadata(metadata: Buffer, config: Buffer) -> ModelMetadata:
    """Returns the noun for Triton's ModelMetadataResponse and ModelConfigResponse of one model (both as bytes)."""
    return model_metadata_from(_answer(pb.ModelMetadataResponse, metadata), decode_model_config(config))


def _request(kind: type[M], message: Buffer) -> M:
    try:
        parsed: M = kind.FromString(bytes(message))
    except DecodeError:
        raise invalid(f"the request is not a valid {kind.DESCRIPTOR.name} message") from None
    return parsed


def _answer(kind: type[M], message: Buffer) -> M:
    try:
        parsed: M = kind.FromString(bytes(message))
    except DecodeError:
        raise GatewayError(
            ErrorCode.BACKEND_FAILED, f"the backend's answer is not a valid {kind.DESCRIPTOR.name} message"
        ) from None
    return parsed


def _encoded(message: Message) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


def _tensor(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype.value, shape=spec.shape)
