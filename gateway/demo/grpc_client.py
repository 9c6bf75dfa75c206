"""The Open Inference Protocol over gRPC, on grpcio and the gateway's own message classes."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

import grpc
import numpy as np

from gateway._generated import open_inference_pb2
from gateway.demo.client import (
    REFUSED,
    TIMEOUT_S,
    UNREACHABLE,
    Answer,
    Array,
    DemoError,
    datatype_of,
    decode_raw,
    refused,
    unreachable,
)

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_CONNECT_S = 5.0
# A proxy of the environment is meant for the web, and messages are as large as the gateway allows.
_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


class GrpcClient:
    """One channel to a gateway's gRPC port. Implements `client.InferClient`."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._call = self._channel.unary_unary(
            _METHOD,
            request_serializer=open_inference_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=open_inference_pb2.ModelInferResponse.FromString,
        )

    def infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str], class_counts: Mapping[str, int]
    ) -> Answer:
        """Returns the answer. Raises DemoError."""
        # grpcio retries a refused connection for a while; asking the socket first gives a plain answer at once.
        try:
            socket.create_connection((self._host, self._port), timeout=_CONNECT_S).close()
        except OSError as error:
            raise unreachable(self._host, self._port, error) from error
        try:
            response = self._call(_encode(model, inputs, outputs, class_counts), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._translated(model, error) from error
        try:
            return Answer(
                response.model_version,
                {
                    tensor.name: decode_raw(tensor.datatype, tensor.shape, raw)
                    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True)
                },
            )
        except ValueError as error:
            raise DemoError(REFUSED, f"the gateway's answer is not understood: {error}") from error

    def close(self) -> None:
        self._channel.close()

    def _translated(self, model: str, error: grpc.RpcError) -> DemoError:
        status, details = error.code(), error.details() or ""
        if status is grpc.StatusCode.UNAVAILABLE and "connect" in details:
            return DemoError(UNREACHABLE, f"what answers at {self._host}:{self._port} speaks no gRPC: {details}")
        return refused(model, status.name, details, missing=status is grpc.StatusCode.NOT_FOUND)


def _encode(
    model: str, inputs: Mapping[str, Array], outputs: Sequence[str], class_counts: Mapping[str, int]
) -> open_inference_pb2.ModelInferRequest:
    request = open_inference_pb2.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        request.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
    for name in outputs:
        wanted = request.outputs.add(name=name)
        if name in class_counts:
            wanted.parameters["classification"].int64_param = class_counts[name]
    return request
