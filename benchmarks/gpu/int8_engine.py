"""The INT8 engine that `sluice quantize` builds with TensorRT 10/11, against TensorRT's own FP32 engine.

Seeded weights and random rows: nothing about accuracy, which `sluice quantize publish --target tensorrt` judges.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

Measure = Callable[[Callable[[], None], int, float], dict[str, Any]]
_STAGE = "INT8 engine of TensorRT"
_LARGEST = 8


def measure(device: str, size: str, seconds: float, results: dict[str, Any], latencies: Measure) -> None:
    """Adds scenarios `tensorrt_int8_*` and `tensorrt_fp32_*`, or the reason why there are none."""
    if device != "cuda":
        results["skipped"][_STAGE] = "needs a GPU"
        return
    absent = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if absent:
        results["skipped"][_STAGE] = f"{', '.join(absent)} not installed (pip install 'sluice[quantize]')"
        return
    from quantize import tensorrt_here

    found = tensorrt_here.here()
    if isinstance(found, str):
        results["skipped"][_STAGE] = found
        return
    try:
        for precision, (content, name) in graphs(size).items():
            run = engine(content, name, *found)
            for rows in (1, _LARGEST):
                key = f"tensorrt_{precision}_resnet50_{rows}"
                results["scenarios"][key] = latencies(functools.partial(run, rows), rows, seconds)
    except Exception as error:  # a TensorRT that is half there fails in its own ways
        results["skipped"][_STAGE] = f"{type(error).__name__}: {error}".splitlines()[0]


def graphs(size: str) -> dict[str, tuple[bytes, str]]:
    """Returns the FP32 graph and the TensorRT form of its INT8 graph, each with its output's name."""
    import numpy as np

    from quantize.calibration import calibrate
    from quantize.normalise import normalise
    from quantize.policy import Recipe
    from quantize.sources import from_arrays
    from quantize.targets import make, wanted_tensors
    from tests.support.onnx_models import cnn
    from tools.quantize_latency import resnet50

    model, _ = normalise(resnet50() if size == "full" else cnn())
    given = model.graph.input[0]
    dims = [dim.dim_value for dim in given.type.tensor_type.shape.dim[1:]]
    rows = {given.name: np.random.default_rng(0).normal(size=(_LARGEST, *dims)).astype(np.float32)}
    ranges = calibrate(model, wanted_tensors(model, ["tensorrt"]), from_arrays("rows", rows), rows=None, batch=2)
    candidate = make("tensorrt", model, ranges, Recipe("", "minmax", True, ()))
    output = model.graph.output[0].name
    return {"fp32": (model.SerializeToString(), output), "int8": (candidate.content, output)}


def engine(content: bytes, output: str, compiler: Any, cuda: Any) -> Callable[[int], None]:
    """Returns what runs the graph's engine on so many random rows; built once, for 1 to `_LARGEST` rows."""
    import numpy as np
    import onnx

    from quantize.tensorrt_engine import build
    from quantize.tensorrt_here import TensorRt

    given = onnx.load_from_string(content).graph.input[0]
    dims = [dim.dim_value for dim in given.type.tensor_type.shape.dim[1:]]
    runtime = TensorRt(build(content, compiler, rows=(1, _LARGEST, _LARGEST)), [output], compiler, cuda)
    feeds = {rows: {given.name: np.random.default_rng(rows).normal(size=(rows, *dims)).astype(np.float32)}
             for rows in (1, _LARGEST)}  # fmt: skip

    def run(rows: int) -> None:
        runtime.run(feeds[rows])

    return run
