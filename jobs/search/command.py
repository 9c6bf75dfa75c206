"""`sluice jobs search FILE`: runs a search, or goes on with one that was stopped or killed.

Decides what is printed and kept: `<state>/searches/<name>` holds the study, the search as it was begun, `result.json`
and `report.html`. Exit codes: 0 there is a winner; 1 there is none; 130 stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from jobs import clock, files, reading
from jobs.documents import JobError
from jobs.job import Job
from jobs.progress import Bar
from jobs.search.search import Search, load, to_document
from jobs.serving_runner import served
from jobs.state_folder import StateFolder
from jobs.states import JobState
from jobs.store import JobRecord

_STOPPED = 130
# What may be changed between two starts of one search: it changes no trial that was made.
_MAY_CHANGE = ("trials", "parallel", "failures", "retrain", "retrain_parameters", "job")


def run(parsed: argparse.Namespace, state: StateFolder) -> int:
    """Returns the exit code. Raises JobError, NoRunner, RunnerRefused."""
    search, job = load(Path(parsed.file))
    try:
        from jobs.search.driver import Driver, Ended, best_of
    except ImportError as error:
        raise JobError([f"{error.name} is not installed: pip install 'sluice[jobs]'"]) from None
    state.create()
    folder = state.root / "searches" / search.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _same_search(search, job, folder)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    bar, began = Bar(sys.stderr), clock.now()

    def heard(ended: Ended) -> None:
        bar.clear()
        if not parsed.json:
            print(_line(ended), flush=True)
        best = {"best": ended.best.value} if ended.best else {}
        bar.show({"step": ended.done, "total": ended.wanted, **best}, clock.now() - began)

    with served(state) as client:
        driver = Driver(search, job, folder, client, state, heard)
        done = driver.run(stop)
        winner = None
        if done and search.retrain and best_of(driver.study) is not None:
            bar.clear()
            if not parsed.json:
                print(f"trial {driver.study.best_trial.number} is the best; training it once more", flush=True)
            winner = driver.retrain(stop)
            done = winner is not None
        bar.clear()
        result = _keep(search, driver.study, winner, state, folder)
    if not done:
        print("sluice: stopped; jobs of trials under way go on where a runner serves; the same command goes on",
              file=sys.stderr)  # fmt: skip
        return _STOPPED
    print(json.dumps(result, indent=2) if parsed.json else _said(result, folder))
    return 0 if result["best"] and (winner is None or winner.state is JobState.SUCCEEDED) else 1


def _same_search(search: Search, job: Job, folder: Path) -> None:
    """Keeps what the search is; refuses one of the same name that is another."""
    document = to_document(search, job)
    for name in _MAY_CHANGE:
        document["search"].pop(name, None)
    known = files.read_json(folder / "search.json")
    if known is None:
        files.replace(folder / "search.json", json.dumps(document, indent=2).encode())
    elif known != json.loads(json.dumps(document)):
        raise JobError([f"name: '{search.name}' is another search already (see {folder}); its file or job was changed: "
                        "give this one a new name"])  # fmt: skip


def _keep(search: Search, study: Any, winner: JobRecord | None, state: StateFolder, folder: Path) -> dict[str, Any]:
    from jobs.search.report import html_of
    from jobs.search.result import result_of

    result = result_of(search, study)
    if winner is not None:
        rows = [row[search.metric] for row in reading.metrics(state.metrics(winner.id)) if search.metric in row]
        result["winner"] = {"job": winner.id, "state": str(winner.state), "value": rows[-1] if rows else None,
                            "output_folder": str(state.outputs(winner.id))}  # fmt: skip
    files.replace(folder / "report.html", html_of(result).encode(), mode=0o644)
    result["report"] = str(folder / "report.html")
    files.replace(folder / "result.json", json.dumps(result, indent=2).encode(), mode=0o644)
    return result


def _line(ended: Any) -> str:
    trial, best = ended.trial, ended.best
    state = trial.state.name.lower()
    value = f" {trial.value:.5g}" if trial.value is not None and state == "complete" else ""
    parameters = " ".join(f"{n}={v:.4g}" if isinstance(v, float) else f"{n}={v}" for n, v in trial.params.items())
    shown = f"  best {best.value:.5g} (trial {best.number})" if best else ""
    detail = f": {trial.user_attrs['detail']}" if "detail" in trial.user_attrs else ""
    return f"trial {trial.number:<4} {state}{value}{detail}  {parameters}{shown}  [{ended.done}/{ended.wanted}]"


def _said(result: dict[str, Any], folder: Path) -> str:
    best, winner = result["best"], result["winner"]
    if best is None:
        return f"no trial ran to its end; report in {folder / 'report.html'}"
    lines = [f"best: trial {best['number']}, {result['metric']} {best['value']:.5g}, "
             + ", ".join(f"{name} = {value}" for name, value in best["parameters"].items())]  # fmt: skip
    if winner:
        lines.append(
            f"trained once more as job {winner['job']}: {winner['state']}, outputs in {winner['output_folder']}"
        )
    return "\n".join([*lines, f"report in {folder / 'report.html'}"])
