"""The stages of `publish` by themselves: inspect, calibrate, convert, evaluate; and verify for what was published."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gateway.registry.document import DocumentError
from gateway.registry.integrity import IntegrityError, verify_version
from gateway.registry.manifest import Manifest, parse_manifest
from quantize import data_checks, intake, tensorrt_here
from quantize.calibration import Calibration, calibrate
from quantize.coverage import multiply_adds
from quantize.errors import BadInput, GateRefused, IntegrityFailure, QuantizeError, TargetUnavailable, UnsupportedModel
from quantize.evaluation import latencies, outputs_of
from quantize.gate import PASS, judge, reference_problems
from quantize.graph import Graph
from quantize.metrics import label_problems, metric_of
from quantize.normalise import normalise
from quantize.parent import outputs_to_keep
from quantize.placement import default_style, place
from quantize.policy import Policy, Recipe
from quantize.preparing import _judged, largest_batch, load
from quantize.progress import Progress
from quantize.report import text_of as text_of
from quantize.runtimes import RUNTIMES, OnnxRuntime
from quantize.sources import open_source
from quantize.targets import EMULATOR, make, not_executed, profile_lengths, rows_up_to, runtime_of, wanted_tensors
from quantize.tensorrt_engine import TENSORRT, BuiltEngine
from quantize.tensorrt_engine import build as build_engine
from quantize.tensorrt_form import for_tensorrt

Result = tuple[dict[str, Any], str]


def inspect(parsed: argparse.Namespace) -> Result:
    """Shows inputs, outputs, operators, and what would become an integer operator."""
    loaded = load(parsed.model)
    named = tuple(name for name in (parsed.outputs or "").split(",") if name)
    normal, steps = normalise(loaded.proto, _outputs(loaded, named))
    graph = Graph(normal)
    found = intake.describe(loaded, graph.inputs(), graph.output_specs())
    placement = place(graph, style=default_style(graph))
    found |= {
        "normalised": steps,
        "integer_operators": placement.nodes,
        "float_operators": placement.skipped,
        "vocabularies": data_checks.vocabularies(graph),
    }
    lines = [f"{found['model']}: opset {found['opset']}, {found['bytes']} bytes"]
    lines += [f"  input   {spec.name}  {spec.text()}" for spec in graph.inputs()]
    lines += [f"  output  {spec.name}  {spec.text()}" for spec in graph.output_specs()]
    lines += [f"  step    {step}" for step in steps]
    lines.append(f"  {len(placement.nodes)} operators can become integer operators")
    lines += [f"  stays float: {node} ({why})" for node, why in placement.skipped.items()]
    return found, "\n".join(lines)


def calibrate_only(parsed: argparse.Namespace, policy: Policy, progress: Progress) -> Result:
    """Writes the histograms of every tensor that a target may need."""
    _, found, statistics = _calibrated(parsed, policy, progress)
    out = Path(parsed.out)
    content = found.as_dict() | {"input_statistics": statistics}
    _write(out, json.dumps(content).encode())
    return (
        {"rows": found.rows, "tensors": len(found.histograms), "out": str(out)},
        f"{out}: ranges of {len(found.histograms)} tensors over {found.rows} rows",
    )


def convert(parsed: argparse.Namespace, policy: Policy, progress: Progress) -> Result:
    """Writes the INT8 graph of one target; says plainly that nothing was proven."""
    if len(policy.targets) > 1:
        raise BadInput("convert writes one graph: name one --target")
    target = policy.targets[0] if policy.targets else "openvino"
    model, found, _ = _calibrated(parsed, policy, progress)
    candidate = make(target, model, found, Recipe("as asked", policy.method, not policy.per_tensor, policy.keep_float))
    _write(Path(parsed.out), candidate.content)
    result = {
        "out": parsed.out,
        "target": target,
        "sha256": candidate.sha256,
        "bytes": len(candidate.content),
        "integer_operators": candidate.placement.nodes,
        "float_operators": candidate.placement.skipped,
        "proven": False,
    }
    return result, (
        f"{parsed.out}: {len(candidate.placement.nodes)} integer operators for {target}, "
        f"{len(candidate.content)} bytes; "
        "not proven (sluice quantize evaluate, or publish)"
    )


def evaluate(parsed: argparse.Namespace, policy: Policy, progress: Progress) -> Result:
    """Judges an INT8 graph that is there already; exit code 3 if it does not hold."""
    source, metric = open_source(parsed.evaluation), metric_of(policy.metric)
    loaded = load(parsed.model, source)
    normal, _ = normalise(loaded.proto, _outputs(loaded, policy.outputs))
    graph = Graph(normal)
    source.widen_to({spec.name: spec.dtype for spec in graph.inputs()})
    summary = data_checks.check_source(source, graph, labels=metric.needs_labels, fewest=1, most=policy.evaluation_rows)
    assert summary.first is not None
    if not Path(parsed.int8).is_file():
        raise BadInput(f"{parsed.int8}: no such file")
    output, largest = _judged(graph, policy.output), largest_batch(graph, policy.max_batch_size)
    old = OnnxRuntime(normal.SerializeToString(), [output], threads=policy.threads)
    reference = outputs_of(old, output, source, batch=largest, most=policy.evaluation_rows, progress=progress)
    if wrong := label_problems(metric, reference.labels, reference.values):
        raise BadInput(*[f"{parsed.evaluation}: {problem}" for problem in wrong])
    if problems := reference_problems(metric, reference):
        raise GateRefused(*problems)
    gate = policy.gate(convolutional=default_style(graph) == "everywhere")
    found: dict[str, Any] = {}
    lines, reasons = [], []
    for target in policy.targets or ("openvino", "onnxruntime"):
        engine, compile_plan = _engine_of(target, largest, profile_lengths(graph.inputs(), summary))
        try:
            content = Path(parsed.int8).read_bytes() if engine == TENSORRT else str(parsed.int8)
            new = runtime_of(engine, content, [output], policy.threads, compile_plan(content))
        except TargetUnavailable:
            raise
        except Exception as error:
            raise UnsupportedModel(f"{parsed.int8}: {target} cannot load it ({str(error)[:200]})") from error
        try:
            new.run({name: array[:1] for name, array in summary.first.inputs.items()})
        except TargetUnavailable:
            raise
        except Exception as error:
            raise UnsupportedModel(f"{parsed.int8}: does not take these rows ({str(error)[-200:].strip()})") from error
        answers = outputs_of(new, output, source, batch=largest, most=policy.evaluation_rows, progress=progress)
        judged = judge(metric, reference, answers, gate, f"batch {largest}")
        speed = []
        if engine == target:
            fp32 = (for_tensorrt(normal) if engine == TENSORRT else normal).SerializeToString()
            baseline = runtime_of(engine, fp32, [output], policy.threads, compile_plan(fp32))
            speed = latencies(baseline, new, summary.first.inputs, sorted({1, largest}))
        else:
            judged.notes.append(not_executed(engine))
        found[target] = judged.as_dict() | {
            "executed_on_its_engine": engine == target, "judged_with": engine, "latency": [s.as_dict() for s in speed]
        }  # fmt: skip
        lines.append(
            f"{target}: {judged.verdict}  {metric.name} FP32 {judged.fp32:.4f} INT8 {judged.int8:.4f}, loss at most "
            f"{judged.upper95:.4f} (95 %), n = {judged.independent_rows}; "
            + (", ".join(f"batch {s.rows} {s.gain:.2f} times as fast" for s in speed) or not_executed(engine))
        )
        reasons += [f"{target}: {why}" for why in [*judged.failures, *judged.doubts]]
    if any(entry["verdict"] != PASS for entry in found.values()):
        print("\n".join(lines) if not parsed.json else json.dumps(found))
        raise GateRefused(*reasons)
    return {"verdict": PASS, "targets": found}, "\n".join(lines)


def _engine_of(
    target: str, largest: int, lengths: tuple[int, int, int]
) -> tuple[str, Callable[[bytes | str], BuiltEngine | None]]:
    """Returns what executes the target here, and what compiles a graph for it (to nothing where that is not needed)."""
    if target != TENSORRT:
        return target, lambda content: None
    found = tensorrt_here.here()
    if isinstance(found, str):
        return EMULATOR, lambda content: None
    rows = rows_up_to(largest)
    return TENSORRT, lambda content: build_engine(content, found[0], rows=rows, lengths=lengths)


def verify(parsed: argparse.Namespace) -> Result:
    """Checks hashes and golden answers of a version folder."""
    found = verify_folder(Path(parsed.folder))
    lines = [f"{parsed.folder}: {found['files']} files are as published"]
    lines += [f"  {t}: golden answers within {d:.2f} of the tolerance" for t, d in found["targets"].items()]
    return found, "\n".join(lines)


def verify_folder(folder: Path) -> dict[str, Any]:
    """Returns, for each engine that can run here, the largest difference to the golden answers (1: at the tolerance).

    Raises:
        BadInput: no such version.
        IntegrityFailure: files or answers are not what was published.
    """
    try:
        manifest = parse_manifest((folder / "manifest.json").read_bytes())
        verify_version(folder, manifest)
    except OSError as error:
        raise BadInput(f"{folder}: not a version folder ({error.strerror})") from error
    except (DocumentError, IntegrityError) as error:
        raise IntegrityFailure(str(error)) from error
    found: dict[str, float] = {}
    for target in manifest.targets:
        if target.kind in RUNTIMES:
            found[target.name] = _golden_difference(folder, manifest, target.name)
    wrong = [f"{folder}: {name} does not give the golden answers" for name, worst in found.items() if not worst <= 1.0]
    if wrong:
        raise IntegrityFailure(*wrong)
    return {"files": len(manifest.files), "targets": found}


def _golden_difference(folder: Path, manifest: Manifest, name: str) -> float:
    target = next(t for t in manifest.targets if t.name == name)
    cases = json.loads((folder / "golden" / "cases.json").read_text(encoding="utf-8"))
    golden = np.load(folder / "golden" / cases["file"], allow_pickle=False)
    feed = {spec.name: golden[f"input.{spec.name}"] for spec in manifest.inputs}
    own = {o.name: str(target.parameters.get(f"graph_name.{o.name}", o.name)) for o in manifest.outputs}
    answers = RUNTIMES[target.kind](str(folder / target.artifacts[0]), list(own.values())).run(feed)
    worst = 0.0
    for public, graph_name in own.items():
        expected, limit = golden[f"output.{public}"], cases["tolerance"][public]
        allowed = limit["atol"] + limit["rtol"] * np.abs(expected)
        worst = max(worst, float((np.abs(answers[graph_name] - expected) / allowed).max()))
    return worst


def _calibrated(
    parsed: argparse.Namespace, policy: Policy, progress: Progress
) -> tuple[Any, Calibration, dict[str, Any]]:
    source = open_source(parsed.calibration)
    loaded = load(parsed.model, source)
    normal, _ = normalise(loaded.proto, _outputs(loaded, policy.outputs))
    graph = Graph(normal)
    source.widen_to({spec.name: spec.dtype for spec in graph.inputs()})
    summary = data_checks.check_source(
        source, graph, labels=False, fewest=data_checks.FEWEST_CALIBRATION_ROWS, most=policy.calibration_rows
    )
    assert summary.first is not None
    multiply_adds(normal, {name: array[:1] for name, array in summary.first.inputs.items()})
    found = calibrate(
        normal, wanted_tensors(normal, list(policy.targets or ("openvino", "tensorrt"))), source,
        rows=policy.calibration_rows, batch=min(4, largest_batch(graph, policy.max_batch_size)), progress=progress,
    )  # fmt: skip
    return normal, found, {name: s.as_dict() for name, s in sorted(summary.inputs.items())}


def _outputs(loaded: intake.LoadedModel, named: tuple[str, ...]) -> list[str] | None:
    return outputs_to_keep(loaded.path, named, [value.name for value in loaded.proto.graph.output])


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise QuantizeError(f"{path}: cannot be written ({error.strerror})") from error
