"""The pipeline file, typed: which job trains, what its model must reach, and how it goes on to be served.

Decides settings, defaults, and which contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import documents, job_loading
from jobs.documents import JobError
from jobs.job import Job, _made, _required, _setting

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

# fmt: off


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What one metric must reach."""

    metric: str = _required("Key in the metrics file.")
    minimum: float | None = _setting(None, "Smallest value that passes.")
    maximum: float | None = _setting(None, "Largest value that passes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """The gate after training."""

    metrics: str = _setting("metrics.json", "JSON object of metrics, below the job's outputs.")
    bounds: tuple[Bound, ...] = _setting((), "All must hold; otherwise the pipeline ends as refused.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """`sluice quantize publish`, into a registry of the pipeline's own; without `graph` the step is left out."""

    graph: str = _setting("", "The FP32 graph, below the job's outputs; empty: publish what was trained.")
    calibration: str = _setting("calibration.npz", "Rows to calibrate with, below the job's outputs.")
    evaluation: str = _setting("evaluation.npz", "Rows to judge by, below the job's outputs.")
    options: tuple[str, ...] = _setting((), "Further options of `sluice quantize publish`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """What is published, and where."""

    registry: str = _setting("model_repo", "A folder or s3://bucket/prefix.")
    folder: str = _setting("model", "Folder below the job's outputs: published as it is, or taken lineage from if "
                           "quantized.")
    files: tuple[str, ...] = _setting((), "Files of that folder that a quantized version gets too.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """How the version comes to its callers."""

    kind: str = _setting("serve", "serve: at once; start: `sluice releases start` and wait how it ends; none.",
                         choices=("serve", "start", "none"))
    options: tuple[str, ...] = _setting((), "Further options of `sluice models serve` or `sluice releases start`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One pipeline."""

    name: str = _required("Name; a run is a name and a key.", pattern=_NAME)
    job: str = _required("The job file that trains, relative to this file.")
    model: str = _required("The model's name in the registry.", pattern=_NAME)
    approval: bool = _setting(False, "Wait for `sluice jobs approve` before anything is published.")
    attempts: int = _setting(3, "How often a step that fails is tried before the command gives up.", minimum=1,
                             maximum=100)
    pause_s: int = _setting(2, "Pause before the second try; doubles with each.", minimum=0, maximum=300)
    evaluate: Evaluate = _made(Evaluate, "Evaluation.")  # noqa: RUF009
    quantize: Quantize = _made(Quantize, "Quantization.")  # noqa: RUF009
    publish: Publish = _made(Publish, "Publishing.")  # noqa: RUF009
    release: Release = _made(Release, "Release.")  # noqa: RUF009
# fmt: on


def load(path: Path) -> tuple[Pipeline, Job]:
    """Returns the pipeline in a file and its job. Raises JobError with every problem found in either."""
    problems: list[str] = []
    document = documents.read(path)
    pipeline: Pipeline | None = documents.table(Pipeline, document, "", problems)
    job: Job | None = None
    if isinstance(document, Mapping) and isinstance(document.get("job"), str):
        try:
            job = job_loading.load(path.absolute().parent / str(document["job"]))
        except JobError as error:
            problems += [f"job: {problem}" for problem in error.problems]
    if pipeline is not None:
        problems += _cross_check(pipeline)
    if problems or pipeline is None or job is None:
        raise JobError(problems)
    return pipeline, job


def _cross_check(pipeline: Pipeline) -> Iterable[str]:
    for index, bound in enumerate(pipeline.evaluate.bounds):
        if bound.minimum is None and bound.maximum is None:
            yield f"evaluate.bounds[{index}]: give minimum or maximum"
    below = {
        "evaluate.metrics": pipeline.evaluate.metrics, "publish.folder": pipeline.publish.folder,
        "quantize.graph": pipeline.quantize.graph, "quantize.calibration": pipeline.quantize.calibration,
        "quantize.evaluation": pipeline.quantize.evaluation,
    }  # fmt: skip
    below |= {f"publish.files[{index}]": name for index, name in enumerate(pipeline.publish.files)}
    for where, name in below.items():
        if name.startswith("/") or ".." in Path(name).parts:
            yield f"{where}: '{name}' must be a path below the job's outputs"


def to_document(pipeline: Pipeline, job: Job) -> dict[str, Any]:
    """Returns what makes a run the same run."""
    return {"pipeline": documents.plain(pipeline), "job": job_loading.to_document(job)}
