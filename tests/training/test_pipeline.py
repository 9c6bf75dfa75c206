"""`sluice jobs pipeline`: killed everywhere it does nothing twice; gates, approval, and a publish that fails."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.documents import JobError
from jobs.pipeline.pipeline import load
from tests.jobs.world import ROOT
from tests.training.pipeline_killed import PLACES

PATIENCE_S = 180


def files(folder: Path, pipeline: str = "", score: float = 0.9) -> Path:
    """Writes a job file and a pipeline file; returns the latter."""
    (folder / "registry").mkdir(exist_ok=True)
    (folder / "job.toml").write_text(
        f'name = "train"\nfunction = "tests.training.pipeline_job:main"\nfolder = "{ROOT}"\nretry_delay_s = 0\n'
        f'parameters = {{ ledger = "{folder / "ledger"}", score = {score} }}\noutputs = ["model/model.onnx"]\n'
    )
    head = 'name = "p"\njob = "job.toml"\nmodel = "relu"\nattempts = 1\n'
    publish = "" if "[publish]" in pipeline else f'[publish]\nregistry = "{folder / "registry"}"\n'
    (folder / "pipeline.toml").write_text(
        f"{head}{pipeline}{publish}[[evaluate.bounds]]\nmetric = 'score'\nminimum = 0.8\n"
    )
    return folder / "pipeline.toml"


def jobs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", "jobs", *arguments, "--state-folder", str(folder / "state"), "--json"],
        capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def published(folder: Path) -> dict[int, dict[str, Any]]:
    found = (folder / "registry" / "relu").glob("*/manifest.json")
    return {int(path.parent.name): json.loads(path.read_text()) for path in found}


def test_killed_at_every_place(tmp_path: Path) -> None:
    file, seen = files(tmp_path), tmp_path / "seen"
    command = [sys.executable, "-m", "tests.training.pipeline_killed", str(file), str(tmp_path / "state"), str(seen)]
    for _ in range(40):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False)
        if done.returncode != -9:
            break
    assert done.returncode == 0, done.stderr
    places = seen.read_text().splitlines()
    assert sorted(places) == sorted(PLACES)
    assert (tmp_path / "ledger").read_text() == "1\n", "trained twice"
    versions = published(tmp_path)
    assert [m["lineage"]["pipeline"]["run"] for m in versions.values()] == ["p:1"]
    number = next(iter(versions))
    pointer = json.loads((tmp_path / "registry" / "relu" / "serving.json").read_text())
    assert pointer["stable"] == number
    journal = [json.loads(line) for line in (tmp_path / "registry" / "journal.ndjson").read_text().splitlines()]
    assert [entry["action"] for entry in journal if entry["action"] == "serve"] == ["serve"]
    result = json.loads(done.stdout)
    assert (result["state"], result["steps"]["publish"]["version"]) == ("released", number)
    trained = tmp_path / "state" / "jobs" / "1" / "outputs" / "model" / "model.onnx"
    digests = [f["sha256"] for f in versions[number]["files"] if f["path"].endswith(".onnx")]
    assert digests == [hashlib.sha256(trained.read_bytes()).hexdigest()]


def test_a_gate_that_refuses_ends_it_with_the_reason(tmp_path: Path) -> None:
    done = jobs(tmp_path, "pipeline", str(files(tmp_path, score=0.7)))
    result = json.loads(done.stdout)
    assert (done.returncode, result["state"], result["by"]) == (3, "refused", "evaluate")
    assert result["refused"] == ["score is 0.7, must be at least 0.8"]
    assert published(tmp_path) == {}


def test_a_publish_that_fails_is_tried_again_without_training(tmp_path: Path) -> None:
    file = files(tmp_path, "[release]\nkind = 'none'\n")
    (tmp_path / "registry").rename(tmp_path / "away")
    (tmp_path / "registry").write_text("no folder")
    first = jobs(tmp_path, "pipeline", str(file))
    assert first.returncode == 1, first.stderr
    (tmp_path / "registry").unlink()
    (tmp_path / "away").rename(tmp_path / "registry")
    done = jobs(tmp_path, "pipeline", str(file))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "published"
    assert (tmp_path / "ledger").read_text() == "1\n"
    assert len(published(tmp_path)) == 1


def test_a_person_refuses(tmp_path: Path) -> None:
    file = files(tmp_path, "approval = true\n")
    assert jobs(tmp_path, "approve", "p", "--key", "7").returncode == 1
    folder = tmp_path / "state" / "pipelines" / "p" / "7"
    folder.mkdir(parents=True)
    assert jobs(tmp_path, "approve", "p", "--key", "7", "--refuse", "--by", "ada", "--reason", "biased").returncode == 0
    done = jobs(tmp_path, "pipeline", str(file), "--key", "7")
    result = json.loads(done.stdout)
    assert (done.returncode, result["by"], result["refused"]) == (3, "approve", ["refused by ada: biased"])
    assert published(tmp_path) == {}


def test_every_problem_of_a_pipeline_file_at_once(tmp_path: Path) -> None:
    file = files(tmp_path, "speed = 1\n[release]\nkind = 'hope'\n[quantize]\ngraph = 3\n")
    with pytest.raises(JobError) as refused:
        load(file)
    found = sorted(problem.partition(":")[0] for problem in refused.value.problems)
    assert found == ["quantize.graph", "release.kind", "speed"]
