"""What "good" means.

Scores of a model's outputs, each with its direction, its baseline and, where there is one, a verdict per row.

Pure. `outputs` is [rows, …] of the judged output, `labels` [rows]. Metrics without labels (`agreement`, `cosine`,
`retrieval`) compare with the FP32 model's outputs, given as `reference`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.errors import BadInput
from quantize.sources import load_function

Array = NDArray[Any]
NAMES = ("top1", "top5", "f1", "auc", "rmse", "agreement", "cosine", "retrieval")
NEIGHBOURS = 10


@dataclass(frozen=True, slots=True)
class Metric:
    """`score(outputs, labels, reference)`; `correct` gives a verdict per row where the score is their mean.

    `is_share`: the score lies in [0, 1], so a loss can be counted in percentage points.
    """

    name: str
    score: Callable[[Array, Array, Array], float]
    correct: Callable[[Array, Array, Array], NDArray[np.bool_]] | None = None
    baseline: Callable[[Array], float] | None = None
    higher_is_better: bool = True
    is_share: bool = True
    needs_labels: bool = True
    classifies: bool = False

    def loss(self, fp32: float, int8: float) -> float:
        """Returns by how much INT8 is worse (negative: better)."""
        return fp32 - int8 if self.higher_is_better else int8 - fp32


def _number(name: str, function: Callable[..., Any], outputs: Array, labels: Array) -> float:
    """Returns what a caller's function says. Whatever goes wrong inside it is said as bad input."""
    try:
        found = float(function(outputs, labels))
    except Exception as error:
        raise BadInput(f"metric {name}: fails with {type(error).__name__}: {str(error)[:200]}") from error
    if not np.isfinite(found):
        raise BadInput(f"metric {name}: gives {found}, not a number")
    return found


def metric_of(name: str) -> Metric:
    """Returns the metric that a name or `module:function` stands for.

    Raises:
        BadInput: there is none.
    """
    if name in _METRICS:
        return _METRICS[name]
    if ":" in name:
        function = load_function(name)
        return Metric(
            name,
            lambda outputs, labels, _: _number(name, function, outputs, labels),
            higher_is_better=bool(getattr(function, "higher_is_better", True)),
            is_share=bool(getattr(function, "is_share", True)),
        )
    raise BadInput(f"metric {name!r} is not one of {', '.join(NAMES)} or module:function")


def label_problems(metric: Metric, labels: Array, outputs: Array) -> list[str]:
    """Returns why the labels cannot be right answers for these outputs. A metric of the caller's judges for itself."""
    if not metric.needs_labels or metric.name not in _METRICS:
        return []
    if labels.ndim != 1:
        return [f"labels have shape {list(labels.shape)}: one label a row is needed"]
    if labels.dtype.kind not in "iubf":
        return [f"labels are {labels.dtype}: numbers are needed"]
    if metric.name == "rmse":
        return []
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        return [f"labels such as {labels[labels != np.floor(labels)][0]} are no classes"]
    width = outputs.reshape(len(outputs), -1).shape[1]
    classes = 2 if metric.name == "auc" else max(width, 2)
    outside = labels[(labels.astype(np.int64) < 0) | (labels.astype(np.int64) >= classes)]
    return [f"label {outside[0]} is not one of {classes} classes (counted from 0)"] if len(outside) else []


def predictions(outputs: Array) -> NDArray[np.int64]:
    """Returns the class of each row: the largest of several values, or above one half of a single one."""
    flat = outputs.reshape(len(outputs), -1)
    if flat.shape[1] == 1:
        return (flat[:, 0] > 0.5).astype(np.int64)
    return np.asarray(flat.argmax(axis=1), np.int64)


def _top(k: int) -> Callable[[Array, Array, Array], NDArray[np.bool_]]:
    def correct(outputs: Array, labels: Array, _: Array) -> NDArray[np.bool_]:
        flat = outputs.reshape(len(outputs), -1)
        if k == 1 or flat.shape[1] <= k:
            return np.asarray(predictions(outputs) == labels.astype(np.int64))
        best = np.argpartition(-flat, k, axis=1)[:, :k]
        return np.asarray((best == labels.astype(np.int64)[:, None]).any(axis=1))

    return correct


def _agree(outputs: Array, _: Array, reference: Array) -> NDArray[np.bool_]:
    return np.asarray(predictions(outputs) == predictions(reference))


def _share(correct: Callable[[Array, Array, Array], NDArray[np.bool_]]) -> Callable[[Array, Array, Array], float]:
    return lambda outputs, labels, reference: float(correct(outputs, labels, reference).mean())


def _f1(outputs: Array, labels: Array, _: Array) -> float:
    """F1 of class 1 for two classes, the mean over classes for more."""
    found, truth = predictions(outputs), labels.astype(np.int64)
    classes = np.unique(truth)
    chosen = [1] if set(classes.tolist()) <= {0, 1} else classes.tolist()
    return float(np.mean([_f1_of(found == c, truth == c) for c in chosen]))


def _f1_of(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    hits = int((found & truth).sum())
    return 2.0 * hits / max(int(found.sum()) + int(truth.sum()), 1)


def _f1_baseline(labels: Array) -> float:
    truth = labels.astype(np.int64)
    values, counts = np.unique(truth, return_counts=True)
    if set(values.tolist()) <= {0, 1}:
        share = float((truth == 1).mean())
        return 2 * share / (1 + share)
    share = float(counts.max() / counts.sum())
    return 2 * share / (1 + share) / len(values)


def _auc(outputs: Array, labels: Array, _: Array) -> float:
    flat = outputs.reshape(len(outputs), -1)
    score = flat[:, 0] if flat.shape[1] == 1 else flat[:, 1]
    truth = labels.astype(np.int64) == 1
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return 0.5
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    return float((ranks[truth].sum() - positive * (positive + 1) / 2.0) / (positive * negative))


def _rmse(outputs: Array, labels: Array, _: Array) -> float:
    return float(np.sqrt(np.mean(np.square(outputs.reshape(len(outputs), -1)[:, 0] - labels.astype(np.float64)))))


def cosines(outputs: Array, reference: Array) -> NDArray[np.float64]:
    """Returns the cosine of each row with its reference; 0 where one of them is zero."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (outputs, reference))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1.0))


def _retrieval(outputs: Array, _: Array, reference: Array) -> float:
    """Mean share of each row's nearest NEIGHBOURS rows (FP32) that are still its nearest."""
    return float(np.mean(neighbour_shares(outputs, reference)))


def neighbour_shares(outputs: Array, reference: Array) -> NDArray[np.float64]:
    new, old = _nearest(outputs), _nearest(reference)
    shares = [len(set(a) & set(b)) / len(b) for a, b in zip(new.tolist(), old.tolist(), strict=True)]
    return np.array(shares)


def _nearest(rows: Array) -> NDArray[np.int64]:
    flat = rows.reshape(len(rows), -1).astype(np.float32)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    k = min(NEIGHBOURS, len(flat) - 1)
    found = np.empty((len(flat), k), np.int64)
    for start in range(0, len(flat), 512):
        similar = flat[start : start + 512] @ flat.T
        similar[np.arange(len(similar)), np.arange(start, start + len(similar))] = -2.0
        found[start : start + 512] = np.argpartition(-similar, k - 1, axis=1)[:, :k]
    return found


def _majority(labels: Array) -> float:
    _, counts = np.unique(labels, return_counts=True)
    return float(counts.max() / counts.sum())


def _top5_baseline(labels: Array) -> float:
    _, counts = np.unique(labels, return_counts=True)
    return float(np.sort(counts)[::-1][:5].sum() / counts.sum())


_METRICS = {
    "top1": Metric("top1", _share(_top(1)), _top(1), _majority, classifies=True),
    "top5": Metric("top5", _share(_top(5)), _top(5), _top5_baseline, classifies=True),
    "f1": Metric("f1", _f1, None, _f1_baseline, classifies=True),
    "auc": Metric("auc", _auc, None, lambda labels: 0.5),
    "rmse": Metric(
        "rmse", _rmse, None, lambda labels: float(np.std(labels.astype(np.float64))), higher_is_better=False,
        is_share=False,
    ),
    "agreement": Metric("agreement", _share(_agree), _agree, None, needs_labels=False, classifies=True),
    "cosine": Metric("cosine", lambda o, _, r: float(cosines(o, r).mean()), None, None, needs_labels=False),
    "retrieval": Metric("retrieval", _retrieval, None, None, needs_labels=False),
}  # fmt: skip
