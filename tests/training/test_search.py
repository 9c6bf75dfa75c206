"""`sluice jobs search`: trials are jobs, bad ones are ended early, and a kill neither loses nor repeats one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.documents import JobError
from jobs.search.search import load
from jobs.store import Store
from tests.jobs.world import ROOT

PATIENCE_S = 120
COMMAND = [sys.executable, "-m", "gateway.cli", "jobs", "search"]


def files(folder: Path, search: str, **parameters: Any) -> Path:
    """Writes a job file and a search file; returns the latter."""
    given = {"ledger": str(folder / "ledger"), **parameters}
    shown = ", ".join(f"{name} = {json.dumps(value)}" for name, value in given.items())
    (folder / "job.toml").write_text(
        f'name = "trial"\nfunction = "tests.training.searched:main"\nfolder = "{ROOT}"\n'
        f"parameters = {{{shown}}}\noutputs = ['model.json']\nretry_delay_s = 0\n"
    )
    (folder / "search.toml").write_text(f'name = "s"\njob = "job.toml"\nmetric = "score"\n{search}')
    return folder / "search.toml"


SPACE = """
[[space]]
name = "x"
low = -2.0
high = 2.0
[[space]]
name = "kind"
choices = ["a", "b"]
"""


def search(file: Path, state: Path) -> dict[str, Any]:
    done = subprocess.run(
        [*COMMAND, str(file), "--state-folder", str(state), "--json"],
        capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def ledger(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger").read_text().splitlines()]


def test_finds_the_best_and_ends_the_bad_early(tmp_path: Path) -> None:
    file = files(
        tmp_path,
        "trials = 16\nparallel = 2\nseed = 3\nretrain_parameters = { extra = 7 }\n"
        "[pruning]\nstartup_trials = 2\n" + SPACE,
    )
    result = search(file, tmp_path / "state")
    counts = result["counts"]
    assert (counts["complete"] + counts["pruned"], counts["failed"], counts["running"]) == (16, 0, 0)
    assert counts["pruned"] > 0
    values = {t["number"]: t["value"] for t in result["trials"] if t["state"] == "complete"}
    assert result["best"]["number"] == max(values, key=lambda number: values[number])
    assert set(result["importance"]) == {"x", "kind"}
    assert (result["winner"]["state"], result["winner"]["value"]) == ("succeeded", result["best"]["value"])
    last = ledger(tmp_path)[-1]
    assert (last["x"], last["extra"]) == (result["best"]["parameters"]["x"], 7)
    page = Path(result["report"]).read_text()
    assert "<svg" in page
    assert "Importance" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_a_killed_search_goes_on(tmp_path: Path, storage: str) -> None:
    file = files(tmp_path, f"trials = 10\nparallel = 2\nseed = 3\nstorage = '{storage}'\n"
                 "[pruning]\nmethod = 'none'\n" + SPACE.replace("-2.0", "-1.0"), wait_s=0.05)  # fmt: skip
    source, state = random.Random(storage), tmp_path / "state"
    for begun in (1, 4, 7):
        process = subprocess.Popen(
            [*COMMAND, str(file), "--state-folder", str(state)], stdout=subprocess.DEVNULL, cwd=ROOT
        )
        wait_for_lines(tmp_path / "ledger", begun)
        signal.sigtimedwait([signal.SIGRTMAX], source.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    result = search(file, state)
    assert result["counts"] == {"complete": 10, "pruned": 0, "failed": 0, "running": 0}
    with Store(state, read_only=True) as store:
        records = store.jobs()
        assert sorted(r.key or "" for r in records if ":winner" not in (r.key or "")) == sorted(
            f"search:s:{number}" for number in range(10)
        )
        assert len(records) == 11
    assert len(ledger(tmp_path)) == 11
    assert [t["job"] for t in result["trials"]] == sorted(t["job"] for t in result["trials"])


def wait_for_lines(path: Path, count: int) -> None:
    for _ in range(PATIENCE_S * 50):
        if path.exists() and path.read_text().count("\n") >= count:
            return
        signal.sigtimedwait([signal.SIGRTMAX], 0.02)
    raise AssertionError(f"{path} has no {count} lines")


def test_trials_that_all_fail_end_the_search(tmp_path: Path) -> None:
    file = files(tmp_path, "trials = 50\nfailures = 2\n" + SPACE, fail=True)
    done = subprocess.run([*COMMAND, str(file), "--state-folder", str(tmp_path / "state"), "--json"],
                          capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False)  # fmt: skip
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert (result["best"], result["counts"]["failed"]) == (None, 2)
    assert "exit code 3" in result["trials"][0]["detail"]


def test_a_grid_is_used_up(tmp_path: Path) -> None:
    space = "[[space]]\nname = 'x'\nlow = 0\nhigh = 2\nstep = 1\n[[space]]\nname = 'kind'\nchoices = ['a', 'b']\n"
    file = files(tmp_path, "trials = 50\nsampler = 'grid'\nparallel = 2\nretrain = false\n" + space)
    result = search(file, tmp_path / "state")
    points = [(t["parameters"]["x"], t["parameters"]["kind"]) for t in result["trials"]]
    assert sorted(points) == [(x, kind) for x in (0, 1, 2) for kind in "ab"]
    assert result["best"]["parameters"] == {"x": 1, "kind": "a"}


def test_another_search_of_the_same_name_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    search(files(tmp_path, "trials = 1\nretrain = false\n" + SPACE, wait_s=0.0), state)
    file = files(tmp_path, "trials = 1\nretrain = false\nseed = 9\n" + SPACE)
    done = subprocess.run([*COMMAND, str(file), "--state-folder", str(state)], capture_output=True, text=True,
                          cwd=ROOT, timeout=PATIENCE_S, check=False)  # fmt: skip
    assert done.returncode == 2
    assert "another search" in done.stderr


def test_every_problem_of_a_search_file_at_once(tmp_path: Path) -> None:
    file = files(
        tmp_path,
        "trials = 0\nsampler = 'grid'\nspeed = 1\n[[space]]\nname = 'x'\nlow = 2\nhigh = 1\n"
        "[[space]]\nname = 'y'\nlow = 0.0\nhigh = 1.0\nlog = true\n[pruning]\nmethod = 'axe'\n",
    )
    with pytest.raises(JobError) as refused:
        load(file)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["trials", "speed", "pruning.method"]
    file = files(
        tmp_path,
        "sampler = 'grid'\n[[space]]\nname = 'x'\nlow = 2\nhigh = 1\n"
        "[[space]]\nname = 'x'\nlow = 0.0\nhigh = 1.0\nlog = true\n[[space]]\nname = 'z'\n",
    )
    with pytest.raises(JobError) as refused:
        load(file)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "space[0].high", "space[0].step", "space[1].name", "space[1].low", "space[1].step", "space[2]",
    ]  # fmt: skip
