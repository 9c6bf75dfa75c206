"""A text classifier as ONNX, and as a folder that `sluice models publish` and `sluice quantize` take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.trainers.text_encoder import INPUTS, LOGITS, Encoder, with_head
from jobs.trainers.texts import Texts
from jobs.trainers.wide_deep_export import write_npz

ARTIFACT = "artifacts/onnx/model.onnx"
GOLDEN_ROWS, CALIBRATION_ROWS = 16, 256


def export(encoder: Path, embedding: str, head: Any, artifact: Path) -> None:
    """Writes the graph: input_ids and attention_mask [rows, tokens] -> logits [rows, classes]."""
    import onnx

    weight = np.ascontiguousarray(head.weight.detach().numpy().T)
    model = with_head(onnx.load(str(encoder)), embedding, weight, head.bias.detach().numpy())
    onnx.checker.check_model(model)
    artifact.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(artifact))


def run(artifact: Path, texts: Texts) -> NDArray[np.float32]:
    """Returns what ONNX Runtime computes: logits [rows, classes]."""
    return Encoder(artifact, LOGITS).embed(texts)


def write_folder(
    folder: Path, vocabulary: Path, classes: Sequence[str], shown: Texts, logits: NDArray[np.float32],
    metrics: Mapping[str, Any], lineage: Mapping[str, Any],
) -> None:  # fmt: skip
    """Writes what a version needs beside its graph, the manifest last; the first texts of `shown` are in it."""
    shutil.copyfile(vocabulary, folder / "vocab.txt")
    (folder / "classes.json").write_text(json.dumps(list(classes), indent=2) + "\n", encoding="utf-8")
    rows = slice(0, GOLDEN_ROWS)
    inputs: dict[str, NDArray[Any]] = {f"input.{name}": getattr(shown, name)[rows] for name in INPUTS}
    write_npz(folder / "golden" / "cases.npz", {**inputs, f"output.{LOGITS}": logits[rows]})
    cases = {"schema_version": 1, "file": "cases.npz", "tolerance": {LOGITS: {"atol": 1e-3, "rtol": 1e-3}}}
    (folder / "golden" / "cases.json").write_text(json.dumps(cases, indent=2) + "\n", encoding="utf-8")
    write_npz(folder / "warmup" / "inputs.npz", {name: array[:1] for name, array in inputs.items()})
    manifest = {
        "schema_version": 1,
        "description": f"Text classifier: BERT uncased tokens in, logits of {len(classes)} classes out (classes.json).",
        "max_batch_size": 32,
        "inputs": [{"name": name, "datatype": "INT64", "shape": [-1]} for name in INPUTS],
        "outputs": [{"name": LOGITS, "datatype": "FP32", "shape": [len(classes)]}],
        "targets": [
            {"name": engine, "artifacts": [ARTIFACT], "parameters": {"intra_op_threads": 0}}
            for engine in ("onnxruntime", "openvino")
        ],
        "metrics": dict(metrics),
        "lineage": dict(lineage),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def write_quantize_rows(folder: Path, train: Texts, held_out: Texts) -> None:
    """Writes the rows that `sluice quantize` wants: learned ones to calibrate with, held-out ones to judge by."""
    chosen = _inputs(train.at(np.arange(min(CALIBRATION_ROWS, len(train)))))
    write_npz(folder / "calibration.npz", chosen)
    write_npz(folder / "evaluation.npz", {**_inputs(held_out), "label": held_out.label.astype(np.int32)})


def _inputs(texts: Texts) -> dict[str, NDArray[Any]]:
    return {"input_ids": texts.input_ids.astype(np.int32), "attention_mask": texts.attention_mask.astype(np.int8)}
