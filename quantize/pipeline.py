"""From an FP32 model to judged INT8 artifacts: prepare, calibrate, climb the ladder for every target.

Nothing is published here. Invariant: a target's result is the first rung that passes everything, or the refusal with
every attempt listed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantize.calibration import Calibration, Progress, calibrate
from quantize.errors import GateRefused, UnsupportedModel
from quantize.gate import FORCED, INSUFFICIENT, PASS
from quantize.graph import Graph
from quantize.ladder import rungs
from quantize.layers import LayerError, layer_errors, worst_within
from quantize.normalise import infer_shapes
from quantize.placement import place
from quantize.policy import Policy, Recipe
from quantize.preparing import Prepared, prepare
from quantize.smoothing import smooth
from quantize.targets import TargetResult, accuracy, complete, form_of, make, wanted_tensors

AUTOMATIC = ("openvino", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Forced:
    """A gate that was overruled: by whom, why, and its reasons by target."""

    by: str
    reason: str
    overruled: dict[str, list[str]]

    def as_dict(self) -> dict[str, Any]:
        return {"by": self.by, "reason": self.reason, "overruled": self.overruled}


@dataclass(slots=True)
class Outcome:
    """Everything that was found. `verdict` is pass, refused, insufficient evidence or forced."""

    prepared: Prepared
    policy: Policy
    results: dict[str, TargetResult] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    errors: list[LayerError] = field(default_factory=list)
    calibration: Calibration = field(default_factory=Calibration)
    seconds: dict[str, float] = field(default_factory=dict)
    forced: Forced | None = None
    smoothing: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def published(self) -> list[str]:
        """Targets that a version may hold: those that passed, and those whose refusal was overruled (`force`)."""
        return [t for t in self.results if t in self.passed or (self.forced is not None and t in self.forced.overruled)]

    @property
    def passed(self) -> list[str]:
        return [target for target, result in self.results.items() if result.verdict == PASS]

    @property
    def verdict(self) -> str:
        """Named targets must all pass; of those chosen automatically one must."""
        if self.forced is not None:
            return FORCED
        missing = [t for t in (self.policy.targets or ()) if t not in self.passed]
        if self.passed and not missing:
            return PASS
        found = [self.results[t].verdict for t in (missing or self.results) if t in self.results]
        return INSUFFICIENT if found and all(v in (INSUFFICIENT, PASS) for v in found) else "refused"

    def force(self, *, by: str, reason: str) -> None:
        """Overrules accuracy, speed and lack of evidence; notes who did it, why, and what was overruled.

        Raises:
            GateRefused: a target is broken, or is not INT8 in truth: nobody can overrule that.
        """
        broken = [f"{t}: {why}" for t, r in self.results.items() for why in r.judgement.faults]
        if broken:
            raise GateRefused(*broken)
        overruled = {
            target: [*result.judgement.failures, *result.judgement.doubts]
            for target, result in self.results.items()
            if result.verdict != PASS
        }
        self.forced = Forced(by, reason, overruled)

    def reasons(self) -> list[str]:
        """Returns why targets did not pass."""
        return [
            f"{target}: {reason}"
            for target, result in self.results.items()
            for reason in [*result.judgement.failures, *result.judgement.doubts]
        ]


def run(
    model: str,
    calibration: str,
    evaluation: str,
    policy: Policy,
    progress: Progress,
    *,
    unlabelled: str | None = None,
) -> Outcome:
    """Returns the outcome of every target, whatever the verdicts; `unlabelled` names further rows to agree on.

    Raises:
        QuantizeError: what `quantize.preparing.prepare` and `quantize.calibration.calibrate` raise.
    """
    started = time.perf_counter()
    prepared = prepare(model, calibration, evaluation, policy, progress, unlabelled=unlabelled)
    seconds = _since(started)
    outcome = judge_targets(prepared, policy, progress)
    outcome.seconds = {"prepare": seconds, **outcome.seconds}
    return outcome


def judge_targets(
    prepared: Prepared, policy: Policy, progress: Progress, calibration: Calibration | None = None
) -> Outcome:
    """Returns the outcome of every target; `calibration` is one of this model, with the tensors of these targets."""
    outcome = Outcome(prepared, policy)
    targets = list(policy.targets or AUTOMATIC)
    started = time.perf_counter()
    models = _Models(outcome, targets, progress, calibration)
    outcome.calibration = models.of(smooth_it=False)[1]
    outcome.seconds["calibrate"] = _since(started)
    started = time.perf_counter()
    for target in targets:
        _climb(target, outcome, models, progress)
    outcome.seconds["targets"] = _since(started)
    _note_layers(outcome, targets[0])
    return outcome


class _Models:
    """The model with its calibration, as it is and smoothed; each is calibrated once, when first needed."""

    def __init__(
        self, outcome: Outcome, targets: list[str], progress: Progress, known: Calibration | None = None
    ) -> None:
        self._outcome, self._targets, self._progress = outcome, targets, progress
        self._plain = None if known is None else (outcome.prepared.model, known)
        self._smoothed: tuple[onnx.ModelProto, Calibration] | None = None

    def of(self, *, smooth_it: bool) -> tuple[onnx.ModelProto, Calibration]:
        if self._plain is None:
            self._plain = (self._outcome.prepared.model, self._calibrate(self._outcome.prepared.model))
        if not smooth_it:
            return self._plain
        if self._smoothed is None:
            smoothed, count = smooth(*self._plain)
            norms = {n.output[0] for n in self._plain[0].graph.node if n.op_type == "LayerNormalization"}
            self._outcome.smoothing = {k: v for k, v in self._plain[1].peaks.items() if k in norms}
            if not count:
                raise UnsupportedModel("SmoothQuant found no normalisation to smooth")
            # Placement asks for types, which smoothing has dropped.
            smoothed = infer_shapes(smoothed)
            self._smoothed = (smoothed, self._calibrate(smoothed))
        return self._smoothed

    def _calibrate(self, model: onnx.ModelProto) -> Calibration:
        prepared, policy = self._outcome.prepared, self._outcome.policy
        return calibrate(
            model,
            wanted_tensors(model, self._targets),
            prepared.calibration,
            rows=policy.calibration_rows,
            batch=min(4, prepared.largest),
            threads=policy.threads,
            progress=self._progress,
        )


def _climb(target: str, outcome: Outcome, models: _Models, progress: Progress) -> None:
    """Tries rungs until one passes; keeps the best of them (most accurate) if none does."""
    best: TargetResult | None = None
    for recipe in rungs(outcome.policy, outcome.prepared.model, target):
        progress(f"{target}: {recipe.why}", 0, 0)
        attempt: dict[str, Any] = {"target": target, "why": recipe.why, "method": recipe.method}
        outcome.attempts.append(attempt)
        try:
            result = _attempt(target, recipe, outcome, models, progress)
        except UnsupportedModel as error:
            attempt |= {"verdict": "impossible", "reasons": error.problems}
            if best is None and recipe.why == "as asked" and outcome.policy.fallback == "none":
                raise
            continue
        attempt |= {
            "verdict": result.verdict,
            "int8": round(result.judgement.int8, 6),
            "absolute_loss": round(result.judgement.absolute_loss, 6),
            "reasons": [*result.judgement.failures, *result.judgement.doubts],
        }
        if best is None or _rank(result) < _rank(best):
            best = result
        # More rows are needed, not another recipe: climbing on would only look for luck.
        if result.verdict in (PASS, INSUFFICIENT) or _only_speed(result):
            best = result
            break
    if best is None:
        tried = [attempt for attempt in outcome.attempts if attempt["target"] == target]
        why = dict.fromkeys(reason for attempt in tried for reason in attempt["reasons"])
        raise UnsupportedModel(f"{target}: no recipe gives a usable graph: {'; '.join(why)}")
    if outcome.policy.force and best.covered is None and not best.judgement.faults:
        complete(best, outcome.prepared, outcome.policy, progress)
    outcome.results[target] = best


def _attempt(target: str, recipe: Recipe, outcome: Outcome, models: _Models, progress: Progress) -> TargetResult:
    model, found = models.of(smooth_it=recipe.smooth)
    prepared, policy = outcome.prepared, outcome.policy
    keep: tuple[str, ...] = ()
    if recipe.revert:
        errors = _errors(target, recipe, outcome, model, found)
        keep = tuple(worst_within(errors, prepared.work, policy.float_budget))
    result = accuracy(make(target, model, found, recipe, keep), prepared, policy, progress)
    if not result.judgement.failures:
        complete(result, prepared, policy, progress)
    return result


def _errors(
    target: str, recipe: Recipe, outcome: Outcome, model: onnx.ModelProto, found: Calibration
) -> list[LayerError]:
    graph = Graph(model)
    form = form_of(target, graph, recipe)
    placement = place(graph, style=form.style, keep_float=recipe.keep_float)
    rows = min(4, outcome.prepared.largest)
    return layer_errors(model, placement, found, form, outcome.prepared.calibration, rows)


def _note_layers(outcome: Outcome, target: str) -> None:
    recipe = outcome.results[target].candidate.recipe
    method = "minmax" if recipe.dynamic else recipe.method
    plain = Recipe(recipe.why, method, recipe.per_channel, recipe.keep_float)
    outcome.errors = _errors(target, plain, outcome, outcome.prepared.model, outcome.calibration)


def _rank(result: TargetResult) -> tuple[float, float]:
    loss = result.judgement.absolute_loss
    return (loss if loss == loss else float("inf"), float(len(result.judgement.failures)))


def _only_speed(result: TargetResult) -> bool:
    """Another range does not make a graph faster."""
    return bool(result.judgement.failures) and all(
        f.startswith(("INT8 takes", "only ", "a row's answer")) for f in result.judgement.failures
    )


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 2)
