"""What TensorRT's parser needs beyond symmetric Q/DQ.

88-bit pictures become float before anything else happens to them.
"""

from __future__ import annotations

import copy

import onnx
from onnx import TensorProto

from quantize.graph import Graph, attribute
from quantize.normalise import infer_shapes

_MOVERS = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")


def for_tensorrt(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with every Cast of an 8-bit input moved in front of the nodes that only move its elements."""
    made = copy.deepcopy(model)
    for _ in range(len(made.graph.node)):
        if not _swap_one(made):
            break
    else:
        return made
    del made.graph.value_info[:]
    return infer_shapes(made)


def _swap_one(model: onnx.ModelProto) -> bool:
    graph = Graph(model)
    for index, mover in enumerate(model.graph.node):
        if mover.op_type not in _MOVERS or graph.types.get(mover.input[0]) not in (TensorProto.UINT8, TensorProto.INT8):
            continue
        readers = graph.consumers[mover.output[0]]
        if len(readers) != 1 or readers[0].op_type != "Cast" or attribute(readers[0], "to") != TensorProto.FLOAT:
            continue
        cast = readers[0]
        source, middle, result = mover.input[0], mover.output[0], cast.output[0]
        cast.input[0], cast.output[0] = source, middle
        mover.input[0], mover.output[0] = middle, result
        moved = copy.deepcopy(cast)
        model.graph.node.remove(cast)
        model.graph.node.insert(index, moved)
        for value in list(model.graph.value_info):
            if value.name in (middle, result):
                model.graph.value_info.remove(value)
        value = onnx.helper.make_tensor_value_info(middle, TensorProto.FLOAT, None)
        model.graph.value_info.append(value)
        return True
    return False


def lint(model: onnx.ModelProto) -> list[str]:
    """Returns what a TensorRT would refuse or not run as INT8: uint8 or shifted Q/DQ, quantized biases."""
    graph = Graph(model)
    problems = []
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = graph.constant(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.dtype.name != "int8":
            problems.append(f"{node.name}: not int8")
        elif zero.any():
            problems.append(f"{node.name}: a zero point other than 0")
        readers = graph.consumers[node.output[0]] if node.op_type == "DequantizeLinear" else []
        if any(reader.op_type in ("Conv", "Gemm") and node.output[0] in reader.input[2:3] for reader in readers):
            problems.append(f"{node.name}: a quantized bias")
    return problems
