"""Dynamic quantization of matrix products: scales are taken from each row of each call, not from calibration.

Unlike ONNX's DynamicQuantizeLinear, which takes one scale from the whole batch, every vector along the last axis has a
scale of its own. So a row's answer does not depend on the rows that share its batch (the gateway batches), and an
outlier spoils its own vector only. Per product: q = clip(round(x / s) + 128), s = max|x| / 127; MatMulInteger(q, W)
with zero point 128; times s, times the weight's scale of each column.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantize.graph import Graph, all_names, attribute, fresh_name
from quantize.placement import Placement
from quantize.qdq import PRODUCER, drop_unused, quantized_weight
from quantize.ranges import SMALLEST_SCALE

PRODUCTS = ("MatMul", "Gemm")


def can_be_dynamic(model: onnx.ModelProto) -> bool:
    """Returns whether matrix products with constant weights do all of the work (there is no integer form here for
    convolutions)."""
    kinds = {node.op_type for node in model.graph.node}
    return not kinds & {"Conv", "ConvTranspose"} and bool(kinds & set(PRODUCTS))


def dynamic(model: onnx.ModelProto, placement: Placement) -> onnx.ModelProto:
    """Returns the model with the placement's products computed from integers; deterministic."""
    made = copy.deepcopy(model)
    taken = all_names(made.graph)
    graph = Graph(made)
    chosen = set(placement.nodes)
    shared: dict[str, tuple[str, str]] = {}
    nodes: list[onnx.NodeProto] = []
    constants = _constants(made, taken)
    for node in list(made.graph.node):
        if node.name not in chosen or node.op_type not in PRODUCTS:
            nodes.append(node)
            continue
        if node.input[0] not in shared:
            shared[node.input[0]] = _quantized_input(nodes, node.input[0], constants, taken)
        nodes += _product(made, graph, node, shared[node.input[0]], constants, taken)
    ordered = [copy.deepcopy(node) for node in nodes]
    del made.graph.node[:]
    made.graph.node.extend(ordered)
    drop_unused(made)
    made.producer_name, made.producer_version = PRODUCER, "1"
    return made


def _constants(made: onnx.ModelProto, taken: set[str]) -> dict[str, str]:
    values: dict[str, NDArray[np.generic]] = {
        "levels": np.array(127.0, np.float32), "least": np.array(SMALLEST_SCALE, np.float32),
        "middle": np.array(128.0, np.float32), "low": np.array(0.0, np.float32), "high": np.array(255.0, np.float32),
        "zero": np.array(128, np.uint8),
    }  # fmt: skip
    names = {}
    for key, value in values.items():
        names[key] = fresh_name(taken, f"dynamic.{key}")
        made.graph.initializer.append(numpy_helper.from_array(value, names[key]))
    return names


def _quantized_input(
    nodes: list[onnx.NodeProto], tensor: str, constants: dict[str, str], taken: set[str]
) -> tuple[str, str]:
    """Returns the names of the integers and of their scale (one for each vector along the last axis)."""

    def step(kind: str, inputs: list[str], what: str, **attributes: Any) -> str:
        name = fresh_name(taken, f"{tensor}.dynamic.{what}")
        nodes.append(helper.make_node(kind, inputs, [name], name=fresh_name(taken, f"{name}.node"), **attributes))
        return name

    size = step("ReduceMax", [step("Abs", [tensor], "abs")], "peak", axes=[-1], keepdims=1)
    scale = step("Max", [step("Div", [size, constants["levels"]], "step"), constants["least"]], "scale")
    rounded = step("Round", [step("Div", [tensor, scale], "divided")], "rounded")
    moved = step("Add", [rounded, constants["middle"]], "moved")
    clipped = step("Clip", [moved, constants["low"], constants["high"]], "clipped")
    return step("Cast", [clipped], "quantized", to=TensorProto.UINT8), scale


def _product(
    made: onnx.ModelProto,
    graph: Graph,
    node: onnx.NodeProto,
    given: tuple[str, str],
    constants: dict[str, str],
    taken: set[str],
) -> list[onnx.NodeProto]:
    weight = np.asarray(graph.constant(node.input[1]), np.float32)
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        weight = np.ascontiguousarray(weight.T)
    integers, scales = quantized_weight(weight, 1)
    names = {key: fresh_name(taken, f"{node.name}.{key}") for key in ("int8", "scale", "sums", "floats", "scaled")}
    for key, array in (("int8", integers), ("scale", scales)):
        made.graph.initializer.append(numpy_helper.from_array(array, names[key]))
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    result = node.output[0] if bias is None else fresh_name(taken, f"{node.name}.product")
    found = [
        helper.make_node(
            "MatMulInteger", [given[0], names["int8"], constants["zero"]], [names["sums"]], name=node.name
        ),
        _named("Cast", [names["sums"]], names["floats"], taken, to=TensorProto.FLOAT),
        _named("Mul", [names["floats"], given[1]], names["scaled"], taken),
        _named("Mul", [names["scaled"], names["scale"]], result, taken),
    ]
    if bias is not None:
        found.append(_named("Add", [result, bias], node.output[0], taken))
    return found


def _named(kind: str, inputs: list[str], output: str, taken: set[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=fresh_name(taken, f"{output}.{kind}"), **attributes)
