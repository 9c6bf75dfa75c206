"""The GPU benchmark's networks as models of a registry: each a python backend around `networks.py`."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_Tensors = list[tuple[str, str, list[int]]]
_SHAPES: dict[str, dict[str, tuple[_Tensors, _Tensors, int]]] = {
    "full": {
        "resnet50": ([("image", "FP32", [3, 224, 224])], [("scores", "FP32", [1000])], 64),
        "bert": ([("input_ids", "INT64", [-1])], [("pooled", "FP32", [768])], 64),
        "wide_deep": ([("categories", "INT64", [8]), ("numbers", "FP32", [5])], [("probability", "FP32", [1])], 4096),
    },
    "tiny": {
        "resnet50": ([("image", "FP32", [3, 32, 32])], [("scores", "FP32", [1000])], 8),
        "bert": ([("input_ids", "INT64", [-1])], [("pooled", "FP32", [32])], 8),
        "wide_deep": ([("categories", "INT64", [8]), ("numbers", "FP32", [5])], [("probability", "FP32", [1])], 64),
    },
}

MODEL = '''"""A network of the GPU benchmark in Triton's python backend."""

import numpy as np
import torch
import triton_python_backend_utils as pb_utils

NAME, SIZE, DEVICE, INPUTS, OUTPUT = {name!r}, {size!r}, {device!r}, {inputs!r}, {output!r}

{networks}

class TritonPythonModel:
    def initialize(self, args):
        self.network = network(NAME, SIZE).to(DEVICE)
        if DEVICE == "cuda":
            self.network = self.network.half()

    def execute(self, requests):
        with torch.inference_mode():
            made = [self.run(self.feed(request)) for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor(OUTPUT, array)]) for array in made]

    def feed(self, request):
        return [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS]

    def run(self, feed):
        tensors = [torch.from_numpy(array).to(DEVICE) for array in feed]
        if DEVICE == "cuda":
            tensors = [tensor.half() if tensor.is_floating_point() else tensor for tensor in tensors]
        return self.network(*tensors).float().cpu().numpy().astype(np.float32)
'''


def missing(python: Path) -> str | None:
    """Returns why Triton cannot run the networks, None where it can: its interpreter must be there and have torch."""
    if not python.exists():
        return f"{python.parent.parent.name} is not there: run `make setup` where there is a network, and copy it"
    done = subprocess.run([str(python), "-c", "import torch"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{python.parent.parent.name} has no torch"


def registry(folder: Path, device: str, size: str) -> Path:
    """Writes the three models and returns the registry's folder."""
    networks = (HERE / "networks.py").read_text().replace("from __future__ import annotations\n", "")
    for name, (inputs, outputs, rows) in _SHAPES[size].items():
        code = MODEL.format(
            name=name, size=size, device=device, inputs=[entry[0] for entry in inputs], output=outputs[0][0],
            networks=networks,
        )  # fmt: skip
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(code)
        content = code.encode()
        manifest = {
            "schema_version": 1, "model": name, "version": 1, "description": f"GPU benchmark: {name}, {size}.",
            "max_batch_size": rows, "inputs": _tensors(inputs), "outputs": _tensors(outputs),
            "targets": [{"name": "python", "artifacts": ["model.py"]}],
            "files": [
                {"path": "model.py", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()},
            ],
            "lineage": {"source": "benchmarks/gpu", "licence": "Apache-2.0"},
        }  # fmt: skip
        (version / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _tensors(entries: _Tensors) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in entries]
