"""The GPU benchmark's networks as models of a registry: each a python backend around `networks.py` and `runner.py`."""

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
        "resnet50": ([("image", "UINT8", [224, 224, 3])], [("scores", "FP32", [1000])], 64),
        "bert": ([("input_ids", "INT64", [-1])], [("pooled", "FP32", [768])], 64),
        "wide_deep": ([("categories", "INT64", [8]), ("numbers", "FP32", [5])], [("probability", "FP32", [1])], 16384),
    },
    "tiny": {
        "resnet50": ([("image", "UINT8", [32, 32, 3])], [("scores", "FP32", [1000])], 8),
        "bert": ([("input_ids", "INT64", [-1])], [("pooled", "FP32", [32])], 8),
        "wide_deep": ([("categories", "INT64", [8]), ("numbers", "FP32", [5])], [("probability", "FP32", [1])], 64),
    },
}

MODEL = '''"""A network of the GPU benchmark in Triton's python backend."""

import torch
import triton_python_backend_utils as pb_utils

NAME, SIZE, DEVICE, ROWS, INPUTS, OUTPUT = {name!r}, {size!r}, {device!r}, {rows}, {inputs!r}, {output!r}

{networks}

class TritonPythonModel:
    def initialize(self, args):
        self.runner = Runner(NAME, SIZE, DEVICE, ROWS)

    def execute(self, requests):
        return [self.answer(request) for request in requests]  # one request is one batch: the gateway merged it

    def answer(self, request):
        arrays = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS]
        answers = self.runner([torch.from_numpy(array) for array in arrays])
        return pb_utils.InferenceResponse([pb_utils.Tensor(OUTPUT, answers.float().cpu().numpy())])
'''
_INSTANCES = {"cuda": 2}
"""Two, so that one batch is copied while another one is computed."""


def missing(python: Path) -> str | None:
    """Returns why Triton cannot run the networks, None where it can: its interpreter must be there and have torch."""
    if not python.exists():
        return f"{python.parent.parent.name} is not there: run `make setup` where there is a network, and copy it"
    done = subprocess.run([str(python), "-c", "import torch"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{python.parent.parent.name} has no torch"


def registry(folder: Path, device: str, size: str) -> Path:
    """Writes the three models and returns the registry's folder."""
    networks = "".join(_inlined((HERE / name).read_text()) for name in ("networks.py", "runner.py"))
    for name, (inputs, outputs, rows) in _SHAPES[size].items():
        code = MODEL.format(
            name=name, size=size, device=device, rows=rows, inputs=[entry[0] for entry in inputs],
            output=outputs[0][0], networks=networks,
        )  # fmt: skip
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(code)
        content = code.encode()
        manifest = {
            "schema_version": 1, "model": name, "version": 1, "description": f"GPU benchmark: {name}, {size}.",
            "max_batch_size": rows, "inputs": _tensors(inputs), "outputs": _tensors(outputs),
            "targets": [{"name": "python", "artifacts": ["model.py"], "parameters": _parameters(device)}],
            "files": [
                {"path": "model.py", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()},
            ],
            "lineage": {"source": "benchmarks/gpu", "licence": "Apache-2.0"},
        }  # fmt: skip
        (version / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _inlined(text: str) -> str:
    """Returns a module's text without the imports that a model, a file of its own, cannot follow."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("from __future__", "from benchmarks.")))


def _parameters(device: str) -> dict[str, int]:
    return {"instance_count": _INSTANCES.get(device, 1)}


def _tensors(entries: _Tensors) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in entries]
