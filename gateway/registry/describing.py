"""Says what would be published from a prepared folder or an ONNX file: a manifest without identity, and the files.

Decides what may go into a version (regular files with plain names, no links) and what is read from the model where
the folder's own manifest does not say it. Nothing is written here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gateway.registry.document import MAX_DOCUMENT_BYTES, parse_object
from gateway.registry.layout import ARTIFACTS_FOLDER, MANIFEST_DIGEST_FILE, MANIFEST_FILE, relative_problem
from gateway.registry.onnx_file import OnnxModel, read_onnx
from gateway.registry.onnx_signature import signature_of, warmup_inputs

MOST_FILES = 10_000
MODEL_PATH = f"{ARTIFACTS_FOLDER}/onnx/model.onnx"
WARMUP_PATH = "warmup/inputs.npz"
_FROM_MODEL = ("max_batch_size", "inputs", "outputs", "targets")
_DATA_SUFFIXES = (".data", ".bin", ".weight", ".weights", ".pb")


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeOptions:
    """What a source does not say of itself. `max_batch_size` None: derived from the model's shapes."""

    max_batch_size: int | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """`document` is the manifest without model, version and files; `files` maps paths to what goes there."""

    document: Mapping[str, Any]
    files: Mapping[str, Path | bytes]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(s) if isinstance(s, bytes) else s.stat().st_size for s in self.files.values())


def describe(source: Path, options: DescribeOptions) -> Description:
    """Returns what `source` holds: a folder as `publish_version` takes it, or one ONNX file with its external data.

    Raises:
        ValueError: with every problem found.
        OSError: it cannot be read.
    """
    if source.suffix.lower() == ".onnx" and not source.is_dir():
        files = _beside(source)
        document: dict[str, Any] = {}
        model: str | None = MODEL_PATH
    elif source.is_dir():
        files = files_of(source)
        document, model = _prepared(files.pop(MANIFEST_FILE, None)), _only_onnx(files)
        files.pop(MANIFEST_DIGEST_FILE, None)
    else:
        raise ValueError(f"{source} is neither a folder nor an .onnx file")
    if options.description:
        document["description"] = options.description
    if all(key in document for key in _FROM_MODEL):
        return Description(document=document, files=files)
    if model is None:
        raise ValueError(
            f"{source} has no {MANIFEST_FILE} with {', '.join(_FROM_MODEL)}, and no single .onnx file to read them from"
        )
    if not model.startswith(f"{ARTIFACTS_FOLDER}/"):
        files = {_moved(path, model): file for path, file in files.items()}
        model = MODEL_PATH
    read = read_onnx(_checked(files[model]))
    _check_external(read, model, files)
    signature = signature_of(read, options.max_batch_size)
    found = signature.document | {"targets": [_target(model, read)], "lineage": _lineage(read)}
    document = found | document | {"lineage": found["lineage"] | document.get("lineage", {})}
    generated: dict[str, Path | bytes] = {}
    if WARMUP_PATH not in files and (inputs := warmup_inputs(read, signature.document["max_batch_size"] > 0)):
        generated[WARMUP_PATH] = inputs
    return Description(document=document, files=files | generated, notes=signature.notes)


def _prepared(path: Path | None) -> dict[str, Any]:
    """Returns what the folder's manifest says, without the identity that publishing gives."""
    if path is None:
        return {}
    with open(path, "rb") as file:
        document = parse_object(MANIFEST_FILE, file.read(MAX_DOCUMENT_BYTES + 1))
    for key in ("schema_version", "model", "version", "files"):
        document.pop(key, None)
    for key in ("metrics", "lineage"):
        if not isinstance(document.get(key, {}), dict):
            raise ValueError(f"{MANIFEST_FILE}: {key}: must be an object")
    return document


def _only_onnx(files: Mapping[str, Path]) -> str | None:
    found = [path for path in files if path.lower().endswith(".onnx")]
    return found[0] if len(found) == 1 else None


def _beside(model: Path) -> dict[str, Path]:
    """Returns the model and the files that hold its weights, by the paths that they get in the version."""
    files = {MODEL_PATH: model}
    folder = MODEL_PATH.rpartition("/")[0]
    for location in read_onnx(_checked(model)).external:
        _check_location(location)
        files[f"{folder}/{location}"] = _checked(model.parent / location)
    return files


def _moved(path: str, model: str) -> str:
    """Returns where a file of a folder without `artifacts` goes: the model to its place, its data beside it."""
    if path == model:
        return MODEL_PATH
    is_beside = PurePosixPath(path).parent == PurePosixPath(model).parent
    is_data = is_beside and PurePosixPath(path).suffix in _DATA_SUFFIXES
    return f"{PurePosixPath(MODEL_PATH).parent}/{PurePosixPath(path).name}" if is_data else path


def _check_external(read: OnnxModel, model: str, files: Mapping[str, Path]) -> None:
    for location in read.external:
        _check_location(location)
        if f"{PurePosixPath(model).parent}/{location}" not in files:
            raise ValueError(f"the model's weights are in {location!r}, which is not beside it")


def _check_location(location: str) -> None:
    if relative_problem(location) or "/" in location:
        raise ValueError(f"the model's weights are in {location!r}: only files beside the model can be published")


def _checked(path: Path) -> Path:
    """Returns the path of a regular file, links not followed. Raises ValueError or OSError."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"{path.name} is a link or not a regular file")
    return path


def _target(model: str, read: OnnxModel) -> dict[str, Any]:
    folder = PurePosixPath(model).parent
    return {"name": "onnxruntime", "artifacts": [model, *(f"{folder}/{location}" for location in read.external)]}


def _lineage(read: OnnxModel) -> dict[str, Any]:
    return {"onnx": {"producer": read.producer, "ir_version": read.ir_version, "opset": read.opset}}


def files_of(folder: Path) -> dict[str, Path]:
    """Returns every file below the folder by its path there.

    Raises:
        ValueError: a link, a special file, a name that cannot be published, or too many of them.
    """
    found: dict[str, Path] = {}
    problems = []
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                problems.append(f"{relative} is a link or a special file")
            elif why := relative_problem(relative):
                problems.append(f"{relative!r} {why}")
            found[relative] = path
        if len(found) > MOST_FILES:
            raise ValueError(f"{folder} has more than {MOST_FILES} files")
    if problems:
        raise ValueError("; ".join(problems))
    return found
