"""What `sluice jobs <action>` does. Each function takes the parsed command line and returns the exit code."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from jobs import logs, reading
from jobs.client import Client, NoRunner, RunnerRefused
from jobs.documents import JobError
from jobs.errors import UnknownJob
from jobs.job import Job
from jobs.job_loading import load, to_document
from jobs.job_schema import text as schema_text
from jobs.state_folder import StateBusy, StateFolder, default_root
from jobs.states import JobState
from jobs.store import DATABASE, JobRecord, Store

OK, NO, BAD_USAGE, CANNOT_START = 0, 1, 2, 3
_CHUNK = 1 << 16
_HEAD = ("id", "name", "state", "reason", "owner", "attempts", "submitted", "detail")


def run(parsed: argparse.Namespace) -> int:
    """Runs the action and turns what can go wrong into a message and an exit code."""
    root = Path(parsed.state_folder).expanduser() if parsed.state_folder else default_root(os.environ)
    state = StateFolder(root)
    try:
        return _ACTIONS[parsed.action](parsed, state)
    except JobError as error:
        if parsed.json:
            print(json.dumps({"ok": False, "problems": error.problems}))
        else:
            for problem in error.problems:
                print(f"sluice: {problem}", file=sys.stderr)
        return BAD_USAGE
    except StateBusy as error:
        return _say(CANNOT_START, str(error))
    except (NoRunner, RunnerRefused) as error:
        return _say(NO, str(error))
    except UnknownJob as error:
        return _say(NO, str(error.args[0]))


def _say(code: int, message: str) -> int:
    print(f"sluice: {message}", file=sys.stderr)
    return code


def _print(parsed: argparse.Namespace, document: Any, shown: str) -> int:
    print(json.dumps(document, indent=2) if parsed.json else shown)
    return OK


# ---------------------------------------------------------------------- running


def _run(parsed: argparse.Namespace, state: StateFolder) -> int:
    from jobs import foreground, serving

    job = load(parsed.file)
    settings = serving.this_machine(parsed.cpus, parsed.memory_mib, parsed.gpus)
    output = None if parsed.quiet else (sys.stderr if parsed.json else sys.stdout).buffer
    try:
        found = asyncio.run(foreground.run(state.root, settings, job, output))
    except StateBusy:
        found = _run_at_runner(job, state, output)
    if isinstance(found, JobError):
        raise found
    if parsed.json:
        with Store(state.root, read_only=True) as store:
            print(json.dumps(reading.full(store, state, found.id), indent=2))
    else:
        detail = f": {found.detail}" if found.detail else ""
        print(f"sluice: job {found.id} {found.state} ({found.reason}{detail})", file=sys.stderr)
        if found.job.outputs and found.state is JobState.SUCCEEDED:
            print(f"sluice: outputs in {state.outputs(found.id)}", file=sys.stderr)
    return foreground.exit_code(found)


def _run_at_runner(job: Job, state: StateFolder, output: BinaryIO | None) -> JobRecord:
    """A runner serves the state folder already: hands it the job and follows; Ctrl-C cancels it there."""
    client = Client(state)
    number = client.call("POST", "/v1/jobs", {"job": to_document(job)})["id"]
    for _ in range(2):
        try:
            for chunk in client.stream(f"/v1/jobs/{number}/logs?follow=1"):
                if output is not None:
                    output.write(chunk)
                    output.flush()
            break
        except KeyboardInterrupt:
            client.call("POST", f"/v1/jobs/{number}/cancel", {})
            output = None
    with Store(state.root, read_only=True) as store:
        record = store.job(number)
    if record is None or not record.state.final:
        raise NoRunner(f"the runner stopped; job {number} goes on: see `sluice jobs show {number}`")
    return record


def _serve(parsed: argparse.Namespace, state: StateFolder) -> int:
    from jobs import serving
    from jobs.spot import SpotSimulator

    settings = serving.this_machine(parsed.cpus, parsed.memory_mib, parsed.gpus)
    spot = None
    if parsed.simulate_spot is not None:
        if parsed.simulate_spot <= 0:
            return _say(BAD_USAGE, "--simulate-spot must be positive")
        spot = SpotSimulator(parsed.simulate_spot_seed, parsed.simulate_spot)

    def announce(where: str) -> None:
        whole = settings.capacity
        facts = {"rest": where, "state_folder": str(state.root), "cpus": whole.cpus, "gpus": whole.gpus,
                 "memory_mib": whole.memory_mib}  # fmt: skip
        slots = f"{whole.cpus} cpus, {whole.gpus} gpus, {whole.memory_mib} MiB"
        print(json.dumps(facts) if parsed.json else
              f"Runner is up: http://{where}, {slots}, state in {state.root}. Ctrl-C stops it; jobs go on.",
              flush=True)  # fmt: skip

    reasons: list[str] = []
    try:
        asyncio.run(serving.serve(state.root, settings, parsed.port, announce, spot, parsed.ray))
    except* OSError as group:
        reasons += [str(error) for error in group.exceptions]
    return _say(CANNOT_START, "; ".join(reasons)) if reasons else OK


# ---------------------------------------------------------------------- asking the runner


def _submit(parsed: argparse.Namespace, state: StateFolder) -> int:
    call = {"job": to_document(load(parsed.file)), "key": parsed.key}
    answer = Client(state).call("POST", "/v1/jobs", call)
    return _print(
        parsed, answer, f"job {answer['id']} {'' if answer['new'] else 'was there already, '}{answer['state']}"
    )


def _command(verb: str) -> Callable[[argparse.Namespace, StateFolder], int]:
    def ask(parsed: argparse.Namespace, state: StateFolder) -> int:
        document = {"grace_s": 0} if getattr(parsed, "now", False) else {}
        answer = Client(state).call("POST", f"/v1/jobs/{parsed.id}/{verb}", document)
        asked = ", cancel asked" if answer["cancel_asked"] and answer["state"] == "running" else ""
        return _print(parsed, answer, f"job {answer['id']} {answer['state']}{asked}")

    return ask


def _collect(parsed: argparse.Namespace, state: StateFolder) -> int:
    answer = Client(state).call("POST", "/v1/gc", {"older_than_s": parsed.older_than_days * 86400})
    return _print(parsed, answer, f"{answer['removed']} jobs removed, {answer['freed_bytes'] / 1e6:.1f} MB freed")


# ---------------------------------------------------------------------- reading, with or without a runner


def _check(parsed: argparse.Namespace, _: StateFolder) -> int:
    job = load(parsed.file)
    return _print(parsed, {"ok": True, "job": to_document(job)}, f"{parsed.file} is a job: {job.name}")


def _schema(_: argparse.Namespace, __: StateFolder) -> int:
    print(schema_text(), end="")
    return OK


def _store(state: StateFolder) -> Store:
    if not (state.root / DATABASE).exists():
        raise UnknownJob(f"there are no jobs in {state.root}")
    return Store(state.root, read_only=True)


def _list(parsed: argparse.Namespace, state: StateFolder) -> int:
    for word in parsed.states:
        if word not in list(JobState):
            return _say(BAD_USAGE, f"--state: '{word}' is none of {', '.join(JobState)}")
    with _store(state) as store:
        rows = [reading.brief(record) for record in store.jobs(tuple(parsed.states), max(parsed.limit, 0))]
    lines = [
        (str(row["id"]), row["name"], row["state"] + (" (cancel asked)" if row["cancel_asked"] and row["state"] ==
         "running" else ""), row["reason"] or "", row["owner"], str(row["attempts"]), _time(row["submitted_at"]),
         row["detail"])
        for row in rows
    ]  # fmt: skip
    return _print(parsed, {"jobs": rows}, _table(lines) if lines else "no jobs")


def _show(parsed: argparse.Namespace, state: StateFolder) -> int:
    with _store(state) as store:
        found = reading.full(store, state, parsed.id)
    lines = [f"{name:<18} {found[name]}" for name in ("id", "name", "owner", "state", "reason", "detail", "key", "code",
             "priority", "output_folder", "checkpoint_folder") if found[name] not in (None, "")]  # fmt: skip
    lines += [f"{'job':<18} {json.dumps(found['job'])}"]
    lines += [f"{_time(event['at']):<18} {event['what']}" for event in found["events"]]
    return _print(parsed, found, "\n".join(lines))


def _metrics(parsed: argparse.Namespace, state: StateFolder) -> int:
    with _store(state) as store:
        reading.full(store, state, parsed.id)
    rows = reading.metrics(state.metrics(parsed.id))
    shown = "\n".join("  ".join(f"{name}={value}" for name, value in row.items() if name != "at") for row in rows)
    return _print(parsed, {"metrics": rows}, shown or "nothing reported")


def _logs(parsed: argparse.Namespace, state: StateFolder) -> int:
    output = sys.stdout.buffer
    if parsed.follow:
        attempt = f"&attempt={parsed.attempt}" if parsed.attempt else ""
        for chunk in Client(state).stream(f"/v1/jobs/{parsed.id}/logs?follow=1{attempt}"):
            output.write(chunk)
            output.flush()
        return OK
    with _store(state) as store:
        number = parsed.attempt or reading.full(store, state, parsed.id)["attempts"]
    offset = 0
    while (piece := logs.read(state.attempt(parsed.id, number), offset, _CHUNK)).data:
        if piece.start > offset:
            output.write(f"\n[sluice: {piece.start - offset} bytes were dropped]\n".encode())
        output.write(piece.data)
        offset = piece.start + len(piece.data)
    output.flush()
    return OK


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).astimezone().strftime("%m-%d %H:%M:%S")


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    clean = [tuple("".join(c if c.isprintable() else " " for c in cell) for cell in row) for row in rows]
    lines = [tuple(word.upper() for word in _HEAD), *clean]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _search(parsed: argparse.Namespace, state: StateFolder) -> int:
    from jobs.search import command

    return command.run(parsed, state)


def _pipeline(parsed: argparse.Namespace, state: StateFolder) -> int:
    from jobs.pipeline import command

    return command.run(parsed, state)


def _approve(parsed: argparse.Namespace, state: StateFolder) -> int:
    from jobs.pipeline import command

    return command.approve(parsed, state)


def _privacy(parsed: argparse.Namespace, _: StateFolder) -> int:
    from jobs.privacy import command

    return command.run(parsed)


_ACTIONS: dict[str, Callable[[argparse.Namespace, StateFolder], int]] = {
    "run": _run,
    "serve": _serve,
    "submit": _submit,
    "check": _check,
    "schema": _schema,
    "list": _list,
    "show": _show,
    "logs": _logs,
    "metrics": _metrics,
    "cancel": _command("cancel"),
    "resume": _command("resume"),
    "preempt": _command("preempt"),
    "gc": _collect,
    "search": _search,
    "privacy": _privacy,
    "pipeline": _pipeline,
    "approve": _approve,
}
