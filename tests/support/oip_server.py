"""A few lines of Open Inference Protocol over REST (binary tensors) and gRPC, to test clients without a gateway.

Written on the standard library and grpcio, apart from the gateway's codecs, so that a shared mistake cannot hide.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from gateway._generated import open_inference_pb2 as pb

Array = NDArray[Any]
DTYPES = {"UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32}
HTTP_TO_GRPC = {404: grpc.StatusCode.NOT_FOUND, 503: grpc.StatusCode.UNAVAILABLE, 400: grpc.StatusCode.INVALID_ARGUMENT}


@dataclass
class Call:
    """One request as the server understood it; `classes` are the classification counts by output."""

    model: str
    inputs: dict[str, Array]
    outputs: list[str]
    classes: dict[str, int] = field(default_factory=dict)


class Refusal(Exception):
    """An error answer: HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


Respond = Callable[[Call], dict[str, Array | list[list[str]]]]


def raw_of(value: Array | list[list[str]]) -> tuple[str, list[int], bytes]:
    """Returns datatype, shape and raw bytes; lists of texts are BYTES."""
    if isinstance(value, list):
        texts = [text.encode() for row in value for text in row]
        raw = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        return "BYTES", [len(value), len(value[0])], raw
    name = next(name for name, dtype in DTYPES.items() if value.dtype == dtype)
    return name, list(value.shape), value.tobytes()


class OipServer:
    """Answers every request with `respond`; `rest` and `grpc` are its addresses. Use as a context manager."""

    def __init__(self, respond: Respond) -> None:
        self.calls: list[Call] = []
        self._respond = respond
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        method = grpc.unary_unary_rpc_method_handler(
            self._grpc_infer,
            request_deserializer=pb.ModelInferRequest.FromString,
            response_serializer=pb.ModelInferResponse.SerializeToString,
        )
        service = "inference.GRPCInferenceService"
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"ModelInfer": method}),))
        self.rest = f"127.0.0.1:{self._http.server_address[1]}"
        self.grpc = f"127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> OipServer:
        self._thread.start()
        self._grpc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._grpc.stop(None).wait()

    def _answer(self, call: Call) -> dict[str, tuple[str, list[int], bytes]]:
        self.calls.append(call)
        return {name: raw_of(value) for name, value in self._respond(call).items()}

    def _grpc_infer(self, request: Any, context: grpc.ServicerContext) -> Any:
        inputs = {
            tensor.name: np.frombuffer(raw, DTYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        classes = {
            output.name: output.parameters["classification"].int64_param
            for output in request.outputs
            if "classification" in output.parameters
        }
        try:
            found = self._answer(Call(request.model_name, inputs, [o.name for o in request.outputs], classes))
        except Refusal as refusal:
            context.abort(HTTP_TO_GRPC[refusal.status], str(refusal))
        response = pb.ModelInferResponse(model_name=request.model_name, model_version="7")
        for name, (datatype, shape, raw) in found.items():
            response.outputs.add(name=name, datatype=datatype, shape=shape)
            response.raw_output_contents.append(raw)
        return response

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    status, headers, content = 200, *_encode(outer._answer(_decode(self.path, self.headers, body)))
                except Refusal as refusal:
                    status, headers = refusal.status, {}
                    content = json.dumps({"error": str(refusal)}).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler


def _decode(path: str, headers: Any, body: bytes) -> Call:
    size = int(headers["Inference-Header-Content-Length"])
    head = json.loads(body[:size])
    inputs: dict[str, Array] = {}
    for tensor in head["inputs"]:
        end = size + tensor["parameters"]["binary_data_size"]
        inputs[tensor["name"]] = np.frombuffer(body[size:end], DTYPES[tensor["datatype"]]).reshape(tensor["shape"])
        size = end
    assert size == len(body)
    classes = {
        output["name"]: output["parameters"]["classification"]
        for output in head["outputs"]
        if "classification" in output["parameters"]
    }
    empty, v2, models, model, infer = path.split("/")
    assert (empty, v2, models, infer) == ("", "v2", "models", "infer")
    return Call(model, inputs, [output["name"] for output in head["outputs"]], classes)


def _encode(found: dict[str, tuple[str, list[int], bytes]]) -> tuple[dict[str, str], bytes]:
    outputs = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
        for name, (datatype, shape, raw) in found.items()
    ]
    head = json.dumps({"model_name": "m", "model_version": "7", "outputs": outputs}).encode()
    return {"Inference-Header-Content-Length": str(len(head))}, head + b"".join(raw for _, _, raw in found.values())
