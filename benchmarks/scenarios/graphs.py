"""The graphs of the scenarios that no demo model covers: seeded, so the same everywhere; no accuracy is claimed.

`corner_mean`: a cheap model that takes a whole picture (150 KB UINT8) and looks at one corner: carrying it is what
costs. `picture_net`: a convolutional network (about 0.27 G multiply-adds) on 600 KB FP32 pictures. `bert_shape`:
BERT-base's shape (12 layers, 768 wide, 12 heads) in INT8, quantize/dequantize pairs around every weight product; its
table has 1,000 words instead of 30,522, which saves disk and changes no matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.scenarios.onnx_writer import Graph

SEED = 20261124
LAYERS, WIDTH, HEADS, INNER, WORDS, MOST_TOKENS = 12, 768, 12, 3072, 1000, 512


def corner_mean() -> bytes:
    """Input `image` UINT8 [N,224,224,3], output `mean` FP32 [N,3]: the mean colour of an 8x8 corner."""
    graph = Graph("corner_mean")
    graph.input("image", "uint8", ["N", 224, 224, 3])
    bounds = [graph.weight(np.array(values, np.int64)) for values in ([0, 0], [8, 8], [1, 2])]
    corner = graph.node("Cast", graph.node("Slice", "image", *bounds), to=1)
    graph.node("ReduceMean", corner, name="mean", axes=[1, 2], keepdims=0)
    graph.output("mean", ["N", 3])
    return graph.serialize()


def picture_net() -> bytes:
    """Input `image` FP32 [N,3,224,224], output `scores` FP32 [N,1000]."""
    random = np.random.default_rng(SEED)
    graph = Graph("picture_net")
    value = graph.input("image", "float32", ["N", 3, 224, 224])
    before = 3
    steps = [(32, 7, 4), (64, 3, 2), *[(64, 3, 1)] * 4, (128, 3, 2), *[(128, 3, 1)] * 4]
    for channels, size, stride in steps:
        spread = np.sqrt(2.0 / (before * size * size))
        weight = random.normal(0, spread, (channels, before, size, size)).astype(np.float32)
        bias = graph.weight(np.zeros(channels, np.float32))
        value = graph.node(
            "Conv", value, graph.weight(weight), bias,
            kernel_shape=[size, size], strides=[stride, stride], pads=[size // 2] * 4,
        )  # fmt: skip
        value = graph.node("Relu", value)
        before = channels
    value = graph.node("ReduceMean", value, axes=[2, 3], keepdims=0)
    weight = random.normal(0, np.sqrt(1 / before), (before, 1000)).astype(np.float32)
    graph.node("Gemm", value, graph.weight(weight), graph.weight(np.zeros(1000, np.float32)), name="scores")
    graph.output("scores", ["N", 1000])
    return graph.serialize()


class _Bert:
    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.random = np.random.default_rng(SEED)
        self.graph = Graph("bert_shape")

    def constant(self, value: float) -> str:
        return self.graph.weight(np.array(value, np.float32))

    def build(self) -> bytes:
        graph, random = self.graph, self.random
        graph.input("input_ids", "int64", ["N", "L"])
        table = graph.weight(random.normal(0, 1, (WORDS, WIDTH)).astype(np.float32))
        value = self.norm(graph.node("Gather", table, "input_ids"))
        for _ in range(self.layers):
            value = self.layer(value)
        first = graph.node("Gather", value, graph.weight(np.array(0, np.int64)), axis=1)
        graph.node("Tanh", self.product(first, WIDTH, WIDTH, 6.0), name="pooled")
        graph.output("pooled", ["N", WIDTH])
        return graph.serialize()

    def layer(self, value: str) -> str:
        node = self.graph.node
        quantized = self.quantized(value, 6.0)
        query, key, content = (self.heads(self.dense(quantized, WIDTH, WIDTH), turn) for turn in ([0, 2, 1, 3],) * 3)
        turned = node("Transpose", key, perm=[0, 1, 3, 2])
        scores = node("Mul", node("MatMul", query, turned), self.constant((WIDTH // HEADS) ** -0.5))
        mixed = node("Transpose", node("MatMul", node("Softmax", scores, axis=-1), content), perm=[0, 2, 1, 3])
        joined = node("Reshape", mixed, self.graph.weight(np.array([0, 0, WIDTH], np.int64)))
        value = self.norm(node("Add", value, self.product(joined, WIDTH, WIDTH, 3.0)))
        inner = self.product(value, WIDTH, INNER, 6.0)
        bent = node("Erf", node("Mul", inner, self.constant(2**-0.5)))
        gelu = node("Mul", node("Mul", inner, node("Add", bent, self.constant(1.0))), self.constant(0.5))
        return self.norm(node("Add", value, self.product(gelu, INNER, WIDTH, 4.0)))

    def heads(self, value: str, turn: list[int]) -> str:
        shape = self.graph.weight(np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
        return self.graph.node("Transpose", self.graph.node("Reshape", value, shape), perm=turn)

    def norm(self, value: str) -> str:
        ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
        weights = self.graph.weight(ones), self.graph.weight(zeros)
        return self.graph.node("LayerNormalization", value, *weights, axis=-1, epsilon=1e-12)

    def quantized(self, value: str, reach: float) -> str:
        """Activations as UINT8 around 128, `reach` being the largest magnitude that is told apart."""
        scale, zero = self.constant(reach / 127), self.graph.weight(np.array(128, np.uint8))
        return self.graph.node("DequantizeLinear", self.graph.node("QuantizeLinear", value, scale, zero), scale, zero)

    def product(self, value: str, rows: int, columns: int, reach: float) -> str:
        return self.dense(self.quantized(value, reach), rows, columns)

    def dense(self, quantized: str, rows: int, columns: int) -> str:
        """Times a matrix of INT8 weights, one scale a column, symmetric; plus a bias."""
        weights: Any = self.random.integers(-127, 128, (rows, columns), dtype=np.int8)
        scales = np.full(columns, 0.02 * np.sqrt(3) / 127, np.float32)
        matrix = self.graph.node(
            "DequantizeLinear", self.graph.weight(weights), self.graph.weight(scales),
            self.graph.weight(np.zeros(columns, np.int8)), axis=1,
        )  # fmt: skip
        bias = self.graph.weight(np.zeros(columns, np.float32))
        return self.graph.node("Add", self.graph.node("MatMul", quantized, matrix), bias)


def bert_shape(layers: int = LAYERS) -> bytes:
    """Input `input_ids` INT64 [N,L], output `pooled` FP32 [N,768]."""
    return _Bert(layers).build()
