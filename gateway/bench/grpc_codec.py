"""gRPC messages of the generator. Apart from the rest because the generated code cannot share a process with
tritonclient: both register a file `model_config.proto`. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway._generated import open_inference_pb2 as pb
from gateway.bench.answers import Outputs, array_of
from gateway.bench.encoding import grpc_frame
from gateway.bench.payload import Tensor
from gateway.tensors import Buffer

_TYPED = {
    "bool_contents": "?", "int_contents": "<i4", "int64_contents": "<i8", "uint_contents": "<u4",
    "uint64_contents": "<u8", "fp32_contents": "<f4", "fp64_contents": "<f8",
}  # fmt: skip


def grpc_infer(model: str, version: str, tensors: Sequence[Tensor]) -> bytes:
    """Returns a framed ModelInferRequest with raw contents."""
    request = pb.ModelInferRequest(model_name=model, model_version=version)
    for tensor in tensors:
        entry = request.inputs.add(name=tensor.spec.name, datatype=tensor.spec.datatype.value)
        entry.shape.extend(tensor.spec.shape)
        request.raw_input_contents.append(tensor.raw)
    return grpc_frame(request.SerializeToString())


def decode_grpc(body: Buffer, _: int | None = None) -> Outputs:
    """Returns the outputs of a framed ModelInferResponse. Raises ValueError (or protobuf's own) if it is none."""
    response = pb.ModelInferResponse.FromString(bytes(body[5:]))
    found: Outputs = {}
    for index, output in enumerate(response.outputs):
        if index < len(response.raw_output_contents):
            raw = response.raw_output_contents[index]
            found[output.name] = array_of(output.datatype, tuple(output.shape), raw)
            continue
        if output.contents.bytes_contents:
            found[output.name] = list(output.contents.bytes_contents)
            continue
        name = next((name for name in _TYPED if getattr(output.contents, name)), "fp32_contents")
        values = np.array(list(getattr(output.contents, name)), _TYPED[name])
        found[output.name] = values.reshape(tuple(output.shape))
    return found
