"""Makes one INT8 candidate for one target and judges it in that target's own engine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import onnx

from quantize import tensorrt_here, tensorrt_rtx
from quantize.calibration import Calibration, Progress
from quantize.conversion import build
from quantize.coverage import Coverage, coverage, engine_coverage, structural_coverage
from quantize.data_checks import DataSummary
from quantize.errors import UnsupportedModel
from quantize.evaluation import Latency, Outputs, batch_invariance, latencies, outputs_of
from quantize.gate import PASS, GatePolicy, Judgement, agreement, judge
from quantize.graph import Graph, TensorSpec
from quantize.parent import graph_names, parent_of
from quantize.placement import Placement, default_style, place
from quantize.policy import Policy, Recipe
from quantize.preparing import Prepared
from quantize.qdq import Form, activation_scales
from quantize.ranges import Scale
from quantize.runtimes import RUNTIMES, Runtime
from quantize.tensorrt_engine import NAMES, TENSORRT, BuiltEngine
from quantize.tensorrt_engine import build as build_engine
from quantize.tensorrt_form import for_tensorrt, lint

EMULATOR = "openvino"
"""What computes a TensorRT graph where TensorRT cannot run: same integers, another engine."""
_SPEED_NOISE = 0.98


@dataclass(slots=True)
class Candidate:
    """An INT8 graph for a target; `scales` and `keep_float` are what was decided (`quantize.conversion` records it)."""

    target: str
    recipe: Recipe
    form: Form
    placement: Placement
    content: bytes
    scales: dict[str, Scale] = field(default_factory=dict)
    keep_float: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(slots=True)
class TargetResult:
    """What was found about a candidate. `executed` is False where only an emulation could be judged."""

    candidate: Candidate
    executed: bool
    engine: str
    judgement: Judgement
    alone: Judgement | None = None
    covered: Coverage | None = None
    batch_difference: float | None = None
    speed: list[Latency] = field(default_factory=list)
    plan: BuiltEngine | None = None
    further: dict[str, Any] | None = None

    @property
    def verdict(self) -> str:
        return self.judgement.verdict

    def as_dict(self) -> dict[str, Any]:
        return {
            "target": self.candidate.target,
            "executed_on_its_engine": self.executed,
            "judged_with": self.engine,
            "recipe": self.candidate.recipe.as_dict(),
            "bytes": len(self.candidate.content),
            "sha256": self.candidate.sha256,
            "kept_float": self.candidate.placement.skipped,
            **self.judgement.as_dict(),
            "batch_1": None if self.alone is None else self.alone.as_dict(),
            "coverage": None if self.covered is None else self.covered.as_dict(),
            "batch_difference": self.batch_difference,
            "latency": [found.as_dict() for found in self.speed],
            "tensorrt_rtx": None if self.plan is None or self.executed else self.plan.as_dict(),
            "tensorrt": None if self.plan is None or not self.executed else self.plan.as_dict(),
            "further_rows": self.further,
        }


def form_of(target: str, graph: Graph, recipe: Recipe) -> Form:
    """Returns how numbers are stored for a target."""
    if target == "tensorrt":
        return Form("s8s8", True, "inputs", recipe.per_channel, recipe.method)
    if recipe.dynamic:
        return Form("dynamic", True, "inputs", True, recipe.method)
    return Form("u8s8", False, default_style(graph), recipe.per_channel, recipe.method)


def make(
    target: str, model: onnx.ModelProto, calibration: Calibration, recipe: Recipe, keep: tuple[str, ...] = ()
) -> Candidate:
    """Returns the candidate; `keep` are further nodes to leave in float.

    Raises:
        UnsupportedModel: nothing is left to quantize, or the graph breaks TensorRT's rules.
    """
    source = for_tensorrt(model) if target == "tensorrt" else model
    graph = Graph(source)
    form = form_of(target, graph, recipe)
    kept = (*recipe.keep_float, *keep)
    placement = place(graph, style=form.style, keep_float=kept)
    if not placement.nodes:
        raise UnsupportedModel("no operator can become an integer operator: " + "; ".join(
            f"{name}: {why}" for name, why in list(placement.skipped.items())[:4]))  # fmt: skip
    scales = {} if recipe.dynamic else activation_scales(placement, calibration, form)
    content = build(target, model, form, list(kept), scales)
    made = onnx.load_from_string(content)
    if target == "tensorrt" and (problems := lint(made)):
        raise UnsupportedModel(*problems)
    onnx.checker.check_model(made)
    return Candidate(target, recipe, form, placement, content, scales, kept)


def wanted_tensors(model: onnx.ModelProto, targets: list[str]) -> list[str]:
    """Returns every tensor whose range any target may need."""
    graph = Graph(model)
    styles = {"inputs" if target == "tensorrt" else default_style(graph) for target in targets}
    return sorted({name for style in styles for name in place(graph, style=style).tensors})


def accuracy(candidate: Candidate, prepared: Prepared, policy: Policy, progress: Progress) -> TargetResult:
    """Returns the accuracy at the largest batch: what decides whether the rest is worth measuring."""
    target, plan = candidate.target, None
    engine = target
    if target == TENSORRT:
        found_here = tensorrt_here.here()
        engine = EMULATOR if isinstance(found_here, str) else TENSORRT
        plan = None if isinstance(found_here, str) else build_engine(
            candidate.content, found_here[0], rows=rows_up_to(prepared.largest), lengths=_lengths(prepared)
        )  # fmt: skip
    gate = policy.gate(convolutional=prepared.is_convolutional)
    runtime = runtime_of(engine, candidate.content, [prepared.judged], policy.threads, plan)
    found = _outputs(runtime, prepared, prepared.largest, policy, progress)
    judgement = judge(prepared.metric, prepared.reference, found, gate, f"batch {prepared.largest}")
    return TargetResult(candidate, engine == target, engine, judgement, plan=plan)


def runtime_of(
    engine: str, content: bytes | str, outputs: list[str], threads: int, plan: BuiltEngine | None = None
) -> Runtime:
    """Returns the graph loaded in `engine`; for TensorRT it is `plan`, built of that graph, that is loaded."""
    if engine != TENSORRT:
        return RUNTIMES[engine](content, outputs, threads=threads)
    found = tensorrt_here.here()
    if plan is None or isinstance(found, str):
        raise UnsupportedModel(f"no engine of TensorRT can be executed: {found}")
    return tensorrt_here.TensorRt(plan, outputs, *found)


def is_renamed(prepared: Prepared) -> bool:
    """Whether callers know outputs by other names than the graph's: Triton serves an engine under its own names."""
    parent, _ = parent_of(prepared.loaded.path)
    own = {spec.name for spec in prepared.outputs}
    return any(name in own and name != public for public, name in graph_names(parent).items())


def not_executed(engine: str) -> str:
    return f"not executed on TensorRT ({tensorrt_here.here()}): judged with {engine}, speed unknown"


def rows_up_to(largest: int) -> tuple[int, int, int]:
    """Returns the smallest, best and largest number of rows of an optimization profile."""
    return 1, max(1, largest // 4), largest


def _lengths(prepared: Prepared) -> tuple[int, int, int]:
    summaries = [prepared.calibration_summary, prepared.evaluation_summary]
    if prepared.further is not None:
        summaries.append(prepared.further.summary)
    return profile_lengths(prepared.inputs, *summaries)


def profile_lengths(inputs: list[TensorSpec], *summaries: DataSummary) -> tuple[int, int, int]:
    """Returns the optimization profile's sizes of free dimensions other than rows: up to the longest of all rows."""
    sizes = [
        summary.inputs[spec.name].largest[axis]
        for summary in summaries
        for spec in inputs
        for axis, size in enumerate(spec.dims[1:])
        if size is None and spec.name in summary.inputs
    ]
    longest = max(sizes, default=1)
    return 1, longest, longest


def complete(result: TargetResult, prepared: Prepared, policy: Policy, progress: Progress) -> None:
    """Adds batch 1, batch invariance, coverage, speed and, for TensorRT, the build; each may fail the candidate."""
    candidate, judgement = result.candidate, result.judgement
    gate = policy.gate(convolutional=prepared.is_convolutional)
    runtime = runtime_of(result.engine, candidate.content, [prepared.judged], policy.threads, result.plan)
    if prepared.largest > 1:
        alone = _outputs(runtime, prepared, 1, policy, progress)
        result.alone = judge(prepared.metric, prepared.reference, alone, gate, "batch 1")
        judgement.failures += [f for f in result.alone.failures if f not in judgement.failures]
        judgement.faults += result.alone.faults
        judgement.doubts += [d for d in result.alone.doubts if d not in judgement.doubts]
        result.batch_difference = batch_invariance(runtime, prepared.judged, prepared.probe, prepared.largest)
        if not result.batch_difference <= gate.most_batch_difference:
            judgement.broken(
                f"a row's answer changes by {result.batch_difference:.2%} of its range with the rows beside it"
            )
    if prepared.further is not None:
        found = outputs_of(runtime, prepared.judged, prepared.further.source, batch=prepared.largest, progress=progress)
        result.further = agreement(prepared.further.reference, found, gate, judgement)
    _cover(result, prepared, gate, runtime)
    if result.executed:
        if result.plan is not None and is_renamed(prepared):
            judgement.notes.append("its engine is not published: callers know its outputs by other names")
        _race(result, prepared, policy, gate)
    else:
        judgement.notes.append(not_executed(result.engine))
        _build(result, prepared)


def _outputs(runtime, prepared, batch, policy, progress) -> Outputs:  # type: ignore[no-untyped-def]
    return outputs_of(
        runtime, prepared.judged, prepared.evaluation, batch=batch, most=policy.evaluation_rows, progress=progress
    )


def _cover(result: TargetResult, prepared: Prepared, gate: GatePolicy, runtime: Runtime) -> None:
    candidate = result.candidate
    if isinstance(runtime, tensorrt_here.TensorRt):
        try:
            result.covered = engine_coverage(runtime.layers(), prepared.work)
        except ValueError as error:
            # Not known is not none: what the graph offers is told, and that nobody has seen it.
            result.covered = structural_coverage(candidate.placement.nodes, prepared.work)
            result.judgement.doubts.append(f"the share of integer work in the engine is not known: {error}")
    elif result.executed:
        result.covered = coverage(candidate.content, prepared.work, result.engine, [prepared.judged])
    else:
        result.covered = structural_coverage(candidate.placement.nodes, prepared.work)
    if result.covered.share < gate.fewest_coverage:
        result.judgement.broken(
            f"only {result.covered.share:.0%} of the multiply-adds run as integers on {result.engine} "
            f"(at least {gate.fewest_coverage:.0%})"
        )


def _race(result: TargetResult, prepared: Prepared, policy: Policy, gate: GatePolicy) -> None:
    fp32, plan = prepared.model, None
    if result.plan is not None:
        fp32 = for_tensorrt(prepared.model)
        plan = _fp32_engine(fp32.SerializeToString(), result.plan)
    engine, judged, threads = result.engine, [prepared.judged], policy.threads
    old = runtime_of(engine, fp32.SerializeToString(), judged, threads, plan)
    new = runtime_of(engine, result.candidate.content, judged, threads, result.plan)
    sizes = sorted({1, prepared.largest} | ({8} if prepared.largest > 8 else set())) if prepared.largest > 1 else [1]
    result.speed = latencies(old, new, prepared.probe, sizes)
    for found in result.speed:
        if found.gain < _SPEED_NOISE:
            text = f"INT8 takes {1 / found.gain:.2f} times as long as FP32 at batch {found.rows} on {result.engine}"
            (result.judgement.notes if gate.allow_slower else result.judgement.failures).append(text)


def _fp32_engine(model: bytes, like: BuiltEngine) -> BuiltEngine:
    """Returns TensorRT's engine of the FP32 graph for the same profile: INT8 must beat TensorRT itself."""
    found = tensorrt_here.here()
    if isinstance(found, str):
        raise UnsupportedModel(f"no engine of {NAMES[like.runtime]} can be built: {found}")
    return build_engine(model, found[0], rows=like.rows, lengths=like.lengths)


def _build(result: TargetResult, prepared: Prepared) -> None:
    if not tensorrt_rtx.is_available():
        result.judgement.notes.append("TensorRT-RTX is not installed: the graph was not parsed by a TensorRT")
        return
    rows, lengths = rows_up_to(prepared.largest), _lengths(prepared)
    try:
        result.plan = tensorrt_rtx.build(result.candidate.content, rows=rows, lengths=lengths)
    except UnsupportedModel as error:
        for problem in error.problems:
            result.judgement.broken(problem)


def passes(result: TargetResult) -> bool:
    return result.verdict == PASS
