"""Version nouns: which version of a model exists, in what state, and what is recorded of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.messages import ModelMetadata
from gateway.tensors import TensorSpec


@dataclass(frozen=True, slots=True, order=True)
class ModelVersion:
    """One immutable version of a model: its public name and its number (1, 2, 3 …)."""

    model_name: str
    number: int

    def __str__(self) -> str:
        return f"{self.model_name}/{self.number}"


class VersionState(enum.Enum):
    """A version's life in this gateway: NEW -> LOADING -> WARMING -> READY -> DRAINING -> UNLOADED; FAILED from any."""

    NEW = "new"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TensorData:
    """One concrete tensor: its raw bytes fit its `spec`."""

    spec: TensorSpec
    data: bytes


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Inputs with the outputs that they must give.

    Tensors have the batch dimension where the version batches, all with the same number of rows; rows are independent.
    `tolerance` is (absolute, relative) by output name; an output without one must be equal.
    """

    inputs: tuple[TensorData, ...]
    outputs: tuple[TensorData, ...]
    tolerance: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """What the registry recorded of a version: how it must describe itself, what it must answer, inputs to warm with.

    `metadata` has names, types, shapes and max_batch_size only; `warmup` is empty where none were recorded.
    """

    metadata: ModelMetadata
    golden: GoldenSet | None = None
    warmup: tuple[TensorData, ...] = ()
