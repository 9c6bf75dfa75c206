"""What each gRPC method does, in message bytes, for both gRPC engines.

An engine hands over the method's path, the bare message, the headers and a way to reply; it gets back the pending
request (to withdraw it when the caller leaves) or None where the answer was given at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from gateway._generated.model_config_pb2 import ModelConfig
from gateway.engine.service import InferService, PendingRequest
from gateway.errors import ErrorCode, GatewayError
from gateway.frontends.context import ContextFactory
from gateway.frontends.server_info import ServerInfo
from gateway.messages import InferRequest, InferResponse, Nanos
from gateway.tensors import Buffer
from gateway.wire import proto_control as codec
from gateway.wire.proto_requests import RequestDecoder
from gateway.wire.statistics import statistics_message

Headers = Mapping[bytes, bytes]
INFER = b"/inference.GRPCInferenceService/ModelInfer"


class GrpcReply(Protocol):
    """The way back to one gRPC caller; exactly one of the methods is called."""

    def succeed(self, response: InferResponse) -> None: ...

    def message(self, data: bytes) -> None: ...

    def fail(self, error: GatewayError) -> None: ...


class GrpcHandlers:
    """Dispatches by path. `handle` never raises: every failure goes to the reply."""

    def __init__(self, service: InferService, contexts: ContextFactory, info: ServerInfo) -> None:
        self._service = service
        self._contexts = contexts
        self.decoder = RequestDecoder()
        inference, health = b"/inference.GRPCInferenceService/", b"/grpc.health.v1.Health/"
        self._methods: dict[bytes, Callable[[Buffer], bytes]] = {
            inference + b"ServerLive": _of_nothing(lambda: codec.encode_flag(True)),
            inference + b"ServerReady": _of_nothing(lambda: codec.encode_flag(service.server_ready())),
            inference + b"ModelReady": self._model_ready,
            inference + b"ServerMetadata": _of_nothing(
                lambda: codec.encode_server_metadata(info.name, info.version, info.extensions)
            ),
            inference + b"ModelMetadata": self._model_metadata,
            inference + b"ModelConfig": self._model_config,
            inference + b"RepositoryIndex": self._repository_index,
            inference + b"ModelStatistics": self._statistics,
            health + b"Check": self._health,
        }
        self.paths = frozenset({INFER, *self._methods})
        """The methods that there are, all of them unary."""

    def handle(
        self, path: bytes, message: Buffer, headers: Headers, timeout: Nanos | None, reply: GrpcReply
    ) -> PendingRequest | None:
        """Serves one unary call; see the module."""
        try:
            if path == INFER:
                try:
                    request = self.decoder.decode(message)
                except GatewayError as error:
                    self.refused(error)
                    raise
                return self.infer(request, headers, timeout, reply)
            method = self._methods.get(path)
            if method is None:
                raise GatewayError(ErrorCode.UNSUPPORTED, f"method {_shown(path)} is not supported")
            reply.message(method(message))
        except GatewayError as error:
            reply.fail(error)
        return None

    def infer(self, request: InferRequest, headers: Headers, timeout: Nanos | None, reply: GrpcReply) -> PendingRequest:
        """Submits a decoded inference. Raises GatewayError when it is refused."""
        head = request.head
        try:
            context = self._contexts.make(head.parameters, headers, "grpc", timeout, head.model_name)
        except GatewayError as error:
            self.refused(error, head.model_name)
            raise
        return self._service.submit(request, context, reply)

    def refused(self, error: GatewayError, model_name: str = "") -> None:
        """Counts an inference that could not be read."""
        self._service.refused(error, "grpc", model_name)

    def _model_ready(self, message: Buffer) -> bytes:
        """As Triton does, a model or version that is not there is "not ready" and no error."""
        name, version = codec.decode_model_request(message)
        try:
            return codec.encode_flag(self._service.model_ready(name, version))
        except GatewayError as error:
            if error.code is not ErrorCode.MODEL_NOT_FOUND:
                raise
            return codec.encode_flag(False)

    def _model_metadata(self, message: Buffer) -> bytes:
        return codec.metadata_response(self._service.metadata(*codec.decode_model_request(message)))

    def _model_config(self, message: Buffer) -> bytes:
        metadata = self._service.metadata(*codec.decode_model_request(message))
        return codec.encode_config_response(ModelConfig.FromString(metadata.config))

    def _statistics(self, message: Buffer) -> bytes:
        return statistics_message(self._service.statistics(*codec.decode_model_request(message)))

    def _repository_index(self, message: Buffer) -> bytes:
        only_ready = codec.decode_repository_index(message)
        rows = [codec.ModelIndex(*row) for row in self._service.index()]
        return codec.encode_repository_index([row for row in rows if row.state == "READY" or not only_ready])

    def _health(self, message: Buffer) -> bytes:
        """The standard health service: "" is the server, a model's name is that model."""
        name = codec.decode_health_check(message)
        if name in ("", codec.SERVICE, codec.HEALTH_SERVICE):
            return codec.encode_health(self._service.server_ready())
        return codec.encode_health(self._service.model_ready(name, None))


def _of_nothing(answer: Callable[[], bytes]) -> Callable[[Buffer], bytes]:
    """Returns the method whose request has no fields."""

    def method(message: Buffer) -> bytes:
        codec.check_empty_request(message)
        return answer()

    return method


def _shown(path: bytes) -> str:
    return path[:100].decode("latin-1")
