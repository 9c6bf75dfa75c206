"""Which nodes of a graph an engine of TensorRT runs on integers, from what its inspector says.

The inspector (detailed profiling verbosity) gives JSON: layers with their inputs' formats and, as metadata, the ONNX
nodes that they were made of. Invariant: in doubt a node counts as float. A layer that merges several weighted nodes
says nothing about each, so none of them counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def integer_nodes(inspected: str, weighted: Iterable[str]) -> set[str]:
    """Returns those of `weighted` (node names) that run in a layer of their own on an 8-bit activation.

    Raises:
        ValueError: that is not the inspector's JSON, or it does not say what format anything has.
    """
    marks = {name: f"[ONNX Layer: {name}]" for name in weighted}
    found: set[str] = set()
    silent = True
    layers = json.loads(inspected).get("Layers", [])
    for layer in layers:
        if not isinstance(layer, dict):
            continue  # names alone: the engine was not built for inspection
        made_of = str(layer.get("Metadata", ""))
        nodes = {name for name, mark in marks.items() if mark in made_of}
        said = _of_the_first(layer)
        silent = silent and not (nodes and said)
        if len(nodes) == 1 and "int8" in said:
            found |= nodes
    if silent and marks:
        raise ValueError("the engine's inspector does not say on what types its layers run")
    return found


def _of_the_first(layer: dict[str, Any]) -> str:
    """Returns what is said of the first input, nothing if that is not known ("N/A due to dynamic shapes").

    It is the activation; biases, scales and skip connections follow and may be float.
    """
    inputs = layer.get("Inputs") or [{}]
    said = " ".join(str(inputs[0].get(key, "")) for key in ("Format/Datatype", "Format", "Datatype")).strip().lower()
    return "" if said.startswith("n/a") else said
