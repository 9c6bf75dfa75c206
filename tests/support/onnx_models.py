"""Small ONNX models with seeded weights, and rows with labels that they mostly get right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantize.runtimes import OnnxRuntime

CLASSES = 5


class Builder:
    """Collects nodes and weights; every method returns the name of the value it made."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, *shape: int, scale: float = 1.0) -> str:
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
        values = self.rng.normal(size=shape) * scale / np.sqrt(fan)
        return self.constant(name, values.astype(np.float32))

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{name}.node", **attributes))
        return name

    def model(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], opset: int = 17
    ) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "test", inputs, outputs, self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(made)
        return made


def value(name: str, kind: int, *dims: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(dims))


def cnn(*, norm: bool = False, opset: int = 17, rows: int | str = "rows") -> onnx.ModelProto:
    """FP32 [rows, 3, 12, 12] to FP32 [rows, 5]: convolutions, a residual sum, pooling, a matrix product."""
    b = Builder()
    x = b.node("Conv", ["x", b.weight("w0", 16, 3, 3, 3)], "c0", pads=[1, 1, 1, 1])
    if norm:
        stats = [b.constant(n, np.abs(b.rng.normal(size=16)).astype(np.float32) + 0.5) for n in ("g", "b", "m", "v")]
        x = b.node("BatchNormalization", [x, *stats], "bn")
    x = b.node("Relu", [x], "r0")
    y = b.node("Conv", [x, b.weight("w1", 16, 16, 3, 3), b.weight("b1", 16)], "c1", pads=[1, 1, 1, 1])
    x = b.node("Relu", [b.node("Add", [y, x], "sum")], "r1")
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x], "pool")], "flat")
    b.node("Gemm", [x, b.weight("w2", CLASSES, 16, scale=4), b.weight("b2", CLASSES)], "logits", transB=1)
    made = b.model(
        [value("x", TensorProto.FLOAT, rows, 3, 12, 12)], [value("logits", TensorProto.FLOAT, rows, CLASSES)], opset
    )
    return fitted(made, "flat", "w2", "b2") if rows == "rows" else made


def fitted(model: onnx.ModelProto, features: str, weight: str, bias: str) -> onnx.ModelProto:
    """Returns the model with its last layer fitted (ridge regression) to the classes of `rows_for`."""
    rows, truth = classed_rows(model, 400, 5)
    watched = onnx.ModelProto.FromString(model.SerializeToString())
    watched.graph.output.append(helper.make_tensor_value_info(features, TensorProto.FLOAT, None))
    found = OnnxRuntime(watched.SerializeToString(), [features]).run(rows)[features]
    x = np.hstack([found, np.ones((len(found), 1), np.float32)]).astype(np.float64)
    solved = np.linalg.solve(x.T @ x + 1e-3 * np.eye(x.shape[1]), x.T @ (np.eye(CLASSES)[truth] * 8.0 - 4.0))
    for tensor in model.graph.initializer:
        if tensor.name == weight:
            shape = tuple(tensor.dims)
            values = solved[:-1] if shape[0] == found.shape[1] else solved[:-1].T
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), weight))
        elif tensor.name == bias:
            tensor.CopyFrom(numpy_helper.from_array(solved[-1].astype(np.float32), bias))
    return model


def with_outlier_channel(model: onnx.ModelProto, factor: float = 3000.0) -> onnx.ModelProto:
    """Returns `cnn` computing the same with one channel `factor` times as large: ruinous for one scale a tensor."""
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("w0", "b1"):
            values[0] *= factor
        elif tensor.name == "w1":
            values[:, 0] /= factor
            values[0] *= factor
        elif tensor.name == "w2":
            values[:, 0] /= factor
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


def picture_cnn() -> onnx.ModelProto:
    """Like `cnn`, from UINT8 [rows, 12, 12, 3]."""
    model = cnn()
    head = [
        helper.make_node("Transpose", ["picture"], ["moved"], name="moved.node", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["moved"], ["x"], name="cast.node", to=TensorProto.FLOAT),
    ]
    nodes = [*head, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.input[:]
    model.graph.input.append(value("picture", TensorProto.UINT8, "rows", 12, 12, 3))
    return model


def encoder(width: int = 32, vocabulary: int = 50) -> onnx.ModelProto:
    """INT64 [rows, length] tokens to FP32 [rows, 5]: one attention block with LayerNormalization, mean, head."""
    b = Builder(3)
    x = b.node("Gather", [b.weight("table", vocabulary, width, scale=3), "tokens"], "embedded")
    ones, zeros = (b.constant(n, np.full(width, v, np.float32)) for n, v in (("ones", 1.0), ("zeros", 0.0)))
    x = b.node("LayerNormalization", [x, ones, zeros], "ln0", axis=-1)
    q, k, v = (b.node("MatMul", [x, b.weight(f"w{n}", width, width)], n) for n in ("q", "k", "v"))
    scores = b.node("MatMul", [q, b.node("Transpose", [k], "kt", perm=[0, 2, 1])], "scores")
    mixed = b.node("MatMul", [b.node("Softmax", [scores], "attention", axis=-1), v], "mixed")
    x = b.node("LayerNormalization", [b.node("Add", [x, mixed], "residual"), ones, zeros], "ln1", axis=-1)
    x = b.node("Relu", [b.node("MatMul", [x, b.weight("wf", width, 2 * width)], "ff")], "act")
    x = b.node("ReduceMean", [x], "mean", axes=[1], keepdims=0)
    b.node("Gemm", [x, b.weight("wo", 2 * width, CLASSES, scale=6), b.weight("bo", CLASSES)], "logits")
    made = b.model(
        [value("tokens", TensorProto.INT64, "rows", "length")], [value("logits", TensorProto.FLOAT, "rows", CLASSES)]
    )
    return fitted(made, "mean", "wo", "bo")


def classed_rows(model: onnx.ModelProto, count: int, seed: int) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Returns rows by input name and each row's class; rows of one class are alike."""
    rng = np.random.default_rng(seed)
    spec = model.graph.input[0]
    dims = [d.dim_value or 8 for d in spec.type.tensor_type.shape.dim][1:]
    kind = spec.type.tensor_type.elem_type
    truth = rng.integers(0, CLASSES, count)
    if kind == TensorProto.INT64:
        own = truth[:, None] * 10 + rng.integers(0, 10, (count, *dims))
        return {spec.name: np.where(rng.random(own.shape) < 0.6, own, rng.integers(0, 50, own.shape))}, truth
    centres = np.random.default_rng(99).normal(size=(CLASSES, *dims)) * 1.5
    rows = centres[truth] + rng.normal(size=(count, *dims)) * 0.6
    if kind == TensorProto.UINT8:
        return {spec.name: np.clip(rows * 20 + 128, 0, 255).astype(np.uint8)}, truth
    return {spec.name: rows.astype(np.float32)}, truth


def rows_for(model: onnx.ModelProto, count: int, seed: int) -> dict[str, NDArray[Any]]:
    """Returns rows by input name."""
    return classed_rows(model, count, seed)[0]


def answers(model: onnx.ModelProto, rows: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Returns the FP32 model's first output."""
    name = model.graph.output[0].name
    return OnnxRuntime(model.SerializeToString(), [name]).run(rows)[name]


def labelled(model: onnx.ModelProto, count: int, seed: int, wrong: float = 0.05) -> dict[str, NDArray[Any]]:
    """Returns rows with their class as `label`, a share of them wrong."""
    rows, truth = classed_rows(model, count, seed)
    rng = np.random.default_rng(seed + 1)
    flipped = rng.random(count) < wrong
    return rows | {"label": np.where(flipped, (truth + 1) % CLASSES, truth)}


def write(folder: Path, model: onnx.ModelProto, calibration: int = 64, evaluation: int = 600) -> tuple[str, str, str]:
    """Writes model, calibration and evaluation rows; returns their paths as text."""
    paths = [folder / name for name in ("model.onnx", "calibration.npz", "evaluation.npz")]
    onnx.save(model, str(paths[0]))
    np.savez(paths[1], **rows_for(model, calibration, 1))
    np.savez(paths[2], **labelled(model, evaluation, 2))
    return str(paths[0]), str(paths[1]), str(paths[2])
