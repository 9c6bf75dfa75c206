"""The engines that execute a graph here, with the very settings that the served model will have.

Each is a session over one graph: `run` takes arrays by input name and returns arrays by output name. Invariants:
OpenVINO computes in FP32 where the graph is FP32 (its BF16 default would blame the quantization for lost digits), and
one thread unless told otherwise, so that latencies compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quantize.workspace import workspace

Feed = Mapping[str, NDArray[Any]]
Arrays = dict[str, NDArray[Any]]


class Runtime(Protocol):
    """A loaded graph."""

    def run(self, feed: Feed) -> Arrays: ...


class OnnxRuntime:
    """An ONNX Runtime session on the CPU."""

    def __init__(self, model: bytes | str, outputs: Sequence[str], *, threads: int = 1, optimise: bool = True) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._outputs = list(outputs)

    def run(self, feed: Feed) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(feed)), strict=True))


class OpenVino:
    """An OpenVINO infer request on the CPU, compiled for latency."""

    def __init__(self, model: bytes | str, outputs: Sequence[str], *, threads: int = 1) -> None:
        import openvino

        core = openvino.Core()
        graph = core.read_model(model) if isinstance(model, str) else core.read_model(model, b"")
        wanted = [graph.output(name) for name in outputs]
        if len(wanted) < len(graph.outputs):
            graph = openvino.Model(wanted, graph.get_parameters(), graph.friendly_name)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        self.compiled = core.compile_model(graph, "CPU", settings)
        self._request = self.compiled.create_infer_request()
        self._outputs = list(outputs)
        # An input that nothing reads is an input of the model and not of the compiled graph.
        self._read = {name for port in self.compiled.inputs for name in port.get_names()}

    def run(self, feed: Feed) -> Arrays:
        read = {name: array for name, array in feed.items() if name in self._read}
        results = self._request.infer(read, share_inputs=True)
        return {name: np.array(results[name]) for name in self._outputs}


RUNTIMES: dict[str, type[OnnxRuntime] | type[OpenVino]] = {"openvino": OpenVino, "onnxruntime": OnnxRuntime}


def optimised_onnx(model: bytes) -> bytes:
    """Returns the graph as ONNX Runtime really executes it, after all its optimisations."""
    import onnxruntime

    with workspace() as folder:
        path = folder / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()


def versions() -> dict[str, str]:
    """Returns the versions of what made and judged the artifacts."""
    import onnx
    import onnxruntime
    import openvino

    return {
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "openvino": openvino.__version__,
    }
