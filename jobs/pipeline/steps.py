"""What each step of a pipeline does. Every step may be repeated: it first looks whether its work is there.

Decides the idempotency keys: training has the run's submission key; a quantized version is there when its manifest is
(written last); a published version carries the run's key in its lineage; a release is known by its candidate in the
model's pointer or in the journal (`releasing`). So a step that was killed after its effect and before its record does
nothing twice.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.registry.opening import open_store
from gateway.registry.publishing import PublishOptions, publish_version
from jobs import clock, files, job_loading, processes, reading
from jobs.client import Client
from jobs.job import Job
from jobs.pipeline.pipeline import Pipeline
from jobs.progress import Bar
from jobs.state_folder import StateFolder
from jobs.states import JobState
from jobs.store import Store

LOOK_S = 0.5
_STOP_S = 10
_REFUSED_BY_GATE = 3
_SLUICE = "import sys; from gateway.cli import main; sys.exit(main(sys.argv[1:]))"


class StepFailed(Exception):
    """The step could not be done; it may be tried again."""


class Stopped(Exception):
    """The command was told to stop while a step waited."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a pipeline. `reached` hears every place where a kill must do no harm."""

    pipeline: Pipeline
    job: Job
    key: str
    folder: Path
    state: StateFolder
    client: Client
    stop: threading.Event
    say: Callable[[str], None]
    reached: Callable[[str], None] = lambda place: None

    @property
    def name(self) -> str:
        return f"{self.pipeline.name}:{self.key}"

    def pause(self) -> None:
        """Waits a moment. Raises Stopped."""
        if self.stop.wait(LOOK_S):
            raise Stopped


def train(run: Run) -> dict[str, Any]:
    """Returns job and output folder of a training that succeeded."""
    call = {"job": job_loading.to_document(run.job), "key": f"pipeline:{run.name}"}
    answer = run.client.call("POST", "/v1/jobs", call)
    number = int(answer["id"])
    run.reached("train: submitted")
    if answer["state"] in (JobState.FAILED, JobState.CANCELLED):
        run.client.call("POST", f"/v1/jobs/{number}/resume", {})
    run.say(f"training is job {number}")
    with Store(run.state.root, read_only=True) as store:
        began, bar = clock.now(), Bar(sys.stderr)
        try:
            while not (record := store.known(number)).state.final:
                if rows := reading.metrics(run.state.metrics(number)):
                    bar.show(rows[-1], clock.now() - began)
                run.pause()
        finally:
            bar.clear()
    if record.state is not JobState.SUCCEEDED:
        raise StepFailed(f"job {number} {record.state}: {record.reason} {record.detail}".strip())
    return {"job": number, "outputs": str(run.state.outputs(number))}


def evaluate(run: Run, outputs: Path) -> dict[str, Any]:
    """Returns the metrics, and under `refused` a sentence for every bound that does not hold."""
    wanted = run.pipeline.evaluate
    metrics = files.read_json(outputs / wanted.metrics)
    if metrics is None:
        if wanted.bounds:
            return {"metrics": {}, "refused": [f"{wanted.metrics} is not among the outputs"]}
        return {"metrics": {}, "refused": []}
    refused = []
    for bound in wanted.bounds:
        value = metrics.get(bound.metric)
        if isinstance(value, bool) or not isinstance(value, int | float):
            refused.append(f"{bound.metric} is not in {wanted.metrics}")
        elif bound.minimum is not None and not value >= bound.minimum:
            refused.append(f"{bound.metric} is {value:.6g}, must be at least {bound.minimum:.6g}")
        elif bound.maximum is not None and not value <= bound.maximum:
            refused.append(f"{bound.metric} is {value:.6g}, must be at most {bound.maximum:.6g}")
    return {"metrics": metrics, "refused": refused}


def approve(run: Run) -> dict[str, Any]:
    """Returns who decided what, when somebody has."""
    where = run.folder / "approval.json"
    if not where.exists():
        run.say(f"waiting for: sluice jobs approve {run.pipeline.name} --key {run.key}   (or --refuse)")
    while (found := files.read_json(where)) is None:
        run.pause()
    return found


def quantize(run: Run, outputs: Path) -> dict[str, Any]:
    """Returns the folder of the quantized version, or why the gate refused."""
    wanted, staged = run.pipeline.quantize, run.folder / "staged"
    version = staged / run.pipeline.model / "1"
    report = run.folder / "quantize"
    if not (version / "manifest.json").exists():
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        code, said = sluice(
            run, "quantize", "publish", str(outputs / wanted.graph), "--name", run.pipeline.model, "--registry",
            str(staged), "--calibration", str(outputs / wanted.calibration), "--evaluation",
            str(outputs / wanted.evaluation), "--report", str(report), "--quiet", *wanted.options,
        )  # fmt: skip
        if code == _REFUSED_BY_GATE:
            return {"refused": [f"quantize: {said[-1500:]}"], "report": str(report / "report.html")}
        if code != 0:
            raise StepFailed(f"sluice quantize ended with {code}: {said[-1500:]}")
    return {"folder": str(version), "report": str(report / "report.html"), "refused": []}


def publish(run: Run, outputs: Path, quantized: Path | None, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the number of the version that was published."""
    model, wanted = run.pipeline.model, run.pipeline.publish
    store = open_store(registry_of(run))
    for name in sorted(store.names(model)):
        stored = store.read(f"{model}/{name}/manifest.json") if name.isdecimal() else None
        if (
            stored is not None
            and json.loads(stored.content).get("lineage", {}).get("pipeline", {}).get("run") == run.name
        ):
            return {"version": int(name)}
    trained = outputs / wanted.folder
    lineage = (files.read_json(trained / "manifest.json") or {}).get("lineage", {})
    lineage["pipeline"] = {"run": run.name}
    source = trained
    if quantized is not None:
        lineage.pop("created_by", None)  # the graph that is published was made by quantize
        source = run.folder / "prepared"
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(quantized, source)
        for name in wanted.files:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(trained / name, source / name)
    told = PublishOptions(
        lineage=lineage, metrics=metrics, tool="sluice jobs pipeline",
        step=lambda place: run.reached(f"publish: {place}"),
    )  # fmt: skip
    done = publish_version(
        store, source, model, actor=lineage.get("job", {}).get("owner") or "pipeline", reason=f"pipeline {run.name}",
        options=told,
    )  # fmt: skip
    return {"version": done.version.number}


def registry_of(run: Run) -> str:
    """Returns where the pipeline publishes: an address, or a path relative to the job's folder."""
    where = run.pipeline.publish.registry
    return where if "://" in where else str(Path(run.job.folder) / Path(where).expanduser())


def sluice(run: Run, *arguments: str) -> tuple[int, str]:
    """Runs a command of Sluice; returns its exit code and what it said. It ends with this process. Raises Stopped."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SLUICE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        stdin=subprocess.DEVNULL, preexec_fn=processes.die_with_parent,
    )  # fmt: skip
    with process:
        while True:
            try:
                said, _ = process.communicate(timeout=LOOK_S)
                return process.returncode, said.strip()
            except subprocess.TimeoutExpired:
                if run.stop.is_set():
                    _ended(process)
                    raise Stopped from None


def _ended(process: subprocess.Popen[str]) -> None:
    """Ends a command that is no longer wanted; what it has done stays, the step looks for it when it is repeated."""
    process.terminate()
    try:
        process.communicate(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
