"""What a version's own files say it must answer: golden cases and warm-up inputs, as raw tensors.

`golden/cases.json` names an .npz with `input.<name>` and `output.<name>` and the tolerance of each output;
`warmup/inputs.npz` has `input.<name>`. Types and names are the manifest's.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.messages import ModelMetadata
from gateway.registry.document import MAX_DOCUMENT_BYTES, DocumentError, Reader, parse_object
from gateway.registry.manifest import Manifest, TensorEntry
from gateway.tensors import DataType, TensorSpec
from gateway.versions import GoldenSet, TensorData, VersionRecord

_CASES, _WARMUP = "golden/cases.json", "warmup/inputs.npz"
_MOST_BYTES = 256 * 1024 * 1024

Arrays = Mapping[str, NDArray[Any]]


def record_of(manifest: Manifest, folder: Path) -> VersionRecord:
    """Returns what the version in `folder`, whose files were proved, must be and answer.

    Raises:
        DocumentError: its golden cases or warm-up inputs cannot be used.
    """
    listed = {file.path for file in manifest.files}
    batched = manifest.max_batch_size > 0
    metadata = metadata_of(manifest)
    golden = _golden(manifest, folder, listed) if _CASES in listed else None
    warmup: tuple[TensorData, ...] = ()
    if _WARMUP in listed:
        arrays = _arrays(folder / _WARMUP, _WARMUP)
        warmup = _tensors(_WARMUP, "input", manifest.inputs, arrays, batched=batched)
    return VersionRecord(metadata, golden, warmup, manifest.input_statistics)


def metadata_of(manifest: Manifest) -> ModelMetadata:
    """Returns how the version describes itself to callers."""
    batched = manifest.max_batch_size > 0
    return ModelMetadata(
        name=manifest.version.model_name,
        versions=(str(manifest.version.number),),
        platform="",
        inputs=tuple(_spec(tensor, batched) for tensor in manifest.inputs),
        outputs=tuple(_spec(tensor, batched) for tensor in manifest.outputs),
        max_batch_size=manifest.max_batch_size,
        optional_inputs=frozenset(tensor.name for tensor in manifest.inputs if tensor.optional),
    )


def _spec(tensor: TensorEntry, batched: bool) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.datatype, (-1, *tensor.shape) if batched else tensor.shape)


def _golden(manifest: Manifest, folder: Path, listed: set[str]) -> GoldenSet:
    problems: list[str] = []
    with open(folder / _CASES, "rb") as cases:
        reader = Reader(parse_object(_CASES, cases.read(MAX_DOCUMENT_BYTES + 1)), "", problems)
    reader.integer("schema_version", minimum=1)
    file = f"golden/{reader.text('file')}"
    if not problems and file not in listed:
        reader.problem("file", f"'{file}' is not listed in the manifest's files")
    tolerance = {}
    for name, given in reader.mapping("tolerance").items():
        limits = _limits(given)
        if limits is None:
            reader.problem(f"tolerance.{name}", "must be an object with atol and rtol, numbers of at least 0")
        else:
            tolerance[name] = limits
    if problems:
        raise DocumentError(_CASES, problems)
    arrays, batched = _arrays(folder / file, file), manifest.max_batch_size > 0
    inputs = _tensors(file, "input", manifest.inputs, arrays, batched=batched)
    outputs = _tensors(file, "output", manifest.outputs, arrays, batched=batched)
    if not inputs or not outputs:
        raise DocumentError(file, ["has no inputs or no outputs"])
    if batched and len({tensor.spec.shape[0] for tensor in (*inputs, *outputs)}) != 1:
        raise DocumentError(file, ["its tensors have different numbers of rows"])
    return GoldenSet(inputs, outputs, tolerance)


def _limits(given: object) -> tuple[float, float] | None:
    """Returns (absolute, relative), each 0 where it is not given; None if that is not what was written."""
    if not isinstance(given, dict) or given.keys() - {"atol", "rtol"}:
        return None
    pair = [given.get(key, 0) for key in ("atol", "rtol")]
    if any(isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0 for value in pair):
        return None
    return float(pair[0]), float(pair[1])


def _arrays(path: Path, name: str) -> Arrays:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DocumentError(name, [f"is larger than {_MOST_BYTES} bytes"])
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                raise DocumentError(name, [f"unpacks to more than {_MOST_BYTES} bytes"])
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
            return {key: found[key] for key in found.files}
    except DocumentError:
        raise
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DocumentError(name, [f"cannot be read ({error})"]) from error


def _tensors(
    file: str, kind: str, entries: Sequence[TensorEntry], arrays: Arrays, *, batched: bool
) -> tuple[TensorData, ...]:
    """Returns the arrays named `<kind>.<name>` in the manifest's order; optional inputs may be missing."""
    problems, found = [], []
    for entry in entries:
        array = arrays.get(f"{kind}.{entry.name}")
        if array is None:
            if kind == "input" and not entry.optional:
                problems.append(f"{kind}.{entry.name} is missing")
            continue
        expected = _spec(entry, batched).shape
        if len(array.shape) != len(expected) or any(
            want not in (-1, have) for want, have in zip(expected, array.shape, strict=True)
        ):
            problems.append(f"{kind}.{entry.name} has shape {list(array.shape)}, the manifest says {list(expected)}")
            continue
        try:
            data = _raw(array, entry.datatype)
        except ValueError as error:
            problems.append(f"{kind}.{entry.name} {error}")
            continue
        found.append(TensorData(TensorSpec(entry.name, entry.datatype, array.shape), data))
    if problems:
        raise DocumentError(file, problems)
    return tuple(found)


def _raw(array: NDArray[Any], datatype: DataType) -> bytes:
    if datatype is DataType.BYTES:
        if array.dtype.kind not in "SU":
            raise ValueError("has no strings, but the manifest says BYTES")
        elements = [item.encode() if isinstance(item, str) else bytes(item) for item in array.reshape(-1).tolist()]
        return b"".join(struct.pack("<I", len(element)) + element for element in elements)
    wanted = "<u2" if datatype is DataType.BF16 else _NUMPY[datatype]
    if array.dtype != np.dtype(wanted):
        raise ValueError(f"has {array.dtype}, the manifest says {datatype.value}")
    return np.ascontiguousarray(array, dtype=wanted).tobytes()


_NUMPY = {
    DataType.BOOL: "?", DataType.UINT8: "<u1", DataType.UINT16: "<u2", DataType.UINT32: "<u4", DataType.UINT64: "<u8",
    DataType.INT8: "<i1", DataType.INT16: "<i2", DataType.INT32: "<i4", DataType.INT64: "<i8",
    DataType.FP16: "<f2", DataType.FP32: "<f4", DataType.FP64: "<f8",
}  # fmt: skip
