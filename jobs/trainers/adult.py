"""The Adult census table (Becker and Kohavi, UCI 1996, CC-BY-4.0) as arrays, and its split.

Invariants: rows that occur twice are kept once, so that none is both learned and tested; the split depends on the seed
alone; the vocabulary is made of the training part only, and index 0 of every column means "unknown" ("?").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CATEGORICAL = (
    "workclass",
    "education",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "gender",
    "native-country",
)
CONTINUOUS = ("age", "educational-num", "capital-gain", "capital-loss", "hours-per-week")
LABEL, POSITIVE, UNKNOWN = "income", ">50K", "?"
VALID_ROWS, HELD_OUT_ROWS = 4_900, 9_700
Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows: `categorical` INT64 [rows, 8], `continuous` FP32 [rows, 5], `label` FP32 [rows], 1 for more than 50K."""

    categorical: NDArray[np.int64]
    continuous: NDArray[np.float32]
    label: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label)


def parts_of(columns: Columns, seed: int) -> tuple[dict[str, list[str]], Part, Part, Part]:
    """Returns the vocabulary by column, and the parts to learn from, to choose with and to judge by.

    `columns` has all columns of the table as lists of equal length. Raises ValueError if there are too few rows.
    """
    rows = unique(columns)
    if len(rows) <= 2 * (VALID_ROWS + HELD_OUT_ROWS):
        raise ValueError(f"{len(rows)} different rows are too few: {VALID_ROWS + HELD_OUT_ROWS} are put aside")
    names = list(columns)
    train, valid, held_out = split(len(rows), seed)
    chosen = {c: [rows[i][names.index(c)] for i in train] for c in CATEGORICAL}
    vocabulary = {c: [UNKNOWN, *sorted(set(values) - {UNKNOWN})] for c, values in chosen.items()}
    parts = [_part([rows[i] for i in wanted], names, vocabulary) for wanted in (train, valid, held_out)]
    return vocabulary, parts[0], parts[1], parts[2]


def unique(columns: Columns) -> list[tuple[Any, ...]]:
    """Returns the different rows in the order in which they first appear."""
    return list(dict.fromkeys(zip(*columns.values(), strict=True)))


def split(rows: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns the row numbers to learn from, to choose with and to judge by."""
    order = np.random.default_rng(seed).permutation(rows)
    held_out, valid, train = np.split(order, [HELD_OUT_ROWS, HELD_OUT_ROWS + VALID_ROWS])
    return train, valid, held_out


def _part(rows: list[tuple[Any, ...]], names: list[str], vocabulary: Mapping[str, list[str]]) -> Part:
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    index = {c: {word: number for number, word in enumerate(vocabulary[c])} for c in CATEGORICAL}
    return Part(
        categorical=np.stack([np.array([index[c].get(w, 0) for w in columns[c]], np.int64) for c in CATEGORICAL], 1),
        continuous=np.stack([np.array(columns[c], np.float32) for c in CONTINUOUS], 1),
        label=np.array([word == POSITIVE for word in columns[LABEL]], np.float32),
    )
