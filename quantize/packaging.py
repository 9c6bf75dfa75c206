"""Lays the judged artifacts out as a prepared version folder, with what warms and proves it, and the reports.

If the FP32 model lies in a registry version, its description, output names, labels and notices are inherited.
Invariants: only targets that passed are in the manifest; files other than reports depend on the inputs alone, not on
time or machine load.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.registry.document import DocumentError
from gateway.registry.manifest import Manifest, parse_manifest
from gateway.tensors import DataType
from quantize.graph import TensorSpec
from quantize.pipeline import Outcome
from quantize.report_html import html_of
from quantize.runtimes import RUNTIMES

GOLDEN_ROWS = 4
_OWN_FOLDERS = ("artifacts", "golden", "warmup", "reports", "samples")
_DATATYPES = {
    "bool": DataType.BOOL, "uint8": DataType.UINT8, "uint16": DataType.UINT16, "uint32": DataType.UINT32,
    "uint64": DataType.UINT64, "int8": DataType.INT8, "int16": DataType.INT16, "int32": DataType.INT32,
    "int64": DataType.INT64, "float16": DataType.FP16, "float32": DataType.FP32, "float64": DataType.FP64,
}  # fmt: skip


def lay_out(outcome: Outcome, report: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Writes the version's files into `folder` (empty) and returns its manifest, without identity and file list."""
    parent, parent_folder = parent_of(outcome.prepared.loaded.path)
    targets = _artifacts(outcome, folder, parent)
    names = _public_names(outcome, parent)
    inherited = _inherit(parent, parent_folder, folder)
    _golden(outcome, folder, names)
    _reports(outcome, report, folder)
    document: dict[str, Any] = {
        "description": f"{parent.description} INT8." if parent and parent.description else "INT8.",
        "max_batch_size": _max_batch(outcome),
        "inputs": [_tensor(spec, spec.name, _max_batch(outcome)) for spec in outcome.prepared.inputs],
        "outputs": [_tensor(s, names[s.name], _max_batch(outcome)) for s in outcome.prepared.outputs],
        "targets": targets,
        "metrics": _metrics(report),
        "lineage": _lineage(outcome, report, parent),
    }
    for entry in document["outputs"]:
        labels = next((o.labels for o in parent.outputs if o.name == entry["name"]), None) if parent else None
        if labels in inherited:
            entry["labels"] = labels
    (folder / "manifest.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document


def parent_of(model: Path) -> tuple[Manifest | None, Path]:
    """Returns the manifest of the version that the model file belongs to, if it belongs to one."""
    for folder in list(model.absolute().parents)[:4]:
        path = folder / "manifest.json"
        if path.is_file():
            try:
                return parse_manifest(path.read_bytes()), folder
            except (DocumentError, OSError):
                return None, folder
    return None, model.parent


def _artifacts(outcome: Outcome, folder: Path, parent: Manifest | None) -> list[dict[str, Any]]:
    """Writes one file for each different graph; engines that read the same graph share it."""
    written: dict[str, str] = {}
    targets = []
    names = _public_names(outcome, parent)
    threads = next((t.parameters.get("intra_op_threads", 0) for t in parent.targets), 0) if parent else 0
    for target in outcome.passed:
        candidate = outcome.results[target].candidate
        path = written.setdefault(candidate.sha256, f"artifacts/{target}/model.onnx")
        if path == f"artifacts/{target}/model.onnx":
            (folder / path).parent.mkdir(parents=True)
            (folder / path).write_bytes(candidate.content)
        renamed = {f"graph_name.{public}": own for own, public in names.items() if own != public}
        targets.append({"name": target, "artifacts": [path], "parameters": {"intra_op_threads": threads, **renamed}})
    return targets


def _public_names(outcome: Outcome, parent: Manifest | None) -> dict[str, str]:
    """Returns what callers call each of the graph's outputs (the parent's word if it has one)."""
    names = {spec.name: spec.name for spec in outcome.prepared.outputs}
    for target in parent.targets if parent else ():
        for key, value in target.parameters.items():
            if key.startswith("graph_name.") and value in names:
                names[str(value)] = key.removeprefix("graph_name.")
    return names


def _inherit(parent: Manifest | None, source: Path, folder: Path) -> set[str]:
    copied = set()
    for entry in parent.files if parent else ():
        if entry.path.split("/")[0] in _OWN_FOLDERS or not (source / entry.path).is_file():
            continue
        (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / entry.path).write_bytes((source / entry.path).read_bytes())
        copied.add(entry.path)
    return copied


def _golden(outcome: Outcome, folder: Path, names: dict[str, str]) -> None:
    """Writes rows with the answers of the first engine; the tolerance is what the engines differ by, doubled."""
    prepared = outcome.prepared
    rows = min(GOLDEN_ROWS, prepared.largest)
    feed = {name: array[:rows] for name, array in prepared.probe.items()}
    answers = []
    for target in outcome.passed:
        result = outcome.results[target]
        outputs = [spec.name for spec in prepared.outputs]
        answers.append(RUNTIMES[result.engine](result.candidate.content, outputs).run(feed))
    arrays = {f"input.{name}": array for name, array in feed.items()}
    tolerance = {}
    for spec in prepared.outputs:
        expected = answers[0][spec.name]
        arrays[f"output.{names[spec.name]}"] = expected
        largest = max(float(np.abs(a[spec.name].astype(np.float64) - expected).max()) for a in answers)
        spread = float(np.ptp(expected.astype(np.float64))) if expected.size else 0.0
        tolerance[names[spec.name]] = {"atol": float(f"{max(2 * largest, 0.02 * spread, 1e-6):.3g}"), "rtol": 0.02}
    write_npz(folder / "golden" / "cases.npz", arrays)
    cases = {"schema_version": 1, "file": "cases.npz", "tolerance": tolerance}
    (folder / "golden" / "cases.json").write_text(json.dumps(cases, indent=2) + "\n", encoding="utf-8")
    write_npz(folder / "warmup" / "inputs.npz", {f"input.{name}": array[:1] for name, array in feed.items()})


def _reports(outcome: Outcome, report: dict[str, Any], folder: Path) -> None:
    place = folder / "reports"
    place.mkdir()
    parts: dict[str, Any] = {
        "gate.json": report,
        "attempts.json": report["attempts"],
        "layers.json": report["layers"],
        "calibration.json": outcome.calibration.as_dict(),
        "environment.json": report["environment"],
    }
    for name, content in parts.items():
        indent = None if name == "calibration.json" else 2
        (place / name).write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")
    (place / "report.html").write_text(html_of(report), encoding="utf-8")


def _max_batch(outcome: Outcome) -> int:
    return 0 if outcome.prepared.inputs[0].dims[0] is not None else outcome.prepared.largest


def _tensor(spec: TensorSpec, name: str, max_batch: int) -> dict[str, Any]:
    dims = [-1 if d is None else d for d in (spec.dims[1:] if max_batch else spec.dims)]
    return {"name": name, "datatype": _DATATYPES[spec.dtype.name].value, "shape": dims or [1]}


def _metrics(report: dict[str, Any]) -> dict[str, Any]:
    keys = (
        "metric", "fp32", "int8", "absolute_loss", "relative_loss", "upper95", "rows", "independent_rows", "agreement",
        "cosine", "sqnr_db", "batch_difference", "executed_on_its_engine", "judged_with", "latency", "notes",
    )  # fmt: skip
    return {
        "int8": {
            t["target"]: {k: t[k] for k in keys if k in t}
            | {"coverage": (t["coverage"] or {}).get("multiply_add_share"), "tensorrt_rtx": t["tensorrt_rtx"]}
            for t in report["targets"]
            if t["target"] in report["passed_targets"]
        }
    }


def _lineage(outcome: Outcome, report: dict[str, Any], parent: Manifest | None) -> dict[str, Any]:
    prepared = outcome.prepared
    kept = {} if parent is None else {k: v for k, v in parent.lineage.items() if k not in ("published", "created_by")}
    return kept | {
        "created_by": "sluice quantize",
        "parent_version": str(parent.version) if parent else None,
        "source_model": {"sha256": prepared.loaded.sha256, "bytes": prepared.loaded.bytes, "format": "onnx",
                         "opset": prepared.loaded.opset},
        "normalised": prepared.steps,
        "data": report["data"],
        "quantization": {
            "precision": "int8",
            "targets": {
                name: {
                    **outcome.results[name].candidate.recipe.as_dict(),
                    "form": outcome.results[name].candidate.form.name,
                    "kept_float": outcome.results[name].candidate.placement.skipped,
                }
                for name in outcome.passed
            },
            "policy": report["policy"],
            "policy_sha256": report["policy_sha256"],
            "accepted_small_evaluation": outcome.policy.accept_small_evaluation,
        },
        "environment": report["environment"],
    }  # fmt: skip


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Writes a compressed .npz whose bytes depend on the arrays alone (numpy.savez stamps the time of day)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)
