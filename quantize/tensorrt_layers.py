"""Which nodes of a graph an engine of TensorRT runs on integers, from what its inspector says.

The inspector (detailed profiling verbosity) gives JSON: layers with their inputs' formats and, as metadata, the ONNX
nodes that they were made of. Invariant: in doubt a node counts as float. A layer that merges several weighted nodes
says nothing about each, so none of them counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def integer_nodes(inspected: str, weighted: Iterable[str]) -> set[str]:
    """Returns those of `weighted` (node names) that run in a layer of their own on an 8-bit activation.

    Raises:
        ValueError: that is not the inspector's JSON.
    """
    known = set(weighted)
    found: set[str] = set()
    layers = json.loads(inspected).get("Layers", [])
    for layer in layers:
        if not isinstance(layer, dict):
            continue  # names alone: the engine was not built for inspection
        nodes = {name for name in _NODE.findall(str(layer.get("Metadata", ""))) if name in known}
        if len(nodes) == 1 and _first_is_int8(layer):
            found |= nodes
    return found


def _first_is_int8(layer: dict[str, Any]) -> bool:
    """The first input is the activation; biases, scales and skip connections follow and may be float."""
    inputs = layer.get("Inputs") or [{}]
    said = " ".join(str(inputs[0].get(key, "")) for key in ("Format/Datatype", "Format", "Datatype"))
    return "int8" in said.lower()
