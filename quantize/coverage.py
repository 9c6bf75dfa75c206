"""How much of the work really runs as integers: read from what the engine executes, not from what the file says.

Work is counted in multiply-adds of convolutions and matrix products (products of two activations included), with the
shapes of a real run. For ONNX Runtime the optimised graph is read, for OpenVINO the compiled model's kernels, for
TensorRT what the engine's inspector says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from quantize.calibration import watching
from quantize.graph import Graph, attribute
from quantize.placement import WEIGHTED
from quantize.runtimes import Feed, OpenVino, optimised_onnx
from quantize.tensorrt_layers import integer_nodes

INTEGER_OPS = {
    "QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "ConvInteger", "MatMulInteger",
    "DynamicQuantizeMatMul", "QLinearConvTranspose",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of multiply-adds in integer kernels, and the nodes that are not."""

    share: float
    operators: int
    integer_operators: int
    float_nodes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "multiply_add_share": round(self.share, 4),
            "operators": self.operators,
            "integer_operators": self.integer_operators,
            "float_nodes": list(self.float_nodes),
        }


def multiply_adds(model: onnx.ModelProto, feed: Feed) -> dict[str, int]:
    """Returns multiply-adds by node name, for the rows of `feed`."""
    graph = Graph(model)
    nodes = [node for node in model.graph.node if node.op_type in WEIGHTED]
    wanted = sorted(
        {name for node in nodes for name in (node.input[0], node.input[1], node.output[0])} - set(graph.weights)
    )
    found = watching(model, wanted, 1).run(feed)
    shapes = {name: array.shape for name, array in {**feed, **found}.items()}
    shapes |= {name: tuple(tensor.dims) for name, tensor in graph.weights.items()}
    counts = {}
    for node in nodes:
        left, right, out = (shapes[name] for name in (node.input[0], node.input[1], node.output[0]))
        if node.op_type == "Conv":
            each = int(np.prod(right[1:]))
        elif node.op_type == "ConvTranspose":
            each, out = int(np.prod(right[1:])), left
        else:
            each = left[0] if node.op_type == "Gemm" and attribute(node, "transA", 0) else left[-1]
        counts[node.name] = int(np.prod(out)) * each
    return counts


def coverage(quantized: bytes, work: dict[str, int], runtime: str, outputs: list[str]) -> Coverage:
    """Returns what of `work` (multiply-adds by node name) the engine `runtime` runs as integers."""
    integer = _openvino_nodes(quantized, outputs) if runtime == "openvino" else _onnxruntime_nodes(quantized, work)
    return _summed(work, integer)


def engine_coverage(inspected: str, work: dict[str, int]) -> Coverage:
    """Returns what of `work` an engine of TensorRT runs as integers, from its inspector's JSON."""
    return _summed(work, integer_nodes(inspected, work))


def structural_coverage(nodes: list[str], work: dict[str, int]) -> Coverage:
    """Returns what the graph offers to an engine that cannot be asked here."""
    return _summed(work, set(nodes))


def _summed(work: dict[str, int], integer: set[str]) -> Coverage:
    inside = [name for name in work if name in integer]
    total = sum(work.values())
    share = sum(work[name] for name in inside) / total if total else 0.0
    return Coverage(share, len(work), len(inside), tuple(name for name in work if name not in integer))


def _onnxruntime_nodes(quantized: bytes, work: dict[str, int]) -> set[str]:
    """Finds each original node in the optimised graph.

    Fused nodes keep the node's or its result's name, or its weight.
    """
    before = onnx.load_from_string(quantized)
    source = Graph(before)
    marks: dict[str, str] = {}
    for node in before.graph.node:
        if node.name in work:
            marks[node.name] = node.name
            dequantize = source.producer.get(node.input[1])
            if dequantize is not None and dequantize.op_type == "DequantizeLinear":
                marks[dequantize.input[0]] = node.name
            elif node.input[1] in source.weights:
                marks[node.input[1]] = node.name
    found = set()
    for node in onnx.load_from_string(optimised_onnx(quantized)).graph.node:
        if node.op_type in INTEGER_OPS:
            for name in (node.name, *node.input):
                if (original := _stripped(name, marks)) is not None:
                    found.add(original)
    return found


def _stripped(name: str, marks: dict[str, str]) -> str | None:
    for mark in (name, name.removesuffix("_nhwc"), name.removesuffix("_quant"), name.removesuffix("_quantized")):
        if mark in marks:
            return marks[mark]
    return None


def _openvino_nodes(quantized: bytes, outputs: list[str]) -> set[str]:
    compiled = OpenVino(quantized, outputs).compiled
    found: set[str] = set()
    for operator in compiled.get_runtime_model().get_ordered_ops():
        info = operator.get_rt_info()
        kind = str(info["layerType"].astype(str) if hasattr(info["layerType"], "astype") else info["layerType"])
        if kind not in ("Convolution", "Deconvolution", "FullyConnected", "MatMul"):
            continue
        precision = _text(info, "runtimePrecision").lower()
        if "i8" in precision or "u8" in precision or "i8" in _text(info, "execType").lower().split("_"):
            for name in _text(info, "originalLayersNames").split(","):
                found.add(name.partition("/WithoutBiases")[0].partition("/Dequantization")[0])
    return found


def _text(info: Any, key: str) -> str:
    try:
        value = info[key]
    except (KeyError, RuntimeError, IndexError):
        return ""
    found = value.astype(str) if hasattr(value, "astype") else value
    return found if isinstance(found, str) else json.dumps(str(found))
