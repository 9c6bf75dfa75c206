"""Writes QuantizeLinear/DequantizeLinear pairs into a model: one FP32 graph, one set of ranges, several forms.

Forms: `u8s8` for CPU engines (activations uint8 with a zero point, weights int8 per channel) and `s8s8` for TensorRT
(all int8, zero points 0, no quantized bias). Weights are stored as int8 with a DequantizeLinear. Deterministic: the
same model, ranges and form give the same bytes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantize.calibration import Calibration
from quantize.errors import UnsupportedModel
from quantize.graph import Graph, all_names, attribute, fresh_name
from quantize.placement import Placement
from quantize.ranges import Scale, activation_scale, tensor_range, weight_scales

MOST_SCALE = 1e6
PRODUCER = "sluice quantize"


@dataclass(frozen=True, slots=True)
class Form:
    """How numbers are stored; `style` is the placement (`quantize.placement`)."""

    name: str
    symmetric: bool
    style: str
    per_channel: bool = True
    method: str = "minmax"


def quantize(model: onnx.ModelProto, placement: Placement, scales: Mapping[str, Scale], form: Form) -> onnx.ModelProto:
    """Returns the model with explicit Q/DQ; `scales` are those of every tensor of the placement.

    Raises:
        UnsupportedModel: a weight is not finite.
    """
    made = copy.deepcopy(model)
    taken = all_names(made.graph)
    added: dict[str, list[onnx.NodeProto]] = {}
    dequantized: dict[str, str] = {}
    for tensor in placement.tensors:
        nodes, dequantized[tensor] = _pair(made, tensor, scales[tensor], taken)
        added[tensor] = nodes
    chosen = set(placement.nodes)
    weights: dict[tuple[str, int | None], tuple[str, onnx.NodeProto]] = {}
    for node in made.graph.node:
        for index, name in enumerate(node.input):
            readers = placement.tensors.get(name, set())
            if name in dequantized and (readers is None or node.name in readers):
                node.input[index] = dequantized[name]
        if node.name in chosen:
            axis = _axis(node) if form.per_channel else None
            key = (node.input[1], axis)
            if key not in weights:
                weights[key] = _weight(made, node.input[1], axis, taken)
            node.input[1] = weights[key][0]
    _insert(made, added, [node for _, node in weights.values()])
    drop_unused(made)
    made.producer_name, made.producer_version = PRODUCER, "1"
    return made


def activation_scales(placement: Placement, calibration: Calibration, form: Form) -> dict[str, Scale]:
    """Returns the scale of every tensor of the placement.

    Raises:
        UnsupportedModel: a scale would not be finite, positive and below MOST_SCALE.
    """
    scales: dict[str, Scale] = {}
    for tensor in placement.tensors:
        source = tensor
        while source in placement.aliases:
            source = placement.aliases[source]
        low, high = tensor_range(calibration.histograms[source], form.method, symmetric=form.symmetric)
        scale = activation_scale(low, high, symmetric=form.symmetric)
        if not 0 < scale.scale < MOST_SCALE:
            raise UnsupportedModel(f"{tensor}: a scale of {scale.scale} is not usable")
        scales[tensor] = scale
    return scales


def quantized_weight(weight: NDArray[np.float32], axis: int | None) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Returns the integers and their scales (one for each slice along `axis`, or one)."""
    scales = weight_scales(weight, axis)
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    spread = scales.reshape(shape)
    return np.clip(np.round(weight / spread), -127, 127).astype(np.int8), scales


def _axis(node: onnx.NodeProto) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        return 0
    return 1


def _pair(model: onnx.ModelProto, tensor: str, scale: Scale, taken: set[str]) -> tuple[list[onnx.NodeProto], str]:
    names = {k: fresh_name(taken, f"{tensor}.{k}") for k in ("scale", "zero", "quantized", "dequantized")}
    zero = np.array(scale.zero_point, np.int8 if scale.signed else np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(np.array(scale.scale, np.float32), names["scale"]))
    model.graph.initializer.append(numpy_helper.from_array(zero, names["zero"]))
    quantizing = helper.make_node(
        "QuantizeLinear",
        [tensor, names["scale"], names["zero"]],
        [names["quantized"]],
        name=fresh_name(taken, f"{tensor}.QuantizeLinear"),
    )
    back = helper.make_node(
        "DequantizeLinear",
        [names["quantized"], names["scale"], names["zero"]],
        [names["dequantized"]],
        name=fresh_name(taken, f"{tensor}.DequantizeLinear"),
    )
    return [quantizing, back], names["dequantized"]


def _weight(model: onnx.ModelProto, name: str, axis: int | None, taken: set[str]) -> tuple[str, onnx.NodeProto]:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    values, scales = quantized_weight(numpy_helper.to_array(tensor), axis)
    if not np.isfinite(scales).all():
        raise UnsupportedModel(f"{name}: the weights have NaN or infinity")
    zeros = np.zeros(scales.shape, np.int8)
    if axis is None:
        scales, zeros = scales.reshape(()), zeros.reshape(())
    names = {k: fresh_name(taken, f"{name}.{k}") for k in ("int8", "scale", "zero", "dequantized")}
    for key, array in (("int8", values), ("scale", scales), ("zero", zeros)):
        model.graph.initializer.append(numpy_helper.from_array(array, names[key]))
    extra: dict[str, Any] = {} if axis is None else {"axis": axis}
    node = helper.make_node(
        "DequantizeLinear",
        [names["int8"], names["scale"], names["zero"]],
        [names["dequantized"]],
        name=fresh_name(taken, f"{name}.DequantizeLinear"),
        **extra,
    )
    return names["dequantized"], node


def _insert(model: onnx.ModelProto, added: dict[str, list[onnx.NodeProto]], first: list[onnx.NodeProto]) -> None:
    """Puts every pair right behind the tensor's producer, so that the order stays topological."""
    inputs = {value.name for value in model.graph.input}
    nodes = list(first)
    for tensor, pair in added.items():
        if tensor in inputs:
            nodes += pair
    for node in model.graph.node:
        nodes.append(node)
        for name in node.output:
            nodes += added.get(name, [])
    ordered = [copy.deepcopy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def drop_unused(model: onnx.ModelProto) -> None:
    """Drops the weights that nothing reads any more, and what shape inference had noted."""
    graph = Graph(model)
    used = {name for node in model.graph.node for name in node.input} | set(graph.outputs)
    for node in model.graph.node:
        for attr in node.attribute:
            if attr.type == onnx.AttributeProto.GRAPH:
                used |= {name for inner in attr.g.node for name in inner.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
