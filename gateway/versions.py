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

    def __hash__(self) -> int:
        # What a dataclass writes for itself is never compiled, and a request asks for this a dozen times.
        return hash((self.model_name, self.number))


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
class ElementHistogram:
    """`edges` rise; element v is in the first bin whose edge is at least v, in the last one if there is none.

    So there is one bin more than edges. `shares` are the bins' shares, which add up to 1.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """What the elements of one input were like when the version was calibrated.

    `rows` is how many rows the histograms stem from; `low` and `high` are the extremes; `vocabulary` is the number of
    valid ids where the input holds ids. `columns` has a histogram for each element of a row where rows are short and of
    one length (the columns of a table), else it is empty.
    """

    name: str
    histogram: ElementHistogram
    rows: int
    low: float
    high: float
    vocabulary: int | None = None
    columns: tuple[ElementHistogram, ...] = ()


@dataclass(frozen=True, slots=True)
class InputDrift:
    """How far live inputs are from the calibration's.

    `psi` is the population stability index of the window, None while it has too few rows: of all elements, or of the
    column that is farthest off, where that is more (`column` is its place, from 0). `by_chance` is what the index of
    one histogram would be on average if nothing had changed. `window_rows` are the sampled rows in the window. The
    others count sampled rows and elements since the version began to serve: in all, not finite, and outside the
    calibrated range or vocabulary.
    """

    name: str
    psi: float | None
    by_chance: float
    window_rows: int
    rows: int
    elements: int
    not_finite: int
    out_of_range: int
    column: int | None = None


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """What the registry recorded of a version: how it must describe itself, what it must answer, inputs to warm with.

    `metadata` has names, types, shapes and max_batch_size only; `warmup` and `inputs` are empty where nothing was
    recorded.
    """

    metadata: ModelMetadata
    golden: GoldenSet | None = None
    warmup: tuple[TensorData, ...] = ()
    inputs: tuple[InputStatistics, ...] = ()
