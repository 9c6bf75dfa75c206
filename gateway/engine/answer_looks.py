"""Looks at the answers of a batch for what a release wants to know: NaN, scores, labels. One look for all its members.

Invariants: members of a batch have equal outputs but for axis 0; what cannot be read is left out, never raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gateway.core.comparing import finite_rows, is_float, rows_array
from gateway.core.outcome_matching import Label
from gateway.core.score_bins import Values, scores_of
from gateway.messages import InferResponse
from gateway.tensors import DataType, TensorSpec, bytes_elements

MOST_OUTPUTS = 4
"""So many outputs of a model have score histograms."""
_MOST_LABELS = 16


@dataclass(slots=True)
class Looks:
    """What was found, one element a request: whether its answer has a NaN (None where it cannot), its labels, its
    scores by output."""

    nans: list[bool] | None = None
    labels: list[Label | None] = field(default_factory=list)
    scores: dict[str, Values] = field(default_factory=dict)


def look_at(
    answers: Sequence[InferResponse],
    rows: Sequence[int],
    *,
    nans: bool,
    scores: bool,
    labels: bool,
    label_output: str = "",
) -> Looks:
    """Returns what was asked for; `rows` are those of each answer.

    `label_output` names the output that has the label; empty: the first that can.
    """
    looks = Looks(labels=[None] * len(answers))
    head = answers[0].head
    if len(answers) > 1 and any(
        one.shape[1:] != other.shape[1:] or one.datatype is not other.datatype
        for answer in answers
        if answer.head is not head
        for one, other in zip(answer.head.outputs, head.outputs, strict=True)
    ):
        return looks
    starts = [0, *np.cumsum(rows)[:-1].tolist()]
    labelled = False
    for index, spec in enumerate(head.outputs):
        data = [answer.data[index] for answer in answers]
        total = sum(rows)
        if nans and is_float(spec.datatype):
            _note_nans(looks, spec, data, total, starts)
        wants_label = labels and not labelled and (not label_output or spec.name == label_output)
        wants_score = scores and is_float(spec.datatype) and len(looks.scores) < MOST_OUTPUTS
        if not wants_label and not wants_score:
            continue
        values = rows_array(spec, data, total)
        if wants_score and values is not None and values.shape[1]:
            looks.scores[spec.name] = scores_of(values.astype(np.float64), starts)
        if wants_label:
            labelled = _note_labels(looks, spec, data, values, rows, starts)
    return looks


def _note_nans(looks: Looks, spec: TensorSpec, data: list[bytes | bytearray | memoryview], total: int,
               starts: list[int]) -> None:  # fmt: skip
    found = looks.nans = looks.nans if looks.nans is not None else [False] * len(starts)
    joined = data[0] if len(data) == 1 else b"".join(data)
    finite = finite_rows(spec, joined, total)
    if finite is not None:
        bad = np.logical_or.reduceat(~finite, starts).tolist()
        looks.nans = [one or other for one, other in zip(found, bad, strict=True)]


def _note_labels(looks: Looks, spec: TensorSpec, data: list[bytes | bytearray | memoryview], values: object,
                 rows: Sequence[int], starts: list[int]) -> bool:  # fmt: skip
    """Notes a label for each row of each request; returns whether this output has labels."""
    if spec.datatype is DataType.BYTES:
        if len(spec.shape) > 1 and spec.shape[1:] != (1,):
            return False
        looks.labels = [_texts(one, count) for one, count in zip(data, rows, strict=True)]
        return True
    if not isinstance(values, np.ndarray) or (len(spec.shape) > 2 and is_float(spec.datatype)):
        return False
    if is_float(spec.datatype):
        if values.shape[1] < 2:
            return False
        found = np.argmax(values, axis=1).tolist()
    elif values.shape[1] == 1:
        found = values[:, 0].tolist()
    else:
        return False
    looks.labels = [
        tuple(int(label) for label in found[start : start + count]) if count <= _MOST_LABELS else None
        for start, count in zip(starts, rows, strict=True)
    ]
    return True


def _texts(data: bytes | bytearray | memoryview, rows: int) -> Label | None:
    if rows > _MOST_LABELS or len(data) > 4096:
        return None
    try:
        return tuple(element.decode("utf-8", "replace") for element in bytes_elements(data))
    except ValueError:
        return None
