"""Fashion-MNIST as Debian's package `dataset-fashion-mnist` ships it: four gzipped IDX files.

Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms" (2017);
Zalando SE, Expat licence. 60,000 pictures to train with and 10,000 to test with, 28x28 grey, ten classes of clothes.
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SIDE = 28
MEAN, DEVIATION = 0.2860, 0.3530
"""Of the training pictures' values from 0 to 1."""
_PARTS = {"train": ("train", 60_000), "test": ("t10k", 10_000)}
_BYTES = 0x08


class NotTheData(ValueError):
    """A file is missing or is not what it should be."""


def load(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns pictures [rows, 28, 28] and labels [rows] of "train" or "test".

    Raises:
        NotTheData: naming the file.
    """
    prefix, rows = _PARTS[part]
    pictures = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", (rows, SIDE, SIDE))
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", (rows,)).astype(np.int64)
    if labels.max() >= len(CLASSES):
        raise NotTheData(f"{prefix}-labels-idx1-ubyte.gz: has a label {labels.max()}, there are {len(CLASSES)} classes")
    return pictures, labels


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Returns the array in a gzipped IDX file of unsigned bytes. Raises NotTheData unless it has that shape."""
    size = math.prod(shape)
    head = 4 + 4 * len(shape)
    try:
        with gzip.open(path) as file:
            content = file.read(head + size + 1)
    except (OSError, EOFError) as error:
        raise NotTheData(f"{path}: {error}") from error
    if len(content) < head or content[:4] != bytes([0, 0, _BYTES, len(shape)]):
        raise NotTheData(f"{path}: not an IDX file of bytes with {len(shape)} dimensions")
    found = tuple(int(n) for n in np.frombuffer(content, ">u4", len(shape), 4))
    if found != shape or len(content) != head + size:
        raise NotTheData(f"{path}: has the shape {list(found)}, not {list(shape)}")
    return np.frombuffer(content, np.uint8, size, head).reshape(shape)


def prepared(torch: Any, pictures: Any, side: int) -> Any:
    """Returns float pictures [rows, 3, side, side] of byte tensors [rows, 28, 28]: scaled up, grey in three channels.

    Bilinear; then (value / 255 - MEAN) / DEVIATION, the same for each channel.
    """
    values = (pictures.to(torch.float32) / 255 - MEAN) / DEVIATION
    values = torch.nn.functional.interpolate(values.unsqueeze(1), size=(side, side), mode="bilinear")
    return values.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def scaled(pictures: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Returns what `prepared` does, without torch: for callers of the model, and for quantization."""
    weights = _bilinear(side)
    values = (pictures.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(DEVIATION)
    large = weights @ values @ weights.T
    return np.ascontiguousarray(np.broadcast_to(large[:, None], (len(pictures), 3, side, side)), dtype=np.float32)


def _bilinear(side: int) -> NDArray[np.float32]:
    """Returns [side, SIDE]: how much of each old point is in each new one; points are in the middle of their cells."""
    at = np.clip((np.arange(side) + 0.5) * SIDE / side - 0.5, 0, SIDE - 1)
    left = np.minimum(at.astype(np.int64), SIDE - 2)
    share = (at - left).astype(np.float32)
    weights = np.zeros((side, SIDE), np.float32)
    weights[np.arange(side), left] = 1 - share
    weights[np.arange(side), left + 1] += share
    return weights
