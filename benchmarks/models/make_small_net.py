"""Writes the benchmark's small network, 32-256-128-64-1 with ReLU, as ONNX: seeded, so the file never changes.

    python benchmarks/models/make_small_net.py

Needs numpy only: the few protobuf fields of ONNX that matter are written by hand (field numbers from onnx.proto3).
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

SIZES = (32, 256, 128, 64, 1)
SEED = 20261124
TARGET = Path(__file__).parent / "small_net" / "1" / "artifacts" / "onnx" / "model.onnx"
_FLOAT = 1
_OPSET = 17
_IR_VERSION = 8


def varint(number: int) -> bytes:
    pieces = bytearray()
    while number > 0x7F:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    pieces.append(number)
    return bytes(pieces)


def integer(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(data)) + data


def node(operator: str, inputs: list[str], output: str) -> bytes:
    return b"".join(block(1, name) for name in inputs) + block(2, output) + block(3, output) + block(4, operator)


def initializer(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(integer(1, size) for size in values.shape)
    return dims + integer(2, _FLOAT) + block(8, name) + block(9, values.astype("<f4").tobytes())


def value_info(name: str, width: int) -> bytes:
    shape = block(1, block(2, "N")) + block(1, integer(1, width))
    return block(1, name) + block(2, block(1, integer(1, _FLOAT) + block(2, shape)))


def small_net() -> bytes:
    """Returns the network as a serialized ONNX ModelProto: input X [N,32] FP32, output Y [N,1] FP32."""
    generator = np.random.default_rng(SEED)
    graph, before = b"", "X"
    for layer, (rows, columns) in enumerate(itertools.pairwise(SIZES)):
        weight = generator.normal(0.0, np.sqrt(2.0 / rows), (rows, columns))
        bias = generator.normal(0.0, 0.1, columns)
        last = layer == len(SIZES) - 2
        result = "Y" if last else f"dense{layer}"
        graph += block(1, node("Gemm", [before, f"weight{layer}", f"bias{layer}"], result))
        graph += block(5, initializer(f"weight{layer}", weight)) + block(5, initializer(f"bias{layer}", bias))
        if not last:
            graph += block(1, node("Relu", [result], f"relu{layer}"))
        before = f"relu{layer}"
    graph += block(2, "small_net") + block(11, value_info("X", SIZES[0])) + block(12, value_info("Y", SIZES[-1]))
    opset = block(8, block(1, "") + integer(2, _OPSET))
    return integer(1, _IR_VERSION) + block(2, "sluice") + block(7, graph) + opset


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(small_net())
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")
