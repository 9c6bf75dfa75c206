"""Builds an engine (a plan) from an explicit Q/DQ graph: one code for TensorRT 10 and 11 and for TensorRT-RTX.

Their Python interfaces are the same but for two things, which `Compiler` names: TensorRT builds for the GPU that is
there, TensorRT-RTX for the compute capability that is named. Networks are strongly typed, so the graph's Q/DQ alone
decide what is INT8 (TensorRT 11 knows nothing else; in 10 the flag says so).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantize.errors import UnsupportedModel

TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt-rtx"
NAMES = {TENSORRT: "TensorRT", TENSORRT_RTX: "TensorRT-RTX"}
_MOST_ERRORS = 4


@dataclass(frozen=True, slots=True)
class Compiler:
    """A TensorRT that can build: its runtime's name, its Python module, and for which compute capability ("8.9")."""

    runtime: str
    module: Any
    capability: str

    @property
    def names_capability(self) -> bool:
        """Whether the capability is told to the builder; otherwise it is that of the GPU that the builder finds."""
        return self.runtime == TENSORRT_RTX


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine in memory: of which runtime, exact version, compute capability ("8.9") and row counts.

    `rows` and `lengths` are (smallest, best, largest) of rows, and of the other dimensions that are free.
    """

    plan: bytes
    version: str
    capability: str
    layers: int
    rows: tuple[int, int, int]
    lengths: tuple[int, int, int] = (64, 64, 64)
    runtime: str = TENSORRT_RTX

    def as_dict(self) -> dict[str, Any]:
        return {
            "parsed": True,
            "built": True,
            "version": self.version,
            "compute_capability": self.capability,
            "layers": self.layers,
            "plan_bytes": len(self.plan),
            "profile_rows": list(self.rows),
        }


def build(
    model: bytes, compiler: Compiler, *, rows: tuple[int, int, int], lengths: tuple[int, int, int] = (64, 64, 64)
) -> BuiltEngine:
    """Returns the engine of an ONNX graph, with one optimization profile: `rows`, and `lengths` for other free dims.

    Raises:
        UnsupportedModel: the parser or the builder refuses the graph, with its words.
    """
    trt = compiler.module
    name = NAMES[compiler.runtime]
    logger = keeping_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        said = [parser.get_error(index).desc() for index in range(min(parser.num_errors, _MOST_ERRORS))]
        raise UnsupportedModel(*[f"{name}'s parser: {text[:300]}" for text in said or ["no reason given"]])
    config = builder.create_builder_config()
    # What the layers are is read from the engine afterwards (`quantize.tensorrt_layers`).
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape:
            chosen = zip(rows, lengths, strict=True)
            profile.set_shape(tensor.name, *[tuple(_dim(d, at, *one) for at, d in enumerate(shape)) for one in chosen])
    config.add_optimization_profile(profile)
    if compiler.names_capability:
        config.num_compute_capabilities = 1
        named = f"SM{compiler.capability.replace('.', '')}"
        config.set_compute_capability(getattr(trt.ComputeCapability, named), 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UnsupportedModel(f"{name}'s builder refuses the graph: {'; '.join(logger.errors)[:400]}")
    version = str(trt.__version__)
    return BuiltEngine(
        bytes(plan), version, compiler.capability, network.num_layers, rows, lengths, compiler.runtime
    )  # fmt: skip


def engine_entry(engine: BuiltEngine, inputs: Mapping[str, tuple[int | None, ...]]) -> dict[str, Any]:
    """Returns what the manifest says of the engine; `inputs` are shapes without rows, None where any size will do."""
    profiles = {
        name: {
            key: [rows, *(length if d is None else d for d in dims)]
            for key, rows, length in zip(("min", "opt", "max"), engine.rows, engine.lengths, strict=True)
        }
        for name, dims in inputs.items()
    }
    return {
        "runtime": engine.runtime,
        "version": engine.version,
        "compute_capability": engine.capability,
        "profiles": profiles,
    }


def target_name(engine: BuiltEngine) -> str:
    """Returns the name of the manifest's target, such as "tensorrt-10.13.2.6-sm90"; its kind is "tensorrt"."""
    capability = engine.capability.replace(".", "")
    # TensorRT-RTX's is the name that published versions have.
    return f"{engine.runtime}{'' if engine.runtime == TENSORRT_RTX else '-'}{engine.version}-sm{capability}"


def _dim(dim: int, axis: int, rows: int, length: int) -> int:
    return dim if dim != -1 else rows if axis == 0 else length


def keeping_logger(trt: Any) -> Any:
    """Returns a logger that keeps errors instead of printing them."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: object, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()
