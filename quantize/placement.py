"""Which operators become integer operators, and which tensors are quantized for that; pure.

Two placements. `everywhere` (CPU engines, convolutional networks): the inputs and the results of convolutions,
residual sums and poolings, because ONNX Runtime fuses an integer convolution only between quantized tensors. `inputs`
(TensorRT, and everything made of matrix products): only what a quantized operator reads. In every placement: weights
must be constant; products of two activations (attention), normalisations, softmax and activations stay float. Every
operator left out has its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import onnx

from quantize.graph import Graph, attribute

WEIGHTED = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
FUSED_AFTER = {"Relu", "Clip"}
SAME_VALUES = {"MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze"}
POOLS = {"GlobalAveragePool", "AveragePool"}


@dataclass(slots=True)
class Placement:
    """`nodes` by name; `tensors` maps a tensor to the nodes that read it quantized (None: all of its readers)."""

    nodes: list[str] = field(default_factory=list)
    tensors: dict[str, set[str] | None] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


def place(graph: Graph, *, style: str, keep_float: Iterable[str] = ()) -> Placement:
    """Returns the placement; `keep_float` are patterns of node names or operator types (`*` matches anything)."""
    patterns = list(keep_float)
    found = Placement()
    for node in graph.model.graph.node:
        if node.op_type not in WEIGHTED:
            continue
        reason = _unsuitable(graph, node, patterns)
        if reason:
            found.skipped[node.name] = reason
        else:
            found.nodes.append(node.name)
    chosen = set(found.nodes)
    by_name = {node.name: node for node in graph.model.graph.node}
    for name in found.nodes:
        _read_quantized(found, by_name[name].input[0], name)
    if style == "everywhere":
        _quantize_results(graph, found, chosen, patterns)
    else:
        _quantize_skips(graph, found, chosen)
    return found


def default_style(graph: Graph) -> str:
    """Returns the placement for CPU engines: `everywhere` if the graph has convolutions."""
    return "everywhere" if any(node.op_type == "Conv" for node in graph.model.graph.node) else "inputs"


def is_kept_float(node: onnx.NodeProto, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(node.name, p) or fnmatchcase(node.op_type, p) for p in patterns)


def result_tensor(graph: Graph, node: onnx.NodeProto) -> str:
    """Returns the node's result after the activation that engines fuse into it."""
    name = node.output[0]
    readers = graph.consumers[name]
    if len(readers) == 1 and readers[0].op_type in FUSED_AFTER and name not in graph.outputs:
        return str(readers[0].output[0])
    return str(name)


def _unsuitable(graph: Graph, node: onnx.NodeProto, patterns: list[str]) -> str | None:
    """Returns why the operator stays float, None if it can become an integer operator."""
    if is_kept_float(node, patterns):
        return "kept float on request"
    if not graph.is_float(node.input[0]):
        return "its input is not known to be FP32"
    weight = graph.weights.get(node.input[1])
    if weight is None:
        return "product of two activations" if node.op_type in ("MatMul", "Gemm") else "its weight is not constant"
    if not graph.is_float(node.input[1]):
        return "its weight is not FP32"
    if node.input[0] in graph.weights:
        return "its input is constant"
    if node.op_type == "MatMul" and len(weight.dims) != 2:
        return "its weight is not a matrix"
    plain = [attribute(node, key, default) for key, default in (("alpha", 1.0), ("beta", 1.0), ("transA", 0))]
    if node.op_type == "Gemm" and plain != [1.0, 1.0, 0]:
        return "Gemm with alpha, beta or transA"
    return None


def _read_quantized(found: Placement, tensor: str, reader: str) -> None:
    readers = found.tensors.setdefault(tensor, set())
    if readers is not None:
        readers.add(reader)


def _quantize_results(graph: Graph, found: Placement, chosen: set[str], patterns: list[str]) -> None:
    """Adds results of quantized operators, residual sums and poolings, in the graph's order."""
    for node in graph.model.graph.node:
        if node.name in chosen and node.op_type in ("Conv", "ConvTranspose"):
            _whole(graph, found, result_tensor(graph, node))
        elif is_kept_float(node, patterns):
            continue
        elif node.op_type == "Add" and all(name in found.tensors for name in node.input):
            for name in node.input:
                _whole(graph, found, name)
            _whole(graph, found, result_tensor(graph, node))
        elif node.op_type in POOLS and node.input[0] in found.tensors:
            _whole(graph, found, node.output[0])
        elif node.op_type in SAME_VALUES and node.input[0] in found.tensors and node.output[0] not in graph.outputs:
            _whole(graph, found, node.output[0])
            found.aliases[node.output[0]] = node.input[0]


def _whole(graph: Graph, found: Placement, tensor: str) -> None:
    if tensor not in graph.outputs:
        found.tensors[tensor] = None


def _quantize_skips(graph: Graph, found: Placement, chosen: set[str]) -> None:
    """TensorRT fuses conv + add + relu into one integer kernel if the sum's other input is quantized."""
    for node in graph.model.graph.node:
        if node.op_type != "Add" or len(node.input) != 2:
            continue
        makers = [graph.producer.get(name) for name in node.input]
        convs = [m is not None and m.op_type == "Conv" and m.name in chosen for m in makers]
        if not any(convs) or any(name in graph.weights for name in node.input):
            continue
        skip = node.input[0] if convs[1] and not convs[0] else node.input[1] if not all(convs) else node.input[0]
        _read_quantized(found, skip, node.name)
