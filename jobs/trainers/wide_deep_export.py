"""Wide & Deep as ONNX, and as a folder that `sluice models publish` and `sluice quantize` take."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.trainers.adult import CATEGORICAL, CONTINUOUS, Part
from jobs.trainers.wide_deep_network import Probability, WideDeep

ARTIFACT = "artifacts/onnx/model.onnx"
GOLDEN_ROWS, CALIBRATION_ROWS = 64, 512
Arrays = Mapping[str, NDArray[Any]]


def export(network: WideDeep, artifact: Path) -> None:
    """Writes the graph: categorical [rows, 8], continuous [rows, 5] -> probability [rows, 1]."""
    import onnx

    sample = (torch.zeros(2, len(CATEGORICAL), dtype=torch.int64), torch.zeros(2, len(CONTINUOUS)))
    rows = {0: torch.export.Dim("rows")}
    program = torch.onnx.export(
        Probability(network).eval(),
        sample,
        dynamo=True,
        opset_version=18,
        input_names=["categorical", "continuous"],
        output_names=["probability"],
        dynamic_shapes=(rows, rows),
        external_data=False,
        verbose=False,
    )
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    artifact.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, artifact)


def run(artifact: Path, part: Part) -> NDArray[np.float32]:
    """Returns what ONNX Runtime computes: probabilities [rows, 1]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(artifact), providers=["CPUExecutionProvider"])
    feed = {"categorical": part.categorical, "continuous": part.continuous}
    found: NDArray[np.float32] = session.run(["probability"], feed)[0]
    return found


def write_npz(path: Path, arrays: Arrays) -> None:
    """Writes a compressed .npz whose bytes depend on the arrays alone (numpy.savez stamps the time of day)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


def write_folder(
    folder: Path, vocabulary: Mapping[str, list[str]], held_out: Part, probabilities: NDArray[np.float32],
    metrics: Mapping[str, Any], lineage: Mapping[str, Any],
) -> None:  # fmt: skip
    """Writes what a version needs beside its graph, the manifest last."""
    document = {"categorical": [{"name": c, "values": vocabulary[c]} for c in CATEGORICAL], "continuous": CONTINUOUS}
    (folder / "vocabulary.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    rows = slice(0, GOLDEN_ROWS)
    inputs: dict[str, NDArray[Any]] = {
        "input.categorical": held_out.categorical[rows],
        "input.continuous": held_out.continuous[rows],
    }
    write_npz(folder / "golden" / "cases.npz", {**inputs, "output.probability": probabilities[rows]})
    cases = {"schema_version": 1, "file": "cases.npz", "tolerance": {"probability": {"atol": 1e-4, "rtol": 1e-3}}}
    (folder / "golden" / "cases.json").write_text(json.dumps(cases, indent=2) + "\n", encoding="utf-8")
    write_npz(folder / "warmup" / "inputs.npz", {name: array[:1] for name, array in inputs.items()})
    targets = [
        {"name": engine, "artifacts": [ARTIFACT], "parameters": {"intra_op_threads": 1}}
        for engine in ("onnxruntime", "openvino")
    ]
    manifest = {
        "schema_version": 1,
        "description": "Wide & Deep on the Adult census table: the probability that a person earns more than 50K.",
        "max_batch_size": 256,
        "inputs": [
            {"name": "categorical", "datatype": "INT64", "shape": [len(CATEGORICAL)]},
            {"name": "continuous", "datatype": "FP32", "shape": [len(CONTINUOUS)]},
        ],
        "outputs": [{"name": "probability", "datatype": "FP32", "shape": [1]}],
        "targets": targets,
        "metrics": dict(metrics),
        "lineage": dict(lineage),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def write_quantize_rows(folder: Path, train: Part, held_out: Part) -> None:
    """Writes the rows that `sluice quantize` wants; none of the judged ones is among those it calibrates with."""
    judged = {(c.tobytes(), n.tobytes()) for c, n in zip(held_out.categorical, held_out.continuous, strict=True)}
    free = [
        row
        for row in range(min(4 * CALIBRATION_ROWS, len(train)))
        if (train.categorical[row].tobytes(), train.continuous[row].tobytes()) not in judged
    ][:CALIBRATION_ROWS]
    chosen: dict[str, NDArray[Any]] = {
        "categorical": train.categorical[free].astype(np.int8),
        "continuous": train.continuous[free],
    }
    write_npz(folder / "calibration.npz", chosen)
    every: dict[str, NDArray[Any]] = {
        "categorical": held_out.categorical.astype(np.int8),
        "continuous": held_out.continuous,
    }
    write_npz(folder / "evaluation.npz", {**every, "label": held_out.label.astype(np.int8)})
