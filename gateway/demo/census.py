"""Turns rows of a census table, as people write them, into the inputs of the Wide & Deep model.

Invariants: a word that is not in a column's vocabulary becomes index 0, "unknown", and is reported; a row that cannot
be read names its line and column. Column names may be written as the usual copies of the table write them.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"
VOCABULARY = DATA / "census_vocabulary.json"
EXAMPLE_ROWS = DATA / "census_rows.csv"
TARGET_COLUMN = "income"
_ALIASES = {"sex": "gender", "education-num": "educational-num", "native-region": "native-country"}


class CensusError(ValueError):
    """A table that cannot be read; the message says where."""


@dataclass(frozen=True, slots=True)
class Row:
    """One person: the words and the numbers by column name, and the table's own answer ("" if it has none)."""

    line: int
    words: dict[str, str]
    numbers: dict[str, float]
    income: str


class Vocabulary:
    """The columns in the model's order and the index of every known word."""

    def __init__(self, path: Path = VOCABULARY) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        self.categorical: tuple[str, ...] = tuple(column["name"] for column in document["categorical"])
        self.continuous: tuple[str, ...] = tuple(document["continuous"])
        self._index = {
            column["name"]: {word: index for index, word in enumerate(column["values"])}
            for column in document["categorical"]
        }

    def encode(self, rows: Sequence[Row]) -> tuple[NDArray[np.int64], NDArray[np.float32], list[str]]:
        """Returns `categorical` INT64 [rows, 8], `continuous` FP32 [rows, 5], and a note for each unknown word."""
        notes: list[str] = []
        categorical = np.zeros((len(rows), len(self.categorical)), np.int64)
        for position, row in enumerate(rows):
            for column, name in enumerate(self.categorical):
                index = self._index[name].get(row.words[name])
                if index is None:
                    notes.append(f"line {row.line}: {name} {row.words[name]!r} is not known, counted as unknown")
                categorical[position, column] = index or 0
        continuous = [[row.numbers[name] for name in self.continuous] for row in rows]
        return categorical, np.array(continuous, np.float32).reshape(len(rows), len(self.continuous)), notes


def read_rows(lines: Iterable[str], vocabulary: Vocabulary) -> Iterator[Row]:
    """Yields the rows of a CSV table with a heading line; further columns are ignored. Raises CensusError."""
    reader = csv.reader(lines, skipinitialspace=True)
    try:
        heading = [_column_name(cell) for cell in next(reader)]
    except StopIteration:
        raise CensusError("is empty: a heading line with the column names comes first") from None
    needed = (*vocabulary.categorical, *vocabulary.continuous)
    if missing := [name for name in needed if name not in heading]:
        raise CensusError(f"has no column {', '.join(missing)} (needed: {', '.join(needed)})")
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        line = reader.line_num
        if len(cells) != len(heading):
            raise CensusError(f"line {line} has {len(cells)} cells, the heading has {len(heading)}")
        row = dict(zip(heading, (cell.strip() for cell in cells), strict=True))
        yield Row(
            line,
            {name: row[name] or "?" for name in vocabulary.categorical},
            {name: _number(row[name], name, line) for name in vocabulary.continuous},
            row.get(TARGET_COLUMN, "").rstrip("."),
        )


def _column_name(cell: str) -> str:
    name = cell.strip().removeprefix("\ufeff").lower().replace("_", "-").replace(".", "-")
    return _ALIASES.get(name, name)


def _number(cell: str, name: str, line: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise CensusError(f"line {line}: {name} {cell!r} is not a number") from None
    if not math.isfinite(value):
        raise CensusError(f"line {line}: {name} must be finite")
    return value
