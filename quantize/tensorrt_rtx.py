"""Lets a real TensorRT judge a graph: TensorRT-RTX parses and builds engines on machines without a GPU.

The packages `tensorrt-rtx-cu12-libs` and `-bindings` are optional (extra `tensorrt-rtx`). It compiles for a compute
capability that is named; it cannot run the engine here, so nothing of accuracy or speed follows from a build.
"""

from __future__ import annotations

import importlib.util

from quantize import tensorrt_engine
from quantize.errors import TargetUnavailable
from quantize.tensorrt_engine import TENSORRT_RTX, BuiltEngine, Compiler

CAPABILITY = "8.9"


def is_available() -> bool:
    return importlib.util.find_spec("tensorrt_rtx_bindings") is not None


def build(
    model: bytes,
    *,
    rows: tuple[int, int, int],
    lengths: tuple[int, int, int] = (64, 64, 64),
    capability: str = CAPABILITY,
) -> BuiltEngine:
    """Returns the engine that TensorRT-RTX makes of an ONNX graph.

    Raises:
        TargetUnavailable: the packages are not installed.
        UnsupportedModel: its parser or builder refuses the graph, with its words.
    """
    if not is_available():
        raise TargetUnavailable("TensorRT-RTX is not installed (pip install 'sluice[tensorrt-rtx]')")
    import tensorrt_rtx_bindings

    compiler = Compiler(TENSORRT_RTX, tensorrt_rtx_bindings, capability)
    return tensorrt_engine.build(model, compiler, rows=rows, lengths=lengths)
