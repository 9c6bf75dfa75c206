"""Requests with answers that are known beforehand, in the forms of all protocols; each differs from all others."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from gateway._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse

Tensor = tuple[str, str, tuple[int, ...], bytes, list[Any]]
"""Name, datatype, shape, raw little-endian bytes, flat JSON values."""

_NUMPY = {"INT32": np.dtype("<i4"), "FP32": np.dtype("<f4")}
_POOL = np.random.default_rng(7).integers(-1_000_000, 1_000_000, 4096, dtype=np.int32)


class Payload:
    """One request to `model` and the outputs it must have, as {name: (datatype, shape, raw bytes)}."""

    def __init__(
        self,
        model: str,
        rows: int,
        inputs: list[Tensor],
        outputs: dict[str, tuple[str, tuple[int, ...], bytes]],
        id_: str,
    ) -> None:
        self.model = model
        self.rows = rows
        self.inputs = inputs
        self.outputs = outputs
        self.id = id_

    # ------------------------------------------------------------------ gRPC

    def to_proto(self, message: ModelInferRequest) -> ModelInferRequest:
        message.model_name = self.model
        message.id = self.id
        for name, datatype, shape, raw, _ in self.inputs:
            message.inputs.add(name=name, datatype=datatype, shape=shape)
            message.raw_input_contents.append(raw)
        return message

    def check_proto(self, data: bytes) -> None:
        answer = ModelInferResponse.FromString(data)
        assert answer.id == self.id, f"id {answer.id} instead of {self.id}"
        assert len(answer.outputs) == len(answer.raw_output_contents)
        self.check(
            {
                output.name: (output.datatype, tuple(output.shape), raw)
                for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
            }
        )

    # ------------------------------------------------------------------ REST

    def to_rest(self, *, binary: bool) -> tuple[bytes, int | None]:
        """Returns the body, and the length of its JSON part where it has a binary one."""
        inputs: list[dict[str, Any]] = []
        for name, datatype, shape, raw, values in self.inputs:
            entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
            entry |= {"parameters": {"binary_data_size": len(raw)}} if binary else {"data": values}
            inputs.append(entry)
        request: dict[str, Any] = {"id": self.id, "inputs": inputs}
        if not binary:
            return orjson.dumps(request), None
        head = orjson.dumps({**request, "parameters": {"binary_data_output": True}})
        return b"".join([head, *(tensor[3] for tensor in self.inputs)]), len(head)

    def check_rest(self, body: bytes, header_length: int | None) -> None:
        answer = orjson.loads(body[:header_length] if header_length is not None else body)
        assert answer["id"] == self.id, f"id {answer['id']} instead of {self.id}"
        position = header_length or 0
        found = {}
        for output in answer["outputs"]:
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None:
                raw = to_raw(output["datatype"], output["data"])
            else:
                raw = body[position : position + size]
                position += size
            found[output["name"]] = (output["datatype"], tuple(output["shape"]), raw)
        assert header_length is None or position == len(body), "bytes left over"
        self.check(found)

    def check(self, found: dict[str, tuple[str, tuple[int, ...], bytes]]) -> None:
        assert found == self.outputs, f"request {self.id}: {found!s:.300} instead of {self.outputs!s:.300}"


def to_raw(datatype: str, values: list[Any]) -> bytes:
    """Returns flat JSON values as raw bytes."""
    if datatype == "BYTES":
        return b"".join(len(data).to_bytes(4, "little") + data for data in (value.encode() for value in values))
    return np.array(values, dtype=_NUMPY[datatype]).tobytes()


def add_sub(rng: random.Random, serial: int, model: str) -> Payload:
    """1 to 8 rows; sum and difference."""
    rows = 1 + int(8 * rng.random() ** 2)
    size = 16 * rows
    start, other = int((4096 - size) * rng.random()), int((4096 - size) * rng.random())
    a = _POOL[start : start + size] + np.int32(serial)
    b = _POOL[other : other + size]
    shape = (rows, 16)
    inputs: list[Tensor] = [
        ("A", "INT32", shape, a.tobytes(), a.tolist()),
        ("B", "INT32", shape, b.tobytes(), b.tolist()),
    ]
    outputs = {"SUM": ("INT32", shape, (a + b).tobytes()), "DIFFERENCE": ("INT32", shape, (a - b).tobytes())}
    return Payload(model, rows, inputs, outputs, str(serial))


def identity(rng: random.Random, serial: int, model: str) -> Payload:
    """1 to 32 rows of floats, of texts, or of both; what comes back is what was sent."""
    rows = 1 + int(32 * rng.random() ** 3)
    kind = rng.choice(["floats", "texts", "both"])
    inputs: list[Tensor] = []
    outputs = {}
    if kind != "texts":
        shape = (rows, rng.randint(1, 3))
        start = rng.randrange(4000)
        values = (_POOL[start : start + shape[0] * shape[1]] + np.int32(serial)).astype(np.float32) / np.float32(8)
        inputs.append(("FP32_IN", "FP32", shape, values.tobytes(), values.tolist()))
        outputs["FP32_OUT"] = ("FP32", shape, values.tobytes())
    if kind != "floats":
        shape = (rows, rng.randint(1, 2))
        texts = [f"{serial}ä{'x' * (7 * i % 31)}" for i in range(shape[0] * shape[1])]
        texts[rng.randrange(len(texts))] = ""
        raw = to_raw("BYTES", texts)
        inputs.append(("BYTES_IN", "BYTES", shape, raw, texts))
        outputs["BYTES_OUT"] = ("BYTES", shape, raw)
    return Payload(model, rows, inputs, outputs, str(serial))


MODELS: dict[str, Callable[[random.Random, int, str], Payload]] = {"add_sub": add_sub, "identity": identity}
