"""Versions of a small classifier for releases, and faults that a new version may have.

Four float inputs a row, four logits and a label a row: the label is where the largest input is. A fault is a piece of
Python that runs in the model; without one all versions answer alike.
"""

from __future__ import annotations

import json
from pathlib import Path

from gateway.registry.folder_store import FolderStore
from gateway.registry.publishing import PublishOptions, publish_version

MODEL = "classifier"
ROWS = 8
_CODE = '''"""Logits are the inputs; a planted fault changes them."""

import random
import time

import numpy as np
import triton_python_backend_utils as pb_utils

BUSY_S = {busy}
RNG = random.Random(7)


class TritonPythonModel:
    def execute(self, requests):
        # Asleep, not computing: a machine that is busy otherwise makes it little slower.
        time.sleep(BUSY_S * RNG.uniform(0.9, 1.1))
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        logits = x.copy()
        live = (x[:, 0] != 0).any()
{fault}
        label = np.argmax(logits, axis=1).astype(np.int64)[:, None]
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", logits), pb_utils.Tensor("LABEL", label)])
'''
FAULTS = {
    "none": "",
    "slow": "",
    "errors": """
        # Of the row, not of the call: a failed batch is run again in halves until the row that is to blame is alone.
        if ((x[:, 0] * 10000).astype(np.int64) % 50 == 1).any():
            return pb_utils.InferenceResponse([], error=pb_utils.TritonError("planted"))
""",
    "accuracy": """
        for row in range(len(logits)):
            if live and RNG.random() < 0.02:
                logits[row] = np.roll(logits[row], 1)
""",
    "scale": """
        logits = logits * np.float32(1.5)
""",
    "nan": """
        for row in range(len(logits)):
            if live and RNG.random() < 0.005:
                logits[row, 1] = np.nan
""",
    "broken": """
        if live:
            return pb_utils.InferenceResponse([], error=pb_utils.TritonError("planted"))
""",
}
"""By name; warm-up sends zeros, which no fault touches."""


def publish(
    root: Path, scratch: Path, number: int, fault: str = "none", busy_ms: float = 0.0, slower: float = 1.3
) -> None:
    """Publishes version `number` (the next one) with a fault; `busy_ms` is what an execution takes, and
    `slower` times that with the fault "slow"."""
    root.mkdir(exist_ok=True)
    folder = scratch / f"{MODEL}-{number}"
    busy = busy_ms / 1000 * (slower if fault == "slow" else 1.0)
    (folder / "artifacts" / "python").mkdir(parents=True)
    (folder / "artifacts" / "python" / "model.py").write_text(_CODE.format(busy=busy, fault=FAULTS[fault].rstrip()))
    document = {
        "max_batch_size": ROWS,
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [4]}],
        "outputs": [
            {"name": "Y", "datatype": "FP32", "shape": [4]},
            {"name": "LABEL", "datatype": "INT64", "shape": [1]},
        ],
        "targets": [{"name": "python", "artifacts": ["artifacts/python/model.py"]}],
    }
    (folder / "manifest.json").write_text(json.dumps(document))
    published = publish_version(
        FolderStore(root), folder, MODEL, actor="test", options=PublishOptions(serve=number == 1)
    )
    assert published.version.number == number
