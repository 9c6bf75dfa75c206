"""The registry that the benchmarks serve: committed and demo models linked, generated ones made once into a cache."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scenarios import graphs, onnx_writer

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
_ARTIFACT = "artifacts/onnx/model.onnx"


@dataclass(frozen=True, slots=True)
class Generated:
    """A model made here: how, and what its manifest says. Shapes are without the batch dimension."""

    make: Callable[[], bytes]
    description: str
    max_batch_size: int
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    engine: str
    threads: int


GENERATED: dict[str, Generated] = {
    "corner_mean": Generated(
        graphs.corner_mean, "A cheap model on 150 KB pictures.", 32,
        (("image", "UINT8", (224, 224, 3)),), (("mean", "FP32", (3,)),), "onnxruntime", 1,
    ),
    "picture_net": Generated(
        graphs.picture_net, "A convolutional network on 600 KB FP32 pictures, seeded weights.", 8,
        (("image", "FP32", (3, 224, 224)),), (("scores", "FP32", (1000,)),), "onnxruntime", 1,
    ),
    "bert_shape": Generated(
        graphs.bert_shape, "BERT-base's shape in INT8, seeded weights.", 8,
        (("input_ids", "INT64", (-1,)),), (("pooled", "FP32", (768,)),), "openvino", 2,
    ),
}  # fmt: skip
LINKED = {
    "small_net": ROOT / "benchmarks" / "models" / "small_net",
    "efficientnet_lite0": ROOT / "model_repo" / "efficientnet_lite0",
    "wide_deep": ROOT / "model_repo" / "wide_deep",
}

MOST_ROWS = {"wide_deep": 2048}
"""Demo models whose manifest is changed for the benchmarks: the demo takes 256 rows a request, a scenario more."""
PARAMETERS = {"efficientnet_lite0": {"intra_op_threads": 1, "instance_count": 2}}
"""Set up for throughput: two threads of one run wait for each other at every layer, two instances do not."""


def build(folder: Path, models: list[str]) -> Path:
    """Fills `folder` with version 1 of these models (hard links where the file system allows it) and returns it."""
    for name in models:
        source = LINKED[name] if name in LINKED else generated(name)
        shutil.copytree(
            source, folder / name, copy_function=_link, ignore=shutil.ignore_patterns("2", "serving.json", ".gitignore")
        )
        if name in MOST_ROWS or name in PARAMETERS:
            _change(folder / name / "1" / "manifest.json", MOST_ROWS.get(name), PARAMETERS.get(name, {}))
    return folder


def _change(path: Path, most_rows: int | None, parameters: dict[str, int]) -> None:
    manifest = json.loads(path.read_text())
    if most_rows is not None:
        manifest["max_batch_size"] = most_rows
    for target in manifest["targets"]:
        target["parameters"] = target.get("parameters", {}) | parameters
    path.unlink()  # the link, not the committed file
    path.write_text(json.dumps(manifest))


def generated(name: str) -> Path:
    """Returns the folder of a generated model, which is made if the cache lacks it or how it is made has changed."""
    recipe = GENERATED[name]
    sources = inspect.getsource(graphs) + inspect.getsource(onnx_writer) + repr((recipe.inputs, recipe.engine))
    stamp = hashlib.sha256((sources + repr((recipe.max_batch_size, recipe.threads))).encode()).hexdigest()[:16]
    folder = CACHE / f"{name}-{stamp}"
    if folder.exists():
        return folder
    for old in CACHE.glob(f"{name}-*"):
        shutil.rmtree(old, ignore_errors=True)
    building = CACHE / f".{name}-{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    graph = recipe.make()
    artifact = building / "1" / _ARTIFACT
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(graph)
    (building / "1" / "manifest.json").write_text(json.dumps(_manifest(name, recipe, graph), indent=2) + "\n")
    os.replace(building, folder)
    return folder


def _manifest(name: str, recipe: Generated, graph: bytes) -> dict[str, Any]:
    def tensors(entries: tuple[tuple[str, str, tuple[int, ...]], ...]) -> list[dict[str, Any]]:
        return [{"name": entry, "datatype": datatype, "shape": list(shape)} for entry, datatype, shape in entries]

    parameters = {"intra_op_threads": recipe.threads}
    return {
        "schema_version": 1,
        "model": name,
        "version": 1,
        "description": recipe.description,
        "max_batch_size": recipe.max_batch_size,
        "inputs": tensors(recipe.inputs),
        "outputs": tensors(recipe.outputs),
        "targets": [{"name": recipe.engine, "artifacts": [_ARTIFACT], "parameters": parameters}],
        "files": [{"path": _ARTIFACT, "size": len(graph), "sha256": hashlib.sha256(graph).hexdigest()}],
        "lineage": {"source": "benchmarks/scenarios/graphs.py", "seed": graphs.SEED, "licence": "Apache-2.0"},
    }


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
