"""Stands in for TensorRT and a GPU where there is neither: builds with a real TensorRT-RTX, executes with ONNX Runtime.

What is real: parser, builder, profile, the ctypes calls of `quantize.cuda` and every byte that they move. What is
not: the CUDA library (host memory) and the execution of the plan.
"""

# ruff: noqa: N802 (the names are CUDA's)

from __future__ import annotations

import ctypes
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx

from quantize.graph import Graph
from quantize.placement import WEIGHTED
from quantize.runtimes import OnnxRuntime


class HostCuda:
    """The CUDA runtime's C interface over host memory; takes and fills what ctypes gives."""

    def __init__(self, gpus: int = 1, code: int = 0) -> None:
        self.gpus, self.code = gpus, code
        self.blocks: dict[int, Any] = {}
        self.allocations = 0
        self.cudaGetErrorString = self._describe  # an attribute, whose restype is set

    class _Describe:
        restype: Any = None

        def __call__(self, code: int) -> bytes:
            return b"no CUDA-capable device is detected"

    _describe = _Describe()

    def cudaGetDeviceCount(self, count: Any) -> int:
        count._obj.value = self.gpus
        return self.code

    def cudaSetDevice(self, device: Any) -> int:
        return 0

    def cudaDeviceGetAttribute(self, value: Any, which: Any, device: Any) -> int:
        value._obj.value = {75: 9, 76: 0}[which.value]
        return 0

    def cudaMalloc(self, address: Any, size: Any) -> int:
        block = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(block)
        self.blocks[ctypes.addressof(block)] = block
        self.allocations += 1
        return 0

    def cudaFree(self, address: Any) -> int:
        del self.blocks[address.value]
        return 0

    def cudaStreamCreate(self, stream: Any) -> int:
        stream._obj.value = 7
        return 0

    def cudaStreamDestroy(self, stream: Any) -> int:
        return 0 if stream.value == 7 else 400

    def cudaStreamSynchronize(self, stream: Any) -> int:
        return 0 if stream.value == 7 else 400

    def cudaMemcpy(self, target: Any, source: Any, size: Any, kind: Any) -> int:
        device = target if kind.value == 1 else source
        block = self.blocks.get(device.value)
        if block is None or len(block) < size.value:
            return 1
        ctypes.memmove(target.value, source.value, size.value)
        return 0


def module(version: str = "10.13.2.6") -> Any:
    """Returns what `import tensorrt` would: TensorRT-RTX's classes, with an execution of our own."""
    import tensorrt_rtx_bindings as rtx

    graphs: dict[bytes, tuple[bytes, Any]] = {}
    parsed: list[bytes] = []

    class Parser:
        def __init__(self, network: Any, logger: Any) -> None:
            self.real = rtx.OnnxParser(network, logger)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def parse(self, model: bytes) -> bool:
            parsed[:] = [model]
            return bool(self.real.parse(model))

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.real = rtx.Builder(logger)

        def create_network(self, flags: int) -> Any:
            return self.real.create_network(flags)

        def create_builder_config(self) -> Any:
            config = self.real.create_builder_config()
            # Stands for the GPU that a TensorRT finds by itself.
            config.num_compute_capabilities = 1
            config.set_compute_capability(rtx.ComputeCapability.SM89, 0)
            return config

        def create_optimization_profile(self) -> Any:
            self.profile = self.real.create_optimization_profile()
            return self.profile

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            plan = self.real.build_serialized_network(network, config)
            if plan is not None:
                names = [network.get_input(index).name for index in range(network.num_inputs)]
                limits = {name: [tuple(shape) for shape in self.profile.get_shape(name)] for name in names}
                graphs[bytes(plan)] = (parsed[0], limits)
            return plan

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            if plan not in graphs:
                self.logger.log(rtx.ILogger.ERROR, "the engine plan file is not compatible")
                return None
            return Engine(*graphs[plan], rtx)

    kept = (
        "NetworkDefinitionCreationFlag", "ProfilingVerbosity", "ILogger", "TensorIOMode", "LayerInformationFormat",
        "nptype",
    )  # fmt: skip
    names = {name: getattr(rtx, name) for name in kept}
    return SimpleNamespace(__version__=version, Builder=Builder, OnnxParser=Parser, Runtime=Runtime, **names)


class Engine:
    """The part of ICudaEngine and IExecutionContext that is used; one object for both."""

    def __init__(self, content: bytes, limits: dict[str, list[tuple[int, ...]]], rtx: Any) -> None:
        self.model = onnx.load_from_string(content)
        self.rtx, self.limits = rtx, limits
        graph = Graph(self.model)
        self.specs = {spec.name: spec for spec in (*graph.inputs(), *graph.output_specs())}
        self.inputs = [spec.name for spec in graph.inputs()]
        self.made = [spec.name for spec in graph.output_specs()]
        self.session = OnnxRuntime(content, self.made)
        self.num_io_tensors = len(self.specs)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def get_tensor_name(self, index: int) -> str:
        return list(self.specs)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.rtx.TensorIOMode.INPUT if name in self.inputs else self.rtx.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        types = {"float32": "FLOAT", "int64": "INT64", "int32": "INT32", "uint8": "UINT8"}
        return getattr(self.rtx.DataType, types[self.specs[name].dtype.name])

    def create_execution_context(self) -> Engine:
        return self

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.limits[name]
        self.shapes[name] = shape
        return all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        rows = next(iter(self.shapes.values()))[0]
        return tuple(rows if size is None else size for size in self.specs[name].dims)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        feed = {}
        for name in self.inputs:
            dtype, shape = self.specs[name].dtype, self.shapes[name]
            held = ctypes.string_at(self.addresses[name], int(np.prod(shape)) * dtype.itemsize)
            feed[name] = np.frombuffer(held, dtype).reshape(shape)
        for name, array in self.session.run(feed).items():
            ctypes.memmove(self.addresses[name], np.ascontiguousarray(array).tobytes(), array.nbytes)
        return stream == 7


class Inspector:
    """The part of IEngineInspector that is used. Formats of free dimensions are known to a context with shapes only."""

    def __init__(self, engine: Engine) -> None:
        self.model = engine.model
        self.execution_context: Engine | None = None

    def get_engine_information(self, form: Any) -> str:
        graph = Graph(self.model)
        layers = []
        known = self.execution_context is not None and self.execution_context.shapes
        for node in self.model.graph.node:
            if node.op_type in WEIGHTED:
                source = graph.producer.get(node.input[0])
                integer = source is not None and source.op_type == "DequantizeLinear"
                kind = "Int8 NC/32HW32" if integer else "Row major linear FP32"
                kind = kind if known else "N/A due to dynamic shapes"
                inputs = [{"Name": node.input[0], "Format/Datatype": kind}]
                layers.append({"Name": node.name, "Metadata": f"[ONNX Layer: {node.name}]", "Inputs": inputs})
        return json.dumps({"Layers": layers, "Bindings": []})
