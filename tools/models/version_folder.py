"""Writes a version's folder: manifest, golden answers, warm-up inputs, pointer (layout: docs/models.md).

`golden/cases.npz` and `warmup/inputs.npz` hold one array per tensor, `input.<tensor>` and `output.<tensor>`, rows along
axis 0. `golden/cases.json` says how close an answer must come: |answer - expected| <= atol + rtol * |expected|.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tools.models.wheels import ROOT
from tools.seal_version import seal

Arrays = Mapping[str, np.ndarray]


def folder_of(model: str, number: int = 1) -> Path:
    """Returns the folder of a version in model_repo/, made if it was not there."""
    folder = ROOT / "model_repo" / model / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_golden(folder: Path, inputs: Arrays, outputs: Arrays, tolerance: Mapping[str, Mapping[str, float]]) -> None:
    """Writes inputs with their expected outputs; `tolerance` has atol and rtol for each output."""
    arrays = {f"input.{name}": array for name, array in inputs.items()}
    arrays |= {f"output.{name}": array for name, array in outputs.items()}
    write_npz(folder / "golden" / "cases.npz", arrays)
    text = json.dumps({"schema_version": 1, "file": "cases.npz", "tolerance": tolerance}, indent=2)
    (folder / "golden" / "cases.json").write_text(text + "\n", encoding="utf-8")


def write_warmup(folder: Path, inputs: Arrays) -> None:
    """Writes one row of every input, for whoever wants to run the model once before traffic."""
    write_npz(folder / "warmup" / "inputs.npz", {f"input.{name}": array for name, array in inputs.items()})


def write_npz(path: Path, arrays: Arrays) -> None:
    """Writes a compressed .npz whose bytes depend on the arrays alone (numpy.savez stamps the time of day)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest with its list of files, and the pointer if the model has none yet. Call it last."""
    head = {"schema_version": 1, "model": folder.parent.name, "version": int(folder.name)}
    path = folder / "manifest.json"
    path.write_text(json.dumps(head | dict(manifest), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    seal(folder)
    pointer = folder.parent / "serving.json"
    if not pointer.exists():
        content = {"schema_version": 1, "generation": 1, "stable": int(folder.name)}
        pointer.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def graph_targets(order: tuple[str, ...], artifact: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the targets of a version that is one ONNX graph for both CPU engines, the preferred engine first."""
    return [{"name": name, "artifacts": [artifact], "parameters": dict(parameters)} for name in order]
