"""SmoothQuant: moves outlier channels of activations into the weights behind a LayerNormalization, exactly.

y = LN(x) is read by matrix products only. Dividing LN's scale and bias by s and multiplying the rows of each weight
by s changes nothing in FP32 and evens out what int8 has to cover; s = peak(y)^alpha / peak(W)^(1 - alpha).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantize.calibration import Calibration
from quantize.graph import Graph, all_names, attribute, fresh_name

ALPHA = 0.5
_LEAST = 1e-5


def smooth(model: onnx.ModelProto, calibration: Calibration, alpha: float = ALPHA) -> tuple[onnx.ModelProto, int]:
    """Returns the rewritten model and how many normalisations were smoothed.

    Residual readers keep y by a division of their own.
    """
    made = copy.deepcopy(model)
    graph = Graph(made)
    taken = all_names(made.graph)
    done = 0
    for norm in list(made.graph.node):
        if norm.op_type != "LayerNormalization" or norm.output[0] in graph.outputs:
            continue
        readers = graph.consumers[norm.output[0]]
        products = [n for n in readers if _is_product(graph, n, norm.output[0])]
        scale = graph.constant(norm.input[1])
        peaks = calibration.peaks.get(norm.output[0])
        if not products or scale is None or peaks is None or peaks.shape != scale.shape:
            continue
        rows = [np.abs(_rows(graph, n)).max(axis=1) for n in products]
        factor = peaks.clip(_LEAST) ** alpha / np.max(rows, axis=0).clip(_LEAST) ** (1 - alpha)
        factor = factor.clip(_LEAST).astype(np.float32)
        _apply(made, graph, norm, products, factor, taken, shared=len(products) < len(readers))
        done += 1
    del made.graph.value_info[:]
    return made, done


def _is_product(graph: Graph, node: onnx.NodeProto, tensor: str) -> bool:
    plain = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transA", 0))
    weight = graph.constant(node.input[1]) if plain and len(node.input) > 1 else None
    return plain and node.input[0] == tensor and weight is not None and weight.ndim == 2


def _rows(graph: Graph, node: onnx.NodeProto) -> NDArray[Any]:
    weight = np.asarray(graph.constant(node.input[1]))
    return weight.T if attribute(node, "transB", 0) else weight


def _apply(
    made: onnx.ModelProto,
    graph: Graph,
    norm: onnx.NodeProto,
    products: list[onnx.NodeProto],
    factor: NDArray[np.float32],
    taken: set[str],
    *,
    shared: bool,
) -> None:
    """With `shared` readers, the products get a copy of the normalisation of their own; the others keep y."""
    target = norm
    if shared:
        target = copy.deepcopy(norm)
        target.name = fresh_name(taken, f"{norm.name}.smoothed")
        target.output[0] = fresh_name(taken, f"{norm.output[0]}.smoothed")
        made.graph.node.insert(list(made.graph.node).index(norm) + 1, target)
        target = next(n for n in made.graph.node if n.name == target.name)
    for index in (1, 2):
        if len(target.input) > index and target.input[index]:
            name = fresh_name(taken, f"{target.input[index]}.smoothed")
            bias = np.asarray(graph.constant(target.input[index])) / factor
            made.graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), name))
            target.input[index] = name
    for node in products:
        rows = _rows(graph, node) * factor[:, None]
        value = rows.T if attribute(node, "transB", 0) else rows
        name = fresh_name(taken, f"{node.input[1]}.smoothed")
        made.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        node.input[0] = target.output[0]
        node.input[1] = name
