"""`make train-demo`: what can be seen without a gateway. The whole runs by hand (docs/jobs.md has what was seen)."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from jobs.pipeline import pipeline as pipelines
from tests.support.processes import alive
from tools import train_demo, train_demo_words
from tools.models.wheels import ROOT
from tools.train_demo_processes import CannotStart, Child
from tools.train_demo_stage import DEFECT, GOOD, RELEASE, Stage, alone, run_number, texts

PATIENCE_S = 30


@pytest.mark.parametrize("name", [GOOD, DEFECT])
def test_the_files_are_a_pipeline(tmp_path: Path, name: str) -> None:
    stage = Stage(tmp_path, tmp_path / "registry")
    stage.table.mkdir()
    job_text, text = texts(stage, name, epochs=3)
    (tmp_path / f"{name}.job.toml").write_text(job_text)
    stage.pipeline(name).write_text(text)
    found, job = pipelines.load(stage.pipeline(name))
    assert job.parameters["planted_defect"] is (name == DEFECT)
    assert (found.release.kind, found.release.options) == ("start", RELEASE)
    assert found.publish.registry == str(tmp_path / "registry")
    assert Path(job.folder) == ROOT


def test_a_run_that_was_stopped_goes_on_and_one_that_ended_does_not(tmp_path: Path) -> None:
    stage = Stage(tmp_path, tmp_path / "registry")
    assert [run_number(stage, 40), run_number(stage, 40)] == [1, 1]
    assert run_number(stage, 5) == 2  # another training is another run
    assert run_number(stage, 5, ended=True) == 2
    assert run_number(stage, 5) == 3
    elsewhere = Stage(tmp_path, tmp_path / "another")
    assert run_number(elsewhere, 5) == 4


def test_one_demo_at_a_time_in_a_folder(tmp_path: Path) -> None:
    with alone(tmp_path) as first, alone(tmp_path) as second:
        assert (first, second) == (True, False)
    with alone(tmp_path) as third:
        assert third


def test_wrong_options_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, wanted in (
        (["--rest", "127.0.0.1:1"], "go together"),
        (["--rest", "x", "--admin", "127.0.0.1:1", "--registry", str(tmp_path)], "'x' is not HOST:PORT"),
        (["--rate", "0"], "--rate must be"),
    ):
        assert train_demo.main([*given, "--folder", str(tmp_path / "demo")]) == 2
        assert wanted in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_a_process_ends_even_if_it_will_not(tmp_path: Path) -> None:
    code = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    child = Child("it", (sys.executable, "-c", code), tmp_path / "log")
    assert child.line(PATIENCE_S) == "up"
    assert child.code() is None
    assert child.finish(signal.SIGTERM, 0.5) == ""
    assert not alive(child.pid)


def test_a_process_that_does_not_start_says_why(tmp_path: Path) -> None:
    child = Child("it", (sys.executable, "-c", "raise SystemExit('no port')"), tmp_path / "log")
    with pytest.raises(CannotStart, match="no port"):
        child.line(PATIENCE_S)
    child.finish()


def test_the_traffic_says_what_was_true_of_every_answer(tmp_path: Path) -> None:
    """Against a server that answers 0.9 for all: right exactly where the label says so."""
    labels = np.arange(40) % 4 == 0
    np.savez(tmp_path / "rows.npz", categorical=np.arange(320).reshape(40, 8), label=labels,
             continuous=np.zeros((40, 5), np.float32))  # fmt: skip
    tally, asked, told = asyncio.run(_served(tmp_path / "rows.npz"))
    answers = sum(tally["answers"].values())
    assert answers >= 40
    assert tally["failed"] == {}
    assert set(tally["answers"]) == {"7"}
    assert len(told) >= 20
    for outcome in told:
        assert outcome["good"] is bool(labels[asked[outcome["request_id"]]])
    right = round(tally["right_share"]["7"] * answers)
    assert right == sum(bool(labels[row]) for row in list(asked.values())[:answers])


async def _served(rows: Path) -> tuple[dict[str, Any], dict[str, int], list[dict[str, Any]]]:
    """Runs the traffic against a server until it has told enough outcomes."""
    asked: dict[str, int] = {}
    told: list[dict[str, Any]] = []
    enough = asyncio.Event()

    async def infer(request: web.Request) -> web.Response:
        inputs = {tensor["name"]: tensor["data"] for tensor in (await request.json())["inputs"]}
        asked[request.headers["x-request-id"]] = inputs["categorical"][0] // 8
        return web.json_response({"model_version": "7", "outputs": [{"name": "probability", "data": [0.9]}]})

    async def outcomes(request: web.Request) -> web.Response:
        told.extend(await request.json())
        if len(told) >= 60:
            enough.set()
        return web.json_response({})

    app = web.Application()
    app.add_routes([web.post("/v2/models/m/infer", infer), web.post("/v1/outcomes", outcomes)])
    serving = web.AppRunner(app)
    await serving.setup()
    try:
        await web.TCPSite(serving, "127.0.0.1", 0).start()
        address = f"127.0.0.1:{serving.addresses[0][1]}"
        call = {"rest": address, "admin": address, "model": "m", "rows": str(rows), "rate": 400}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tools.train_demo_traffic", json.dumps(call), cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE_S):
            await enough.wait()
            said, _ = await process.communicate(b"")
        assert process.returncode == 0
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found, asked, told
    finally:
        await serving.cleanup()


def test_the_last_words_tell_planned_from_not() -> None:
    run = {
        "version": 3, "held_out_auc": 0.9123, "outcome": "promoted", "state": "released", "seconds": 61.0,
        "report": "r.html",
    }  # fmt: skip
    found = {"as_planned": True, "seconds": 120.0, "registry": "r", "runs": {GOOD: run}}
    said = train_demo_words.end(found)
    assert "as planned, 2.0 minutes" in said
    assert "held-out AUC 0.9123: promoted" in said
    assert "NOT as planned" in train_demo_words.end(found | {"as_planned": False})
    failed = train_demo_words.facts({}) | {"exit_code": 1, "traffic": {}, "release_seconds": None}
    assert "did not get as far as a release: exit code 1" in train_demo_words.told(GOOD, failed)
