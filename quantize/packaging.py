"""Lays the judged artifacts out as a prepared version folder, with what warms and proves it, and the reports.

If the FP32 model lies in a registry version, its description, output names, labels and notices are inherited.
Invariants: only targets that passed (or whose refusal was overruled openly) are in the manifest; files other than
reports depend on the inputs alone, not on time or machine load.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.registry.manifest import Manifest
from gateway.tensors import DataType
from quantize.conversion import record_of
from quantize.data_checks import vocabularies
from quantize.errors import UnsupportedModel
from quantize.graph import Graph, TensorSpec
from quantize.input_sketch import live_statistics
from quantize.parent import graph_names, parent_of
from quantize.pipeline import Outcome
from quantize.report_html import html_of
from quantize.targets import runtime_of
from quantize.tensorrt_engine import engine_entry, target_name

GOLDEN_ROWS = 4
REPORTED_BINS = 128
RECORD = "conversion.json"
_OWN_FOLDERS = ("artifacts", "golden", "warmup", "reports", "samples")
_DATATYPES = {
    "bool": DataType.BOOL, "uint8": DataType.UINT8, "uint16": DataType.UINT16, "uint32": DataType.UINT32,
    "uint64": DataType.UINT64, "int8": DataType.INT8, "int16": DataType.INT16, "int32": DataType.INT32,
    "int64": DataType.INT64, "float16": DataType.FP16, "float32": DataType.FP32, "float64": DataType.FP64,
}  # fmt: skip


def lay_out(outcome: Outcome, report: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Writes the version's files into `folder` (empty) and returns its manifest, without identity and file list."""
    parent, parent_folder = parent_of(outcome.prepared.loaded.path)
    targets = _artifacts(outcome, folder, parent, parent_folder)
    names = _public_names(outcome, parent)
    inherited = _inherit(parent, parent_folder, folder)
    _golden(outcome, folder, names, parent_folder if parent else None)
    _reports(outcome, report, folder)
    document: dict[str, Any] = {
        "description": f"{parent.description} INT8." if parent and parent.description else "INT8.",
        "max_batch_size": _max_batch(outcome),
        "inputs": [_tensor(spec, spec.name, _max_batch(outcome)) for spec in outcome.prepared.inputs],
        "outputs": [_tensor(s, names[s.name], _max_batch(outcome)) for s in outcome.prepared.outputs],
        "targets": targets,
        "metrics": _metrics(report, outcome.published),
        "lineage": _lineage(outcome, report, parent),
        "input_statistics": live_statistics(
            outcome.prepared.calibration_summary.inputs, outcome.prepared.inputs,
            vocabularies(Graph(outcome.prepared.model)),
        ),
    }  # fmt: skip
    for entry in document["outputs"]:
        labels = next((o.labels for o in parent.outputs if o.name == entry["name"]), None) if parent else None
        if labels in inherited:
            entry["labels"] = labels
    (folder / "manifest.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document


def _artifacts(outcome: Outcome, folder: Path, parent: Manifest | None, home: Path) -> list[dict[str, Any]]:
    """Writes one file for each different graph, and how it was made; engines that read the same graph share it."""
    written: dict[str, str] = {}
    targets = []
    names = _public_names(outcome, parent)
    parameters: dict[str, Any] = {"intra_op_threads": 0}
    if parent is not None:
        parameters = {"intra_op_threads": next((t.parameters.get("intra_op_threads", 0) for t in parent.targets), 0)}
    for name, size in vocabularies(Graph(outcome.prepared.model)).items():
        parameters[f"most.{name}"] = size - 1
        parameters[f"least.{name}"] = -size
    parameters |= {f"graph_name.{public}": own for own, public in names.items() if own != public}
    for target in outcome.published:
        candidate = outcome.results[target].candidate
        path = written.setdefault(candidate.sha256, f"artifacts/{target}/model.onnx")
        if path == f"artifacts/{target}/model.onnx":
            (folder / path).parent.mkdir(parents=True)
            (folder / path).write_bytes(candidate.content)
            record = record_of(
                candidate, [spec.name for spec in outcome.prepared.outputs], _source(outcome, parent, home),
                outcome.smoothing if candidate.recipe.smooth else {},
            )  # fmt: skip
            (folder / path).with_name(RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        targets.append({"name": target, "artifacts": [path], "parameters": dict(parameters)})
    return [*_engines(outcome, folder, names), *targets]


def _engines(outcome: Outcome, folder: Path, names: dict[str, str]) -> list[dict[str, Any]]:
    """Writes the engine of the TensorRT graph; first, because it is the quickest where it fits.

    An engine that was executed here is what was proven, so it is always published; one that was only built
    (TensorRT-RTX) where it was asked for.

    Raises:
        UnsupportedModel: it was asked for, and its outputs have other names than callers know them by.
    """
    result = outcome.results.get("tensorrt")
    if result is None or result.plan is None or "tensorrt" not in outcome.published:
        return []
    if not (outcome.policy.engines or result.executed):
        return []
    if any(own != public for own, public in names.items()):
        if not outcome.policy.engines:
            return []  # the target's notes say so
        raise UnsupportedModel("an engine's outputs cannot be renamed, and this model's have public names")
    engine = result.plan
    name = target_name(engine)
    (folder / "artifacts" / name).mkdir()
    (folder / "artifacts" / name / "model.plan").write_bytes(engine.plan)
    entry = engine_entry(engine, {spec.name: spec.dims[1:] for spec in outcome.prepared.inputs})
    return [{"name": name, "artifacts": [f"artifacts/{name}/model.plan"], "engine": entry}]


def _source(outcome: Outcome, parent: Manifest | None, home: Path) -> dict[str, Any]:
    """Returns which FP32 model it was: version and path where it lies in a registry."""
    loaded = outcome.prepared.loaded
    found: dict[str, Any] = {"sha256": loaded.sha256, "bytes": loaded.bytes, "opset": loaded.opset}
    if parent is not None:
        found |= {"version": parent.version.number, "path": loaded.path.absolute().relative_to(home).as_posix()}
    return found


def _public_names(outcome: Outcome, parent: Manifest | None) -> dict[str, str]:
    """Returns what callers call each of the graph's outputs (the parent's word if it has one)."""
    names = {spec.name: spec.name for spec in outcome.prepared.outputs}
    names |= {own: public for public, own in graph_names(parent).items() if own in names}
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


def _golden(outcome: Outcome, folder: Path, names: dict[str, str], parent: Path | None) -> None:
    """Writes rows with the answers of the first engine; the tolerance is what the engines differ by, doubled.

    The rows are the parent's golden rows if it has some (they may be shown to others, and answers compare), else the
    first evaluation rows.
    """
    prepared = outcome.prepared
    feed = _parents_rows(parent, prepared.inputs, prepared.largest) if parent else None
    if feed is not None and not _fit_engines(feed, outcome):
        feed = None
    if feed is None:
        rows = min(GOLDEN_ROWS, prepared.largest)
        feed = {name: array[:rows] for name, array in prepared.probe.items()}
    answers = []
    for target in outcome.published:
        result = outcome.results[target]
        outputs = [spec.name for spec in prepared.outputs]
        answers.append(runtime_of(result.engine, result.candidate.content, outputs, 1, result.plan).run(feed))
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


def _parents_rows(parent: Path, inputs: list[TensorSpec], most: int) -> dict[str, NDArray[Any]] | None:
    """Returns the inputs of the parent's golden cases, None if it has none that fit."""
    try:
        file = json.loads((parent / "golden" / "cases.json").read_text(encoding="utf-8"))["file"]
        with np.load(parent / "golden" / file, allow_pickle=False) as arrays:
            rows = {spec.name: arrays[f"input.{spec.name}"] for spec in inputs}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if any(rows[s.name].dtype != s.dtype or rows[s.name].ndim != len(s.dims) for s in inputs):
        return None
    count = len(next(iter(rows.values())))
    return rows if count <= most and all(len(array) == count for array in rows.values()) else None


def _fit_engines(feed: dict[str, NDArray[Any]], outcome: Outcome) -> bool:
    """Whether rows are within the profile of every engine that was built: they may be longer than all that was seen."""
    plans = [plan for target in outcome.published if (plan := outcome.results[target].plan) is not None]
    sizes = [
        size
        for spec in outcome.prepared.inputs
        for size, free in zip(feed[spec.name].shape[1:], spec.dims[1:], strict=True)
        if free is None
    ]
    return all(size <= plan.lengths[2] for plan in plans for size in sizes)


def _reports(outcome: Outcome, report: dict[str, Any], folder: Path) -> None:
    place = folder / "reports"
    place.mkdir()
    parts: dict[str, Any] = {
        "gate.json": report,
        "attempts.json": report["attempts"],
        "layers.json": report["layers"],
        "calibration.json": outcome.calibration.as_dict(bins=REPORTED_BINS),
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


def _metrics(report: dict[str, Any], published: list[str]) -> dict[str, Any]:
    keys = (
        "verdict", "metric", "fp32", "int8", "absolute_loss", "relative_loss", "upper95", "rows", "independent_rows",
        "agreement", "cosine", "sqnr_db", "batch_difference", "executed_on_its_engine", "judged_with", "latency",
        "further_rows",
        "notes",
    )  # fmt: skip
    return {
        "int8": {
            t["target"]: {k: t[k] for k in keys if k in t}
            | {"coverage": (t["coverage"] or {}).get("multiply_add_share"), "tensorrt_rtx": t["tensorrt_rtx"]}
            | ({"tensorrt": t["tensorrt"]} if t["tensorrt"] else {})
            for t in report["targets"]
            if t["target"] in published
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
                for name in outcome.published
            },
            "policy": report["policy"],
            "policy_sha256": report["policy_sha256"],
            "verdict": outcome.verdict,
            "forced": report["forced"],
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
