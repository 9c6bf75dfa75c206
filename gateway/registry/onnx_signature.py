"""Derives what a manifest says of tensors from an ONNX model's own shapes: batch dimension, shapes, warm-up inputs.

Decides when a model batches: the first dimension of every input and output is free, all of them call it by one name,
and no other dimension has that name. An output with another name there (boxes found, tokens made) has rows that are not
the requests', and cutting it among the requests of a batch would give each of them the wrong ones. In doubt the model
does not batch, and a note says why.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.registry.onnx_file import OnnxModel, OnnxTensor
from gateway.tensors import DataType

DEFAULT_MAX_BATCH = 32
_FREE_SIZE = 8
_MOST_WARMUP_BYTES = 64 << 20
_NUMPY = {
    DataType.BOOL: "?", DataType.UINT8: "u1", DataType.UINT16: "u2", DataType.UINT32: "u4", DataType.UINT64: "u8",
    DataType.INT8: "i1", DataType.INT16: "i2", DataType.INT32: "i4", DataType.INT64: "i8", DataType.FP16: "f2",
    DataType.FP32: "f4", DataType.FP64: "f8",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Signature:
    """`document` has `max_batch_size`, `inputs` and `outputs`, as a manifest spells them."""

    document: dict[str, Any]
    notes: tuple[str, ...]


def signature_of(model: OnnxModel, max_batch_size: int | None) -> Signature:
    """Returns the model's signature; `max_batch_size` None takes the default where the model batches, 0 is none.

    Raises:
        ValueError: a tensor is a scalar, or batches were asked for that the model cannot take.
    """
    for tensor in (*model.inputs, *model.outputs):
        if not tensor.shape:
            raise ValueError(f"{tensor.name!r} is a scalar: Triton needs at least one dimension")
    why = _unbatchable(model)
    if max_batch_size and why:
        raise ValueError(f"the model takes no batches: {why}")
    rows = 0 if why else DEFAULT_MAX_BATCH if max_batch_size is None else max_batch_size
    notes = []
    if why and max_batch_size is None:
        notes.append(f"max_batch_size is 0: {why}")
    elif max_batch_size is None:
        notes.append(f"max_batch_size is {rows}: the first dimension of every tensor is free and has one name")
    return Signature(
        {
            "max_batch_size": rows,
            "inputs": [_entry(tensor, rows > 0) for tensor in model.inputs],
            "outputs": [_entry(tensor, rows > 0) for tensor in model.outputs],
        },
        tuple(notes),
    )


def warmup_inputs(model: OnnxModel, batched: bool) -> bytes | None:
    """Returns an .npz with one row for each input (`input.<name>`), None if it cannot be made (BYTES, BF16, too large).

    Whole numbers are zero, which is a valid index everywhere; others come from a fixed random sequence.
    """
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    size = 0
    for tensor in model.inputs:
        if tensor.datatype not in _NUMPY:
            return None
        kind = np.dtype(_NUMPY[tensor.datatype])
        shape = [n if isinstance(n, int) else _FREE_SIZE for n in tensor.shape]
        shape = [1, *shape[1:]] if batched else shape
        size += math.prod(shape) * kind.itemsize
        if size > _MOST_WARMUP_BYTES:
            return None
        is_float = kind.kind == "f"
        arrays[f"input.{tensor.name}"] = (generator.standard_normal(shape) if is_float else np.zeros(shape)).astype(
            kind
        )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _unbatchable(model: OnnxModel) -> str | None:
    """Returns why the model cannot batch, None if it can."""
    for tensor in (*model.inputs, *model.outputs):
        if isinstance(tensor.shape[0], int):
            return f"the first dimension of {tensor.name!r} is fixed to {tensor.shape[0]}"
        if len(tensor.shape) == 1:
            return f"{tensor.name!r} has no dimension beside the first one"
    names = {tensor.shape[0] for tensor in model.inputs}
    if len(names) > 1:
        return f"the first dimensions of the inputs differ ({', '.join(sorted(map(str, names)))})"
    (name,) = names
    for tensor in (*model.inputs, *model.outputs):
        first = tensor.shape[0]
        if first is None:
            return f"the first dimension of {tensor.name!r} has no name"
        if first != name:
            return f"the first dimension of {tensor.name!r} is {first!r}, not {name!r} as that of the inputs"
        if name in tensor.shape[1:]:
            return f"{name!r} is also another dimension of {tensor.name!r}"
    return None


def _entry(tensor: OnnxTensor, batched: bool) -> dict[str, Any]:
    shape = tensor.shape[1:] if batched else tensor.shape
    return {
        "name": tensor.name,
        "datatype": tensor.datatype.value,
        "shape": [size if isinstance(size, int) else -1 for size in shape],
    }
