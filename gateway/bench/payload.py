"""What requests carry: seeded tensors that fit a model's own metadata, or rows of a file. Pure but for the file.

Floats are normal, UINT8 spans 0 to 255 (pictures), other integers are 0 or 1 unless told otherwise (they are usually
indices of unknown range), BYTES are short words. A leading dimension of -1 on every input is the rows of a request;
other open dimensions are 128 unless named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gateway.tensors import DATATYPES, DataType, TensorSpec

Array: TypeAlias = NDArray[Any]

OPEN_DIMENSION = 128
MOST_BYTES = 256 * 1024 * 1024
_WORDS = ("red", "green", "blue", "cyan", "magenta", "yellow", "black", "white")

NUMPY: dict[DataType, str] = {
    DataType.BOOL: "?", DataType.UINT8: "<u1", DataType.UINT16: "<u2", DataType.UINT32: "<u4", DataType.UINT64: "<u8",
    DataType.INT8: "<i1", DataType.INT16: "<i2", DataType.INT32: "<i4", DataType.INT64: "<i8",
    DataType.FP16: "<f2", DataType.FP32: "<f4", DataType.FP64: "<f8",
}  # fmt: skip
"""numpy's spelling of the data types that have one."""


class PayloadError(ValueError):
    """No request can be made for this model with what was asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One concrete input: its specification, raw OIP bytes, and JSON values (row-major, flat)."""

    spec: TensorSpec
    raw: bytes
    values: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user asked for: `shapes` without the rows dimension by input name, `integers_below` for index inputs,
    `data` arrays by input name with the rows along axis 0."""

    rows: int = 1
    variants: int = 8
    seed: int = 1
    shapes: Mapping[str, tuple[int, ...]] | None = None
    integers_below: int = 2
    data: Mapping[str, Array] | None = None


def payloads(inputs: Sequence[TensorSpec], wishes: Wishes) -> list[list[Tensor]]:
    """Returns `wishes.variants` different requests (fewer where they would be too large). Raises PayloadError."""
    if wishes.rows < 1 or wishes.variants < 1:
        raise PayloadError("rows and variants must be at least 1")
    batched = bool(inputs) and all(spec.shape[:1] == (-1,) for spec in inputs)
    if not batched and wishes.rows > 1:
        raise PayloadError("the model takes no rows dimension, so a request cannot have several rows")
    generator = np.random.default_rng(wishes.seed)
    made: list[list[Tensor]] = []
    size = 0
    for variant in range(wishes.variants):
        tensors = [_tensor(spec, batched, wishes, variant, generator) for spec in inputs]
        size += sum(len(tensor.raw) for tensor in tensors)
        if made and size > MOST_BYTES:
            break
        made.append(tensors)
    return made


def load_rows(path: Path) -> dict[str, Array]:
    """Returns the arrays of a .npz file by input name; a prefix `input.` is dropped. Raises PayloadError."""
    try:
        with np.load(path) as arrays:
            prefixed = [name for name in arrays.files if name.startswith("input.")]
            return {name.removeprefix("input."): arrays[name] for name in prefixed or arrays.files}
    except (OSError, ValueError) as error:
        raise PayloadError(f"{path} cannot be read as .npz: {error}") from error


def _tensor(spec: TensorSpec, batched: bool, wishes: Wishes, variant: int, generator: np.random.Generator) -> Tensor:
    if wishes.data is not None:
        return _given(spec, wishes, variant)
    inner = spec.shape[1:] if batched else spec.shape
    wanted = (wishes.shapes or {}).get(spec.name)
    if wanted is not None:
        if len(wanted) != len(inner) or any(have not in (-1, want) for have, want in zip(inner, wanted, strict=True)):
            raise PayloadError(f"input {spec.name} has shape {list(inner)}, which {list(wanted)} does not fit")
        inner = wanted
    shape = ((wishes.rows,) if batched else ()) + tuple(OPEN_DIMENSION if size < 0 else size for size in inner)
    return tensor_of(TensorSpec(spec.name, spec.datatype, shape), _values(spec.datatype, shape, wishes, generator))


def _given(spec: TensorSpec, wishes: Wishes, variant: int) -> Tensor:
    array = (wishes.data or {}).get(spec.name)
    if array is None or not len(array):
        raise PayloadError(f"the file has no rows for input {spec.name}")
    chosen = array[np.arange(variant * wishes.rows, (variant + 1) * wishes.rows) % len(array)]
    return tensor_of(TensorSpec(spec.name, spec.datatype, tuple(chosen.shape)), chosen)


def tensor_of(spec: TensorSpec, array: Array) -> Tensor:
    """Returns the tensor of `array`, whose values are converted to the specification's data type."""
    if spec.datatype is DataType.BYTES:
        words = [str(value).encode() for value in array.ravel().tolist()]
        raw = b"".join(len(word).to_bytes(4, "little") + word for word in words)
        return Tensor(spec, raw, [word.decode() for word in words])
    if spec.datatype is DataType.BF16:
        wide = np.ascontiguousarray(array, "<f4").view("<u4")
        return Tensor(spec, (wide >> 16).astype("<u2").tobytes(), array.ravel().tolist())
    typed = np.ascontiguousarray(array).astype(NUMPY[spec.datatype])
    return Tensor(spec, typed.tobytes(), typed.ravel().tolist())


def _values(datatype: DataType, shape: tuple[int, ...], wishes: Wishes, generator: np.random.Generator) -> Array:
    if datatype is DataType.BYTES:
        return np.array(_WORDS)[generator.integers(0, len(_WORDS), shape)]
    if datatype in (DataType.FP16, DataType.BF16, DataType.FP32, DataType.FP64):
        return np.asarray(generator.standard_normal(shape))
    if datatype is DataType.UINT8:
        return np.asarray(generator.integers(0, 256, shape))
    below = 2 if datatype is DataType.BOOL else wishes.integers_below
    return np.asarray(generator.integers(0, below, shape))


def spec_of(name: str, datatype: str, shape: Sequence[int]) -> TensorSpec:
    """Returns the specification of one tensor of OIP metadata. Raises PayloadError for an unknown data type."""
    known = DATATYPES.get(datatype.removeprefix("TYPE_"))
    if known is None:
        raise PayloadError(f"{name} has data type {datatype!r}, which is not known")
    return TensorSpec(name, known, tuple(int(size) for size in shape))
