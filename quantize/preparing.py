"""Everything before the first integer: model and data read, checked, proven usable, and the FP32 model measured.

Invariant: whatever is wrong with what the caller gave is found here, before ranges are computed; the order is cheap
checks first.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from quantize import data_checks, intake
from quantize.calibration import Progress
from quantize.coverage import multiply_adds
from quantize.data_checks import DataSummary
from quantize.errors import BadInput, GateRefused, UnsupportedModel
from quantize.evaluation import Outputs, outputs_of
from quantize.gate import reference_problems
from quantize.graph import Graph, TensorSpec
from quantize.metrics import Metric, label_problems, metric_of
from quantize.normalise import normalise, prove_equal
from quantize.parent import outputs_to_keep
from quantize.placement import WEIGHTED
from quantize.policy import Policy
from quantize.runtimes import Arrays, OnnxRuntime
from quantize.sources import Source, open_source

TORCH_FILES = (".pt", ".ts", ".pt2")


@dataclass(slots=True)
class Further:
    """Rows without labels, and what FP32 answers: INT8 must answer the same (`--agreement`)."""

    source: Source
    summary: DataSummary
    reference: Outputs


@dataclass(slots=True)
class Prepared:
    """A model that can be quantized and rows that can be trusted."""

    loaded: intake.LoadedModel
    model: onnx.ModelProto
    steps: list[str]
    difference: float
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    judged: str
    largest: int
    calibration: Source
    evaluation: Source
    calibration_summary: DataSummary
    evaluation_summary: DataSummary
    metric: Metric
    reference: Outputs
    probe: Arrays
    work: dict[str, int]
    warnings: list[str] = field(default_factory=list)
    further: Further | None = None

    @property
    def is_convolutional(self) -> bool:
        return any(node.op_type == "Conv" for node in self.model.graph.node)


def prepare(
    model: str,
    calibration: str,
    evaluation: str,
    policy: Policy,
    progress: Progress,
    *,
    unlabelled: str | None = None,
) -> Prepared:
    """Returns the prepared model.

    Raises:
        BadInput, UnsupportedModel: with every reason found at the first stage that found one.
        GateRefused: FP32 itself is no yardstick.
    """
    metric = metric_of(policy.metric)
    if unlabelled is not None and not metric.classifies:
        raise BadInput(f"--agreement compares classes: it does not go with the metric {metric.name}")
    sources = [open_source(where) for where in (calibration, evaluation, *([unlabelled] if unlabelled else []))]
    loaded = load(model, sources[0])
    wanted = outputs_to_keep(loaded.path, policy.outputs, [value.name for value in loaded.proto.graph.output])
    progress("normalising", 0, 0)
    normal, steps = normalise(loaded.proto, wanted)
    graph = Graph(normal)
    if not any(node.op_type in WEIGHTED for node in normal.graph.node):
        raise UnsupportedModel("nothing to quantize: it has no convolution and no matrix product")
    for source in sources:
        source.widen_to({spec.name: spec.dtype for spec in graph.inputs()})
    largest = largest_batch(graph, policy.max_batch_size)
    progress("checking the calibration rows", 0, 0)
    fewest = data_checks.FEWEST_CALIBRATION_ROWS
    first = data_checks.check_source(sources[0], graph, labels=False, fewest=fewest, most=policy.calibration_rows)
    if first.rows < data_checks.SUGGESTED_CALIBRATION_ROWS:
        first.warnings.append(f"{calibration}: {first.rows} rows are few; 128 or more give steadier ranges")
    progress("checking the evaluation rows", 0, 0)
    second = data_checks.check_source(
        sources[1], graph, labels=metric.needs_labels, fewest=1, most=policy.evaluation_rows
    )
    data_checks.check_disjoint(first, second)
    assert first.first is not None
    assert second.first is not None
    probe = {name: array[:4] for name, array in first.first.inputs.items()}
    if largest == 1:
        probe = {name: array[:1] for name, array in probe.items()}
    difference = _proof(loaded.proto, normal, probe)
    judged = _judged(graph, policy.output)
    session = OnnxRuntime(normal.SerializeToString(), graph.outputs, threads=policy.threads)
    reference = outputs_of(session, judged, sources[1], batch=largest, most=policy.evaluation_rows, progress=progress)
    if wrong := label_problems(metric, reference.labels, reference.values):
        raise BadInput(*[f"{evaluation}: {problem}" for problem in wrong])
    problems = reference_problems(metric, reference)
    if problems:
        raise GateRefused(*problems)
    prepared = Prepared(
        loaded=loaded,
        model=normal,
        steps=steps,
        difference=difference,
        inputs=graph.inputs(),
        outputs=graph.output_specs(),
        judged=judged,
        largest=largest,
        calibration=sources[0],
        evaluation=sources[1],
        calibration_summary=first,
        evaluation_summary=second,
        metric=metric,
        reference=reference,
        probe=second.first.inputs,
        work={},
        warnings=[*first.warnings, *second.warnings],
    )
    if unlabelled is not None:
        prepared.further = _further(sources[2], prepared, session, graph, progress)
    prepared.work = multiply_adds(normal, {name: array[:1] for name, array in second.first.inputs.items()})
    return prepared


def _further(source: Source, prepared: Prepared, session: OnnxRuntime, graph: Graph, progress: Progress) -> Further:
    summary = data_checks.check_source(source, graph, labels=False, fewest=1)
    data_checks.check_disjoint(prepared.calibration_summary, summary)
    answers = outputs_of(session, prepared.judged, source, batch=prepared.largest, progress=progress)
    if not answers.finite:
        raise GateRefused(f"FP32 answers NaN or infinity on {source.name}")
    return Further(source, summary, answers)


def load(model: str, rows: Source | None = None) -> intake.LoadedModel:
    """Returns the model of an .onnx file, of `module:factory` or of a PyTorch file (both exported here).

    A PyTorch file takes its example inputs from the first of `rows`.
    """
    path = Path(model)
    if ":" in model and not path.exists():
        from quantize.torch_intake import export

        return _exported(export(model), path)
    if path.suffix in TORCH_FILES and path.is_file():
        from quantize.torch_intake import EXAMPLE_ROWS, export_file

        if rows is None:
            raise BadInput(f"{model}: exporting a PyTorch file needs rows (use publish, convert or calibrate)")
        return _exported(export_file(path, next(iter(rows.batches(EXAMPLE_ROWS))).inputs), path)
    return intake.load_model(path)


def _exported(proto: onnx.ModelProto, path: Path) -> intake.LoadedModel:
    intake.check_supported(proto)
    content = proto.SerializeToString(deterministic=True)
    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    return intake.LoadedModel(proto, path, hashlib.sha256(content).hexdigest(), len(content), opset)


def largest_batch(graph: Graph, most: int) -> int:
    """Returns the largest batch that the graph takes, `most` if it takes any.

    Raises:
        UnsupportedModel: inputs disagree, have no rows, or take exactly so many (and not one).
    """
    sizes = set()
    for spec in graph.inputs():
        if not spec.dims:
            raise UnsupportedModel(f"input {spec.name!r} is a single value: rows along axis 0 are needed")
        sizes.add(spec.dims[0])
    if len(sizes) != 1:
        raise UnsupportedModel("its inputs have different sizes along axis 0: " + ", ".join(map(str, sizes)))
    size = sizes.pop()
    if size is not None and size > 1:
        raise UnsupportedModel(f"it takes exactly {size} rows at a time: export it with a free (or 1) first dimension")
    return most if size is None else size


def _proof(before: onnx.ModelProto, after: onnx.ModelProto, probe: Arrays) -> float:
    original = copy.deepcopy(before)
    try:
        return prove_equal(original, after, probe)
    except (UnsupportedModel, BadInput):
        raise
    except Exception as error:
        raise UnsupportedModel(f"ONNX Runtime cannot run it: {str(error)[:300]}") from error


def _judged(graph: Graph, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in graph.outputs:
            raise BadInput(f"no such output: {wanted} (there are {', '.join(graph.outputs)})")
        return wanted
    floats = [spec.name for spec in graph.output_specs() if spec.dtype == np.float32]
    if not floats:
        types = ", ".join(f"{spec.name} is {spec.dtype.name}" for spec in graph.output_specs())
        raise UnsupportedModel(f"no output is float32, as a model to quantize has ({types})")
    if len(floats) != 1:
        raise BadInput(f"which output is judged? Name one with --output: {', '.join(graph.outputs)}")
    return floats[0]
