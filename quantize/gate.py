"""Judges one INT8 artifact against FP32: passes, fails, or says that the evidence does not suffice. Pure.

Invariants: limits are strict (a loss equal to the limit fails); shares that come from counting rows are compared as
fractions of integers, so no rounding decides; without enough independent rows the verdict is never "pass" unless that
was accepted openly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.evaluation import Outputs
from quantize.metrics import Metric, cosines, neighbour_shares, predictions

ONE_SIDED_95 = 1.645
RESAMPLES = 200
PASS, FAIL, INSUFFICIENT = "pass", "fail", "insufficient evidence"
FORCED = "forced"


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What must hold. Shares, not per cent; `max_loss` bounds the absolute and the relative loss, both strictly."""

    max_loss: Fraction = Fraction(1, 100)
    fewest_rows: int = 500
    accept_small_evaluation: bool = False
    bound: str = "point"
    fewest_agreement: Fraction = Fraction(97, 100)
    most_recall_drop: Fraction = Fraction(5, 100)
    recall_rows: int = 50
    fewest_coverage: float = 0.7
    most_batch_difference: float = 1e-3
    allow_slower: bool = False
    seed: int = 0


@dataclass(slots=True)
class Judgement:
    """Figures and every reason against; `verdict` follows from the reasons.

    `faults` are those failures that say the artifact is broken or no INT8 at all: `--force` does not overrule them.
    """

    metric: str
    rows: int
    independent_rows: int
    fp32: float
    int8: float
    absolute_loss: float
    relative_loss: float
    upper95: float
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return FAIL if self.failures else INSUFFICIENT if self.doubts else PASS

    @property
    def can_be_forced(self) -> bool:
        """Whether only accuracy, speed or evidence speak against it."""
        return not self.faults

    def broken(self, reason: str) -> None:
        """Notes a failure that nobody can overrule."""
        self.failures.append(reason)
        self.faults.append(reason)

    def as_dict(self) -> dict[str, Any]:
        numbers = {k: round(getattr(self, k), 6) for k in ("fp32", "int8", "absolute_loss", "relative_loss", "upper95")}
        return {
            "verdict": self.verdict,
            "metric": self.metric,
            "rows": self.rows,
            "independent_rows": self.independent_rows,
            **numbers,
            **self.figures,
            "failures": self.failures,
            "faults": self.faults,
            "doubts": self.doubts,
            "notes": self.notes,
        }


def judge(metric: Metric, fp32: Outputs, int8: Outputs, policy: GatePolicy, label: str = "") -> Judgement:
    """Returns the judgement on accuracy alone (speed, coverage and invariance are added by the caller).

    `label` says which run it is ("batch 1"), for the reasons.
    """
    before = metric.score(fp32.values, fp32.labels, fp32.values)
    after = metric.score(int8.values, fp32.labels, fp32.values) if int8.finite else float("nan")
    loss = metric.loss(before, after)
    groups = len(np.unique(fp32.groups)) if fp32.groups is not None else len(fp32.values)
    found = Judgement(metric.name, len(fp32.values), groups, before, after, loss, _relative(loss, before), float("nan"))
    at = f" at {label}" if label else ""
    if not int8.finite:
        found.broken(f"INT8 answers NaN or infinity{at}")
        return found
    found.upper95 = upper_bound(metric, fp32, int8, policy.seed)
    _check_loss(found, metric, fp32, int8, policy, at)
    _check_classes(found, metric, fp32, int8, policy, at)
    found.figures["cosine"] = round(float(cosines(int8.values, fp32.values).mean()), 6)
    found.figures["sqnr_db"] = round(sqnr(fp32.values, int8.values), 2)
    if groups < policy.fewest_rows:
        text = f"{groups} independent rows are too few: {policy.fewest_rows} are needed to see a loss of one point"
        if policy.accept_small_evaluation:
            found.notes.append(f"{text}; accepted (--accept-small-evaluation)")
        else:
            found.doubts.append(text)
    return found


def agreement(fp32: Outputs, int8: Outputs, policy: GatePolicy, judgement: Judgement) -> dict[str, Any]:
    """Returns on what share of rows without labels INT8 answers as FP32 does; notes a failure if it is too small.

    The bound is one-sided, 95 %, with rows of one group taken as one.
    """
    if not int8.finite:
        judgement.broken("INT8 answers NaN or infinity on the rows of --agreement")
        return {"rows": len(fp32.values), "agreement": 0.0}
    same = predictions(fp32.values) == predictions(int8.values)
    if Fraction(int(same.sum()), len(same)) < policy.fewest_agreement:
        judgement.failures.append(f"INT8 agrees with FP32 on {same.mean():.1%} of {len(same)} further rows "
                                  f"(at least {float(policy.fewest_agreement):.0%})")  # fmt: skip
    groups = len(np.unique(fp32.groups)) if fp32.groups is not None else len(same)
    return {
        "rows": len(same),
        "independent_rows": groups,
        "agreement": round(float(same.mean()), 6),
        "at_least95": round(1.0 - _mean_bound(1.0 - same, fp32.groups), 6),
        "cosine": round(float(cosines(int8.values, fp32.values).mean()), 6),
    }


def reference_problems(metric: Metric, fp32: Outputs) -> list[str]:
    """Returns why the FP32 model itself is no yardstick: NaN, or not better than the simplest guess.

    Raises:
        BadInput: a metric of the caller's fails on it.
    """
    if not fp32.finite:
        return ["FP32 answers NaN or infinity on the evaluation rows"]
    if not metric.needs_labels:
        return []
    score = metric.score(fp32.values, fp32.labels, fp32.values)
    if metric.baseline is None:
        return []
    simplest = metric.baseline(fp32.labels)
    better = score > simplest if metric.higher_is_better else score < simplest
    if better:
        return []
    return [
        f"FP32 reaches {metric.name} {score:.4f}, no better than always giving the commonest answer ({simplest:.4f}): "
        "wrong labels, wrong order or wrong preprocessing?"
    ]


def upper_bound(metric: Metric, fp32: Outputs, int8: Outputs, seed: int) -> float:
    """Returns the one-sided 95 % upper bound of the loss, paired, with rows of one group taken as one."""
    if metric.correct is not None:
        differences = metric.correct(fp32.values, fp32.labels, fp32.values).astype(float) - metric.correct(
            int8.values, fp32.labels, fp32.values
        ).astype(float)
        return _mean_bound(differences, fp32.groups)
    if metric.name == "cosine":
        return _mean_bound(1.0 - cosines(int8.values, fp32.values), fp32.groups)
    if metric.name == "retrieval":
        return _mean_bound(1.0 - neighbour_shares(int8.values, fp32.values), fp32.groups)
    rng = np.random.default_rng(seed)
    ids = fp32.groups if fp32.groups is not None else np.arange(len(fp32.values))
    units = [np.flatnonzero(ids == unit) for unit in np.unique(ids)] if fp32.groups is not None else None
    losses = []
    for _ in range(RESAMPLES):
        if units is None:
            rows = rng.integers(0, len(ids), len(ids))
        else:
            rows = np.concatenate([units[unit] for unit in rng.integers(0, len(units), len(units))])
        scores = [metric.score(x.values[rows], fp32.labels[rows], fp32.values[rows]) for x in (fp32, int8)]
        losses.append(metric.loss(*scores))
    return float(np.quantile(losses, 0.95))


def sqnr(reference: NDArray[Any], found: NDArray[Any]) -> float:
    """Returns the signal-to-quantization-noise ratio in dB (capped at 200)."""
    a, b = reference.astype(np.float64), found.astype(np.float64)
    noise = float(np.square(a - b).sum())
    return 200.0 if noise == 0 else min(200.0, float(10 * np.log10(max(np.square(a).sum(), 1e-30) / noise)))


def _mean_bound(differences: NDArray[Any], groups: NDArray[Any] | None) -> float:
    if groups is not None:
        differences = np.array([differences[groups == group].mean() for group in np.unique(groups)])
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return float(differences.mean() + ONE_SIDED_95 * error)


def _relative(loss: float, before: float) -> float:
    return loss / abs(before) if before else (0.0 if loss <= 0 else float("inf"))


def _check_loss(found: Judgement, metric: Metric, fp32: Outputs, int8: Outputs, policy: GatePolicy, at: str) -> None:
    absolute, relative = Fraction(found.absolute_loss), Fraction(found.relative_loss)
    if metric.correct is not None:
        old = int(metric.correct(fp32.values, fp32.labels, fp32.values).sum())
        new = int(metric.correct(int8.values, fp32.labels, fp32.values).sum())
        absolute = Fraction(old - new, found.rows)
        relative = Fraction(old - new, old) if old else Fraction(0)
        found.figures |= {"fp32_correct": old, "int8_correct": new}
    if metric.is_share and not absolute < policy.max_loss:
        found.failures.append(f"loses {float(absolute) * 100:.2f} points of {metric.name}{at} "
                              f"(limit: less than {float(policy.max_loss) * 100:g})")  # fmt: skip
    if not relative < policy.max_loss:
        found.failures.append(f"loses {float(relative) * 100:.2f} % of {metric.name}{at} "
                              f"(limit: less than {float(policy.max_loss) * 100:g} %)")  # fmt: skip
    if policy.bound == "upper" and not found.upper95 < float(policy.max_loss):
        found.doubts.append(f"the loss may be {found.upper95 * 100:.2f} points (95 % bound){at}: more rows would tell")


def _check_classes(found: Judgement, metric: Metric, fp32: Outputs, int8: Outputs, policy: GatePolicy, at: str) -> None:
    """Agreement of the answers, and recall of every class that has enough rows."""
    if not metric.classifies:
        return
    old, new = predictions(fp32.values), predictions(int8.values)
    same = int((old == new).sum())
    found.figures["agreement"] = round(same / found.rows, 6)
    if Fraction(same, found.rows) < policy.fewest_agreement:
        found.failures.append(f"INT8 agrees with FP32 on {same / found.rows:.1%} of the rows{at} "
                              f"(at least {float(policy.fewest_agreement):.0%})")  # fmt: skip
    if not metric.needs_labels:
        return
    worst = Fraction(0)
    truth = fp32.labels.astype(np.int64)
    for value, count in zip(*np.unique(truth, return_counts=True), strict=True):
        if count < policy.recall_rows:
            continue
        mine = truth == value
        drop = Fraction(int(((old == value) & mine).sum()) - int(((new == value) & mine).sum()), int(count))
        worst = max(worst, drop)
        if not drop < policy.most_recall_drop:
            found.failures.append(f"class {value} loses {float(drop) * 100:.1f} points of recall{at}")
    found.figures["worst_recall_drop"] = round(float(worst), 6)
