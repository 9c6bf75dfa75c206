"""`sluice jobs pipeline FILE` and `sluice jobs approve NAME`.

Decides which run a command means: the one with `--key`; without, the newest that has not ended, or a new one. Exit
codes: 0 released (or published); 1 a step failed, the same command goes on there; 3 refused by a gate or a person;
130 stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import getpass
import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs import files
from jobs.documents import JobError
from jobs.pipeline.pipeline import Pipeline, load, to_document
from jobs.serving_runner import served
from jobs.state_folder import StateFolder

RELEASED, FAILED, REFUSED, STOPPED = 0, 1, 3, 130
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def run(parsed: argparse.Namespace, state: StateFolder, reached: Callable[[str], None] = lambda _: None) -> int:
    """Returns the exit code. Raises JobError, NoRunner, RunnerRefused."""
    pipeline, job = load(Path(parsed.file))
    state.create()
    key = parsed.key or _next_key(_runs(state, pipeline.name))
    if not _KEY.fullmatch(key):
        raise JobError([f"--key: '{key}' does not match {_KEY.pattern}"])
    folder = _runs(state, pipeline.name) / key
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _same_run(folder, json.loads(json.dumps(to_document(pipeline, job))), pipeline, key)
    result = files.read_json(folder / "result.json")
    if result is None:
        try:
            from jobs.pipeline.durable import Failed, perform
        except ImportError as error:
            raise JobError([f"{error.name} is not installed: pip install 'sluice[jobs]'"]) from None
        from jobs.pipeline.steps import Run, Stopped

        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())

        def say(line: str) -> None:
            print(f"{pipeline.name} {key}: {line}", file=sys.stderr, flush=True)

        with served(state) as client:
            try:
                result = perform(Run(pipeline, job, key, folder, state, client, stop, say, reached))
            except Stopped:
                say("stopped; the same command goes on")
                return STOPPED
            except Failed as error:
                say(f"failed: {error}\nthe same command tries the step that failed again")
                return FAILED
        result = {"name": pipeline.name, "key": key, **result}
        files.replace(folder / "result.json", json.dumps(result, indent=2).encode(), mode=0o644)
    print(json.dumps(result, indent=2) if parsed.json else _said(result, folder))
    return REFUSED if result["state"] == "refused" else RELEASED


def approve(parsed: argparse.Namespace, state: StateFolder) -> int:
    """Records a person's decision on a run that waits, or will wait. What was decided once stays."""
    runs = _runs(state, parsed.name)
    key = parsed.key or _next_key(runs)
    if not _KEY.fullmatch(key) or not (runs / key).is_dir():
        print(f"sluice: there is no run {key} of {parsed.name}", file=sys.stderr)
        return FAILED
    document = {"approved": not parsed.refuse, "by": parsed.by or getpass.getuser(), "reason": parsed.reason}
    if not files.claim(runs / key / "approval.json", document):
        document = files.read_json(runs / key / "approval.json") or {}
    word = "approved" if document.get("approved") else "refused"
    print(json.dumps(document) if parsed.json else f"{parsed.name} {key} is {word} by {document.get('by')}")
    return RELEASED if document.get("approved") is not parsed.refuse else FAILED


def _runs(state: StateFolder, name: str) -> Path:
    return state.root / "pipelines" / name


def _next_key(runs: Path) -> str:
    """Returns the newest number if its run has not ended, else the next."""
    known = [int(path.name) for path in runs.iterdir() if path.name.isdecimal()] if runs.is_dir() else []
    newest = max(known, default=0)
    return str(newest if newest and not (runs / str(newest) / "result.json").exists() else newest + 1)


def _same_run(folder: Path, document: dict[str, Any], pipeline: Pipeline, key: str) -> None:
    known = files.read_json(folder / "pipeline.json")
    if known is None:
        files.replace(folder / "pipeline.json", json.dumps(document, indent=2).encode())
    elif known != document:
        raise JobError([f"run {key} of '{pipeline.name}' was begun with another file or job: give --key a new name"])


def _said(result: dict[str, Any], folder: Path) -> str:
    steps = result["steps"]
    lines = [f"{result['name']} {result['key']}: {result['state']}"]
    lines += [f"  refused by {result['by']}: {reason}" for reason in result.get("refused", ())]
    lines.append(f"  trained by job {steps['train']['job']}, outputs in {steps['train']['outputs']}")
    numbers = {n: v for n, v in steps["evaluate"]["metrics"].items() if isinstance(v, int | float)}
    if numbers:
        lines.append("  " + ", ".join(f"{name} {value:.6g}" for name, value in numbers.items()))
    if "quantize" in steps:
        lines.append(f"  quantization report in {steps['quantize']['report']}")
    if "publish" in steps:
        lines.append(f"  version {steps['publish']['version']}, {steps['release']['outcome']}")
    return "\n".join([*lines, f"  everything in {folder / 'result.json'}"])
