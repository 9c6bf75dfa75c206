"""What is tried, in which order, until a target passes. Pure.

Rungs: as asked; percentile ranges; least-squares ranges; first and last operator float; SmoothQuant (where there is a
LayerNormalization); the worst operators float within a budget of multiply-adds; dynamic quantization (ONNX Runtime,
networks of matrix products: OpenVINO computes such graphs in float; `quantize.dynamic` says why the answers do not
depend on the batch). Products of two
activations (attention) are never quantized.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from quantize.dynamic import can_be_dynamic
from quantize.placement import WEIGHTED
from quantize.policy import Policy, Recipe


def rungs(policy: Policy, model: onnx.ModelProto, target: str) -> Iterator[Recipe]:
    """Yields the recipes, the one that was asked for first."""
    asked = Recipe("as asked", policy.method, not policy.per_tensor, policy.keep_float)
    yield asked
    if policy.fallback == "none":
        return
    if policy.per_tensor:
        asked = Recipe("per channel", policy.method, True, policy.keep_float)
        yield asked
    for method in ("percentile:99.99", "mse"):
        if method != policy.method:
            yield Recipe(f"ranges by {method}", method, True, policy.keep_float)
    weighted = [node.name for node in model.graph.node if node.op_type in WEIGHTED]
    ends = (*policy.keep_float, *dict.fromkeys((weighted[0], weighted[-1]))) if weighted else policy.keep_float
    if len(weighted) > 2:
        yield Recipe("first and last operator float", "mse", True, ends)
    if any(node.op_type == "LayerNormalization" for node in model.graph.node):
        yield Recipe("SmoothQuant", "mse", True, policy.keep_float, smooth=True)
    yield Recipe("worst operators float", "mse", True, policy.keep_float, revert=True)
    if target == "onnxruntime" and can_be_dynamic(model):
        yield Recipe("dynamic", "dynamic", True, policy.keep_float, dynamic=True)
