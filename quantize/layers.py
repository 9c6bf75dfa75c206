"""Which operator loses how much by itself.

Each one is computed a second time beside the FP32 graph, on FP32 inputs that are quantized just for it. So errors of
earlier operators do not hide or help it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from quantize.calibration import Calibration, watching
from quantize.gate import sqnr
from quantize.placement import Placement
from quantize.qdq import Form, activation_scales, quantize
from quantize.sources import Source

_NODES_A_RUN = 16


@dataclass(frozen=True, slots=True)
class LayerError:
    """One operator's own signal-to-noise ratio in dB (small is bad)."""

    node: str
    operator: str
    sqnr_db: float

    def as_dict(self) -> dict[str, Any]:
        return {"node": self.node, "operator": self.operator, "sqnr_db": round(self.sqnr_db, 2)}


def layer_errors(
    model: onnx.ModelProto, placement: Placement, calibration: Calibration, form: Form, source: Source, rows: int
) -> list[LayerError]:
    """Returns every quantized operator's own error over `rows` calibration rows, run at once; the worst first."""
    batch = next(iter(source.batches(rows, rows)))
    by_name = {node.name: node for node in model.graph.node}
    found = []
    for start in range(0, len(placement.nodes), _NODES_A_RUN):
        names = placement.nodes[start : start + _NODES_A_RUN]
        shadowed = _with_shadows(model, names, placement, calibration, form)
        results = [by_name[name].output[0] for name in names]
        values = watching(shadowed, [*results, *[f"{r}.shadow" for r in results]], 1).run(batch.inputs)
        for name, result in zip(names, results, strict=True):
            ratio = sqnr(values[result], values[f"{result}.shadow"])
            found.append(LayerError(name, by_name[name].op_type, ratio))
    return sorted(found, key=lambda error: (error.sqnr_db, error.node))


def _with_shadows(
    model: onnx.ModelProto, names: list[str], placement: Placement, calibration: Calibration, form: Form
) -> onnx.ModelProto:
    doubled = copy.deepcopy(model)
    by_name = {node.name: node for node in model.graph.node}
    own = Placement(aliases=placement.aliases)
    shadows = []
    for name in names:
        shadow = copy.deepcopy(by_name[name])
        shadow.name = f"{name}.shadow"
        shadow.output[0] = f"{shadow.output[0]}.shadow"
        shadows.append(shadow)
        own.nodes.append(shadow.name)
        readers = own.tensors.setdefault(shadow.input[0], set())
        assert readers is not None
        readers.add(shadow.name)
    nodes = []
    waiting = {shadow.name.removesuffix(".shadow"): shadow for shadow in shadows}
    for node in doubled.graph.node:
        nodes.append(copy.deepcopy(node))
        if node.name in waiting:
            nodes.append(waiting[node.name])
    del doubled.graph.node[:]
    doubled.graph.node.extend(nodes)
    for shadow in shadows:
        value = onnx.helper.make_tensor_value_info(shadow.output[0], onnx.TensorProto.FLOAT, None)
        doubled.graph.output.append(value)
    return quantize(doubled, own, activation_scales(own, calibration, form), form)


def worst_within(errors: list[LayerError], work: dict[str, int], budget: float) -> list[str]:
    """Returns the worst operators whose multiply-adds together stay within the share `budget`."""
    allowed = budget * sum(work.values())
    chosen: list[str] = []
    for error in errors:
        cost = work.get(error.node, 0)
        if cost <= allowed:
            chosen.append(error.node)
            allowed -= cost
        if len(chosen) >= max(1, len(errors) // 4):
            break
    return chosen


def spread(errors: list[LayerError]) -> dict[str, float]:
    """Returns the worst, median and best ratio."""
    values = np.array([error.sqnr_db for error in errors] or [0.0])
    return {"worst": float(values.min()), "median": float(np.median(values)), "best": float(values.max())}
