"""Figures of a binary classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]


def auc(score: Values, label: Values) -> float:
    """Returns the area under the ROC curve: the share of pairs in the right order, ties counting half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    positives = int(label.sum())
    return float((ranks[label > 0].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))


def of_held_out(probability: Values, label: Values) -> dict[str, Any]:
    """Returns AUC with its standard error (Hanley and McNeil 1982), accuracy and logarithmic loss."""
    clipped = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -np.mean(label * np.log(clipped) + (1 - label) * np.log(1 - clipped))
    # How far another held-out part of this size might lie.
    area, positives, negatives = auc(probability, label), label.sum(), (1 - label).sum()
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return {
        "held_out_rows": len(label),
        "held_out_auc": round(area, 4),
        "held_out_auc_standard_error": round(float(np.sqrt(spread / (positives * negatives))), 4),
        "held_out_accuracy": round(float(((probability > 0.5) == (label > 0)).mean()), 4),
        "majority_baseline_accuracy": round(float(1 - label.mean()), 4),
        "held_out_log_loss": round(float(loss), 4),
    }
