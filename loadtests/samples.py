"""What the users send: pictures, sentences and table rows of the demo models, and what right answers look like.

Pictures and sentences are the models' golden rows, with the answers that another runtime gave; table rows are held-out
rows of the census, several a request, their right answers asked alone before the load begins. Seeded.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gateway.bench.answers import Outputs, decode_rest
from gateway.bench.encoding import HEADER_LENGTH, infer_path, rest_binary_body
from gateway.bench.payload import Array, Tensor, tensor_of
from gateway.tensors import DATATYPES, TensorSpec

MODEL_REPO = Path(__file__).resolve().parents[1] / "model_repo"
PICTURES, SENTENCES, ROWS = "efficientnet_lite0", "minilm", "wide_deep"
MODELS = (PICTURES, SENTENCES, ROWS)
WEIGHTS = {PICTURES: 1, SENTENCES: 4, ROWS: 8}
"""How often a user chooses each model."""

SEED = 7
_ROWS_PER_REQUEST = (1, 4, 16, 64)
_TABLE_REQUESTS = 24
_DATATYPES = {np.dtype("u1"): "UINT8", np.dtype("<i8"): "INT64", np.dtype("<f4"): "FP32"}


@dataclass(slots=True)
class Sample:
    """One request of a model; `expected` None until it was asked alone."""

    model: str
    tensors: list[Tensor]
    outputs: list[str]
    expected: Outputs | None

    def body(self) -> tuple[bytes, int]:
        """Returns the REST body with binary tensors and the length of its JSON header."""
        return rest_binary_body(self.tensors, self.outputs)


def samples(repository: Path = MODEL_REPO) -> dict[str, list[Sample]]:
    """Returns the requests of every model whose golden rows are in the repository."""
    found: dict[str, list[Sample]] = {}
    for model in MODELS:
        stable = json.loads((repository / model / "serving.json").read_text())["stable"]
        path = repository / model / str(stable) / "golden" / "cases.npz"
        with np.load(path) as arrays:
            inputs = {name[6:]: arrays[name] for name in arrays.files if name.startswith("input.")}
            outputs = {name[7:]: arrays[name] for name in arrays.files if name.startswith("output.")}
        rows = len(next(iter(inputs.values())))
        slices = [slice(row, row + 1) for row in range(rows)] if model != ROWS else [slice(0, rows)]
        found[model] = [_sample(model, inputs, outputs, part) for part in slices]
    found[ROWS] += _table(repository)
    return found


def ask_expected(address: str, sample: Sample) -> None:
    """Asks a sample alone over REST (host:port) and keeps the answer. Raises RuntimeError."""
    body, length = sample.body()
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("POST", infer_path(sample.model, ""), body, {HEADER_LENGTH: str(length)})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{sample.model} answered {answer.status}: {content[:300]!r}")
    announced = answer.getheader(HEADER_LENGTH)
    sample.expected = decode_rest(content, None if announced is None else int(announced))


def _table(repository: Path) -> list[Sample]:
    random = np.random.default_rng(SEED)
    with np.load(repository / ROWS / "1" / "samples" / "held_out.npz") as arrays:
        inputs = {
            "categorical": arrays["input.categorical"].astype(np.int64),
            "continuous": arrays["input.continuous"],
        }
    count = len(inputs["categorical"])
    made = []
    for index in range(_TABLE_REQUESTS):
        rows = _ROWS_PER_REQUEST[index % len(_ROWS_PER_REQUEST)]
        chosen = {name: array[random.integers(0, count, rows)] for name, array in inputs.items()}
        made.append(_sample(ROWS, chosen, {"probability": None}, slice(0, rows)))
    return made


def _sample(model: str, inputs: dict[str, Array], outputs: dict[str, Array | None], part: slice) -> Sample:
    tensors = []
    for name, array in inputs.items():
        chosen = np.ascontiguousarray(array[part])
        tensors.append(tensor_of(TensorSpec(name, DATATYPES[_DATATYPES[chosen.dtype]], chosen.shape), chosen))
    expected = {name: array[part] for name, array in outputs.items() if array is not None}
    return Sample(model, tensors, list(outputs), expected or None)
