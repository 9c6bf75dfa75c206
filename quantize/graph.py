"""Questions about an ONNX graph: who makes a tensor, who reads it, what is constant, how large it is.

Invariant: a `Graph` is a view of the model as it was when the view was made; make a new one after editing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: numpy type and dims; None stands for "any"."""

    name: str
    dtype: np.dtype[np.generic]
    dims: tuple[int | None, ...]

    def text(self) -> str:
        return f"{self.dtype.name} [{', '.join('?' if d is None else str(d) for d in self.dims)}]"


class Graph:
    """Look-ups over `model.graph`."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer: dict[str, onnx.NodeProto] = {}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.output:
                self.producer[name] = node
            for name in dict.fromkeys(node.input):
                self.consumers[name].append(node)
        self.outputs = [value.name for value in model.graph.output]
        values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._values = {value.name: value for value in values}

    def inputs(self) -> list[TensorSpec]:
        """Returns the graph's real inputs: those that are no initialisers."""
        return [_spec(value) for value in self.model.graph.input if value.name not in self.weights]

    def output_specs(self) -> list[TensorSpec]:
        return [_spec(value) for value in self.model.graph.output]

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """Returns the value of an initialiser, None if the tensor is computed."""
        tensor = self.weights.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def rank(self, name: str) -> int | None:
        value = self._values.get(name)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        return len(value.type.tensor_type.shape.dim)

    def is_float(self, name: str) -> bool:
        """Returns whether inference found the tensor to be FP32 (weights included)."""
        if name in self.weights:
            return bool(self.weights[name].data_type == TensorProto.FLOAT)
        return bool(self.types.get(name) == TensorProto.FLOAT)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim)
    return TensorSpec(value.name, np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)), dims)


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Returns the value of a node's attribute, `default` if it is not set."""
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yields the graphs inside a control-flow node."""
    for found in node.attribute:
        if found.type == onnx.AttributeProto.GRAPH:
            yield found.g
        elif found.type == onnx.AttributeProto.GRAPHS:
            yield from found.graphs


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yields every node, those of control flow included."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def fresh_name(taken: set[str], wanted: str) -> str:
    """Returns `wanted`, with a number if it is taken, and takes it."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name


def all_names(graph: onnx.GraphProto) -> set[str]:
    """Returns every tensor and node name in use."""
    names = {t.name for t in graph.initializer} | {v.name for v in graph.input}
    for node in graph.node:
        names |= {node.name, *node.input, *node.output}
    return names
