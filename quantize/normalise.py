"""Rewrites a model into the one form that the later stages know, and proves that it still computes the same.

Steps: choose outputs, unpack Constant nodes, drop Identity and Dropout, raise the opset, fold batch norms into
convolutions, name every node, infer shapes. Invariant: `prove_equal` passed on probe rows, or the model is refused.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference, version_converter

from quantize.errors import BadInput, UnsupportedModel
from quantize.graph import Graph, all_names, attribute, fresh_name
from quantize.runtimes import OnnxRuntime

OPSET = 17
MOST_PROBE_DIFFERENCE = 1e-4
"""Of the output's own range: folding rounds differently, nothing else may change."""

Arrays = dict[str, NDArray[np.generic]]


def normalise(model: onnx.ModelProto, outputs: list[str] | None = None) -> tuple[onnx.ModelProto, list[str]]:
    """Returns the rewritten model and the steps that changed something.

    Raises:
        BadInput: `outputs` names one that is not there.
        UnsupportedModel: the opset cannot be raised.
    """
    made = copy.deepcopy(model)
    steps: list[str] = []
    if outputs:
        _choose_outputs(made, outputs, steps)
    _drop_initialiser_inputs(made)
    _unpack_constants(made, steps)
    _bypass(made, steps)
    made = _raise_opset(made, steps)
    _fold_batch_norms(made, steps)
    _prune(made)
    _name_nodes(made)
    return infer_shapes(made), steps


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with what shape inference finds; whatever it cannot infer stays unknown."""
    try:
        return shape_inference.infer_shapes(model, data_prop=True)
    except Exception:
        return model


def prove_equal(before: onnx.ModelProto, after: onnx.ModelProto, probe: Arrays) -> float:
    """Returns the largest difference relative to an output's range on the probe rows.

    Raises:
        UnsupportedModel: they differ by more than rounding.
    """
    names = [value.name for value in after.graph.output]
    old = OnnxRuntime(before.SerializeToString(), names, optimise=False).run(probe)
    new = OnnxRuntime(after.SerializeToString(), names, optimise=False).run(probe)
    worst = 0.0
    for name in names:
        a, b = old[name].astype(np.float64), new[name].astype(np.float64)
        if a.shape != b.shape:
            raise UnsupportedModel(f"normalising changes the shape of {name!r}")
        spread = max(float(np.ptp(a)) if a.size else 0.0, 1e-6)
        worst = max(worst, float(np.abs(a - b).max() / spread) if a.size else 0.0)
    if not worst <= MOST_PROBE_DIFFERENCE:
        raise UnsupportedModel(f"normalising changes the answers by {worst:.1e} of their range")
    return worst


def _choose_outputs(model: onnx.ModelProto, wanted: list[str], steps: list[str]) -> None:
    present = {value.name: value for value in model.graph.output}
    missing = [name for name in wanted if name not in present]
    if missing:
        raise BadInput(f"no such output: {', '.join(missing)} (there are {', '.join(present)})")
    if list(present) != wanted:
        del model.graph.output[:]
        model.graph.output.extend(present[name] for name in wanted)
        steps.append(f"outputs chosen: {', '.join(wanted)}")


def _drop_initialiser_inputs(model: onnx.ModelProto) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    real = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(real)
    # Before IR version 4 every weight had to be an input.
    model.ir_version = max(model.ir_version, 4)


def _unpack_constants(model: onnx.ModelProto, steps: list[str]) -> None:
    kept, unpacked = [], 0
    for node in model.graph.node:
        value = attribute(node, "value")
        if node.op_type == "Constant" and isinstance(value, onnx.TensorProto):
            value.name = node.output[0]
            model.graph.initializer.append(value)
            unpacked += 1
        else:
            kept.append(node)
    if unpacked:
        del model.graph.node[:]
        model.graph.node.extend(kept)
        steps.append(f"{unpacked} Constant nodes made initialisers")


def _bypass(model: onnx.ModelProto, steps: list[str]) -> None:
    """Removes nodes that hand their input on, unless they name a graph output."""
    outputs = {value.name for value in model.graph.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        mask_used = len(node.output) > 1 and bool(node.output[1])
        if node.op_type in ("Identity", "Dropout") and node.output[0] not in outputs and not mask_used:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    if renamed:
        del model.graph.node[:]
        model.graph.node.extend(kept)
        steps.append(f"{len(renamed)} Identity and Dropout nodes removed")


def _raise_opset(model: onnx.ModelProto, steps: list[str]) -> onnx.ModelProto:
    entry = next(e for e in model.opset_import if e.domain in ("", "ai.onnx"))
    if entry.version >= OPSET:
        return model
    before = entry.version
    try:
        raised = version_converter.convert_version(model, OPSET)
    except Exception as error:
        raise UnsupportedModel(f"opset {before} cannot be raised to {OPSET}: {str(error)[:200]}") from error
    raised.ir_version = max(raised.ir_version, 8)
    steps.append(f"opset {before} raised to {OPSET}")
    return raised


def _fold_batch_norms(model: onnx.ModelProto, steps: list[str]) -> None:
    graph = Graph(model)
    taken = all_names(model.graph)
    folded = []
    for norm in model.graph.node:
        conv = graph.producer.get(norm.input[0]) if norm.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type != "Conv" or norm.input[0] in graph.outputs:
            continue
        if len(graph.consumers[norm.input[0]]) != 1:
            continue
        values = [graph.constant(name) for name in [conv.input[1], *norm.input[1:5]]]
        bias = graph.constant(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
        if any(v is None for v in values) or (len(conv.input) > 2 and conv.input[2] and bias is None):
            continue
        weight, gamma, beta, mean, variance = (np.asarray(v, np.float64) for v in values)
        epsilon = attribute(norm, "epsilon", 1e-5)
        factor = gamma / np.sqrt(variance + float(epsilon))  # type: ignore[arg-type]
        shift = np.asarray(bias, np.float64) if bias is not None else 0.0
        names = []
        new_weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        for suffix, array in (("weight", new_weight), ("bias", beta + (shift - mean) * factor)):
            names.append(fresh_name(taken, f"{conv.output[0]}.folded.{suffix}"))
            model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), names[-1]))
        del conv.input[1:]
        conv.input.extend(names)
        conv.output[0] = norm.output[0]
        folded.append(norm)
    for norm in folded:
        model.graph.node.remove(norm)
    if folded:
        steps.append(f"{len(folded)} batch norms folded into convolutions")


def _prune(model: onnx.ModelProto) -> None:
    """Drops nodes and weights that no output depends on."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            needed.update(_captured(node))
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    del model.graph.value_info[:]


def _captured(node: onnx.NodeProto) -> set[str]:
    """Returns the names that graphs inside a node may take from outside."""
    found: set[str] = set()
    for attr in node.attribute:
        for inner in [attr.g, *attr.graphs] if attr.HasField("g") or attr.graphs else []:
            for child in inner.node:
                found.update(child.input)
                found.update(_captured(child))
            found.update(value.name for value in inner.output)
    return found


def _name_nodes(model: onnx.ModelProto) -> None:
    taken: set[str] = set()
    for node in model.graph.node:
        node.name = fresh_name(taken, node.name or f"{node.op_type}:{node.output[0]}")
    ordered = sorted(model.opset_import, key=lambda e: e.domain)
    imports = [helper.make_opsetid(e.domain, e.version) for e in ordered]
    del model.opset_import[:]
    model.opset_import.extend(imports)
