"""Lets a real TensorRT judge a graph: TensorRT-RTX parses and builds engines on machines without a GPU.

The packages `tensorrt-rtx-cu12-libs` and `-bindings` are optional (extra `tensorrt-rtx`). It compiles for a compute
capability that is named; it cannot run the engine here, so nothing of accuracy or speed follows from a build.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantize.errors import TargetUnavailable, UnsupportedModel

CAPABILITY = "SM89"


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine in memory: for which TensorRT-RTX, compute capability and row counts (smallest, best, largest)."""

    plan: bytes
    version: str
    capability: str
    layers: int
    rows: tuple[int, int, int]


def is_available() -> bool:
    return importlib.util.find_spec("tensorrt_rtx_bindings") is not None


def build(model: bytes, *, rows: tuple[int, int, int], length: int = 64, capability: str = CAPABILITY) -> BuiltEngine:
    """Returns the engine that TensorRT-RTX makes of an ONNX graph; dynamic dims other than rows go up to `length`.

    Raises:
        TargetUnavailable: the packages are not installed.
        UnsupportedModel: its parser or builder refuses the graph, with its words.
    """
    if not is_available():
        raise TargetUnavailable("TensorRT-RTX is not installed (pip install 'sluice[tensorrt-rtx]')")
    import tensorrt_rtx_bindings as trt

    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        said = [parser.get_error(index).desc() for index in range(min(parser.num_errors, 4))]
        raise UnsupportedModel(*[f"TensorRT's parser: {text[:300]}" for text in said])
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape:
            sizes = [tuple(_dim(d, at, n, length) for at, d in enumerate(shape)) for n in rows]
            profile.set_shape(tensor.name, *sizes)
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UnsupportedModel(f"TensorRT's builder refuses the graph: {'; '.join(logger.errors)[:400]}")
    return BuiltEngine(bytes(plan), str(trt.__version__), capability, network.num_layers, rows)


def engine_entry(engine: BuiltEngine, inputs: Mapping[str, tuple[int | None, ...]], length: int = 64) -> dict[str, Any]:
    """Returns what the manifest says of the engine; `inputs` are shapes without rows, None where any size will do."""
    major, minor = engine.capability.removeprefix("SM")[:-1], engine.capability[-1]
    profiles = {
        name: {key: [rows, *(length if d is None else d for d in dims)]
               for key, rows in zip(("min", "opt", "max"), engine.rows, strict=True)}
        for name, dims in inputs.items()
    }  # fmt: skip
    return {
        "runtime": "tensorrt-rtx",
        "version": engine.version,
        "compute_capability": f"{major}.{minor}",
        "profiles": profiles,
    }


def _dim(dim: int, axis: int, rows: int, length: int) -> int:
    return dim if dim != -1 else rows if axis == 0 else length


def _logger(trt: Any) -> Any:
    """Returns a logger that keeps errors instead of printing them."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: object, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()
