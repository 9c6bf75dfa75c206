"""What `make train-demo` puts into its folder: a copy of the registry, the Adult table, rows to ask with, pipelines.

Invariants: the checkout stays as it is; everything is there as a whole or not at all, so a run that was stopped while
it prepared begins again at what is missing; the files of one run say the same every time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs import files
from tools.models.wheels import ROOT

MODEL, SEED = "wide_deep", 20261124  # the seed of the version in model_repo: the same split, so held out for both
GOOD, DEFECT = "good", "defect"
FEWEST_AUC = 0.9
# Released to a fifth, half and all of the traffic. A retrained model answers otherwise than the one before, row by row,
# so copies prove nothing here; the truth does. Sizes are such that a few thousand requests tell.
RELEASE = (
    "--steps", "20%,50%,100%", "--shadow-share", "0%", "--disagreement-rate", "off", "--outcome-loss", "5%",
    "--latency-increase", "50%", "--watch-after", "1m", "--max-step-time", "8m",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stage:
    """Paths of one demo folder. `registry` may be somebody else's."""

    root: Path
    registry: Path

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def table(self) -> Path:
        return self.root / "adult"

    @property
    def rows(self) -> Path:
        return self.root / "rows.npz"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    def pipeline(self, name: str) -> Path:
        return self.root / f"{name}.toml"


def prepare(stage: Stage, *, own: bool, epochs: int, say: Callable[[str], None]) -> None:
    """Makes what is not there yet; with `own` the registry too."""
    stage.reports.mkdir(parents=True, exist_ok=True)
    if own and not (stage.registry / MODEL).exists():
        say(f"copying model_repo/{MODEL} to {stage.registry}")
        _whole(stage.registry / MODEL, lambda aside: shutil.copytree(ROOT / "model_repo" / MODEL, aside))
    if not stage.table.exists():
        from deltalake import write_deltalake

        from tools.models import adult_table

        say(f"writing the Adult table to {stage.table}")
        _whole(stage.table, lambda aside: write_deltalake(str(aside), adult_table.table()))
    if not stage.rows.exists():
        from tools.models import adult_table

        say("putting the held-out rows aside, to ask with")
        held_out = adult_table.load(SEED)[3]
        aside = stage.rows.with_name("rows.aside.npz")
        np.savez(
            aside, categorical=held_out.categorical, continuous=held_out.continuous, label=held_out.label.astype(bool)
        )
        aside.rename(stage.rows)
    for name in (GOOD, DEFECT):
        job, pipeline = texts(stage, name, epochs=epochs)
        (stage.root / f"{name}.job.toml").write_text(job, encoding="utf-8")
        stage.pipeline(name).write_text(pipeline, encoding="utf-8")


def texts(stage: Stage, name: str, *, epochs: int) -> tuple[str, str]:
    """Returns job file and pipeline file, as anybody would write them."""
    planted = str(name == DEFECT).lower()
    job = f"""\
name = "wide-deep-{name}"
function = "jobs.trainers.wide_deep:main"
folder = {_toml(ROOT)}
parameters = {{ epochs = {epochs}, planted_defect = {planted} }}
seed = {SEED}
preemptible = true
retries = 1
grace_s = 10
time_limit_s = 600
outputs = ["metrics.json", "model/manifest.json", "calibration.npz", "evaluation.npz"]

[resources]
cpus = 2
memory_mib = 4096

[checkpoint]
interval_s = 5

[[inputs]]
name = "adult"
table = {_toml(stage.table)}
schema = "jobs.trainers.adult_schema:ADULT"
"""
    options = json.dumps(RELEASE)
    pipeline = f"""\
name = "{name}"
job = "{name}.job.toml"
model = "{MODEL}"
attempts = 2

[[evaluate.bounds]]
metric = "held_out_auc"
minimum = {FEWEST_AUC}

[quantize]
graph = "model/artifacts/onnx/model.onnx"
options = ["--metric", "auc", "--target", "onnxruntime", "--allow-slower", "--max-batch-size", "256"]

[publish]
registry = {_toml(stage.registry)}
folder = "model"
files = ["vocabulary.json"]

[release]
kind = "start"
options = {options}
"""
    return job, pipeline


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Says whether this is the only demo in the folder."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def run_number(stage: Stage, epochs: int, *, ended: bool = False) -> int:
    """Returns which run this is: the one that was stopped, or the next. With `ended` it is over."""
    path = stage.root / "run.json"
    wanted = {"epochs": epochs, "registry": str(stage.registry)}
    known = files.read_json(path) or {"number": 0, "ended": True}
    number = int(known["number"])
    if not ended and (known["ended"] or {name: known.get(name) for name in wanted} != wanted):
        number += 1
    files.replace(path, json.dumps({"number": number, "ended": ended, **wanted}).encode(), mode=0o644)
    return number


def _toml(path: Path) -> str:
    return json.dumps(str(path))


def _whole(path: Path, make: Callable[[Path], object]) -> None:
    """Makes a folder beside its place and renames it there."""
    aside = path.with_name(f"{path.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(parents=True, exist_ok=True)
    make(aside)
    aside.rename(path)
