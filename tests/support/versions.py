"""Versions of a small model that name themselves in their answers: `shift` version n answers Y = X + n."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from gateway.registry.folder_store import FolderStore
from gateway.registry.publishing import PublishOptions, publish_version
from gateway.registry.switching import serve_version
from gateway.versions import ModelVersion

MODEL = "shift"
_CODE = '''"""Y = X + {number}."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("{output}", self._shifted(request))]) for request in requests
        ]

    def _shifted(self, request):
        return pb_utils.get_input_tensor_by_name(request, "{input}").as_numpy() + {number}
'''


def code(number: int, given: str = "X", made: str = "Y") -> str:
    """Returns the python model that adds `number` to its input `given` and calls the result `made`."""
    return _CODE.format(number=number, input=given, output=made)


def prepare(folder: Path, number: int, *, answers: int | None = None, golden: bool = True, **changes: Any) -> Path:
    """Writes an unpublished version into `folder`; it answers X + `answers` where that differs from its number.

    `changes` replace parts of the manifest.
    """
    document: dict[str, Any] = {
        "max_batch_size": 8,
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [4]}],
        "outputs": [{"name": "Y", "datatype": "FP32", "shape": [4]}],
        "targets": [{"name": "python", "artifacts": ["artifacts/python/model.py"]}],
        **changes,
    }
    source = code(number if answers is None else answers, document["inputs"][0]["name"], document["outputs"][0]["name"])
    (folder / "artifacts" / "python").mkdir(parents=True)
    (folder / "artifacts" / "python" / "model.py").write_text(source)
    (folder / "manifest.json").write_text(json.dumps(document))
    if golden:
        inputs = np.arange(12, dtype=np.float32).reshape(3, 4)
        name, answer = document["inputs"][0]["name"], document["outputs"][0]["name"]
        (folder / "golden").mkdir()
        (folder / "golden" / "cases.npz").write_bytes(
            _npz({f"input.{name}": inputs, f"output.{answer}": inputs + np.float32(number)})
        )
        cases = {"schema_version": 1, "file": "cases.npz", "tolerance": {answer: {"atol": 1e-6}}}
        (folder / "golden" / "cases.json").write_text(json.dumps(cases))
    return folder


def publish(root: Path, scratch: Path, number: int, *, serve: bool = True, **changes: Any) -> ModelVersion:
    """Publishes version `number`, which must be the next one, and with `serve` makes it the stable one."""
    root.mkdir(exist_ok=True)
    folder = prepare(scratch / f"prepared-{number}", number, **changes)
    published = publish_version(FolderStore(root), folder, MODEL, actor="test", options=PublishOptions(serve=serve))
    assert published.version.number == number
    return published.version


def switch(root: Path, number: int, *, allow_breaking: bool = False) -> None:
    """Makes a published version the stable one."""
    serve_version(FolderStore(root), ModelVersion(MODEL, number), actor="test", allow_breaking=allow_breaking)


def _npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
