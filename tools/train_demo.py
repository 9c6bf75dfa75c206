"""`make train-demo`: a model is trained, made INT8, published, promoted by evidence; a faulty one is rolled back.

    python -m tools.train_demo [--json] [--folder .cache/train-demo]
                               [--rest HOST:PORT --admin HOST:PORT --registry FOLDER]

Two pipelines of `sluice jobs` (train, evaluate, quantize, publish, release) on a copy of the demo registry, with a
gateway of its own on free ports unless one is named with its registry. While a release is in progress the demo asks the
gateway for held-out rows and reports what was true. Exit codes: 0 the first was promoted and the second rolled back, 1
something else happened, 2 bad usage, 3 a process could not be started, 130 stopped; the same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.commands.admin_client import AdminUnreachable, ask, split_address
from gateway.registry.opening import open_store
from gateway.registry.release_history import state_of
from gateway.registry.store import StoreError
from jobs import clock
from jobs.client import Client, NoRunner, RunnerRefused
from jobs.state_folder import StateFolder
from tools import train_demo_processes as processes
from tools import train_demo_words as words
from tools.models.wheels import ROOT
from tools.train_demo_processes import PIPELINE, CannotStart, Child
from tools.train_demo_stage import DEFECT, GOOD, MODEL, Stage, alone, prepare, run_number

AS_PLANNED, OTHERWISE, BAD_USAGE, CANNOT_START, STOPPED = 0, 1, 2, 3, 130
EXPECTED = {GOOD: "promoted", DEFECT: "rolled back"}
_LOOK_S, _SAY_EVERY_S, _PATIENCE_S = 1.0, 10.0, 120.0
_ENDED = (0, 3)  # exit codes of a pipeline that has nothing left to do


class Stopped(Exception):
    """Somebody pressed Ctrl-C."""


@dataclass(slots=True)
class Demo:
    """One run: who is asked, what runs, what has been seen. Everything it started ends with `close`."""

    stage: Stage
    rate: float
    stop: threading.Event
    addresses: dict[str, str] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)
    began: float = field(default_factory=clock.now)
    answered_at: float = field(default_factory=clock.now)

    def say(self, line: str) -> None:
        seconds = int(clock.now() - self.began)
        print(f"train-demo {seconds // 60}:{seconds % 60:02d}  {line}", file=sys.stderr, flush=True)

    def up(self) -> None:
        """Starts what is needed besides the pipelines."""
        if not self.addresses:
            self.say("starting a gateway with a Triton of its own")
            child, self.addresses = processes.gateway(self.stage)
            self.children.append(child)
            self.say(f"gateway: http://{self.addresses['rest']}, status page http://{self.addresses['admin']}")
        self._check_registry()
        self.go_on()
        self.children.append(processes.runner(self.stage))

    def go_on(self) -> None:
        """Raises Stopped if somebody wants that, CannotStart if a process has ended that should not."""
        if self.stop.is_set():
            raise Stopped
        for child in self.children:
            if not child.name.startswith(PIPELINE) and child.code() is not None:
                raise CannotStart(f"{child.name} has ended: {child.last_words()}")

    def _check_registry(self) -> None:
        """Raises CannotStart unless the gateway answers and serves what the registry says."""
        try:
            seen = {state["model"]: state.get("stable") for state in self._ask("/v1/releases")["models"]}
        except AdminUnreachable as error:
            raise CannotStart(str(error)) from None
        there = state_of(open_store(str(self.stage.registry)), MODEL)["stable"]
        if there is None or seen.get(MODEL) != there:
            raise CannotStart(f"the gateway at {self.addresses['admin']} serves version {seen.get(MODEL)} of {MODEL}, "
                              f"{self.stage.registry} says {there}: is that its registry?")  # fmt: skip

    def perform(self, name: str, key: str) -> dict[str, Any]:
        """Runs one pipeline to its end, with traffic while it releases. Raises Stopped, CannotStart."""
        began, work = clock.now(), processes.pipeline(self.stage, name, key, self.addresses["admin"])
        self.children.append(work)
        callers: Child | None = None
        released_at, said_at, undecided = None, 0.0, False
        while (code := work.code()) is None:
            self.stop.wait(_LOOK_S)
            self.go_on()
            release = self._release()
            if release is None:
                continue
            if release["progress"]["status"] == "paused" and not undecided:
                undecided = True
                self._give_up(release)
            if callers is None:
                self.say(f"light traffic: at most {self.rate:g} requests a second, and what was true of each")
                callers = processes.traffic(self.stage, self.addresses, self.rate, int(clock.wall()))
                self.children.append(callers)
                released_at = clock.now()
            if clock.now() - said_at >= _SAY_EVERY_S:
                said_at = clock.now()
                self.say(self._standing(release))
        ended = clock.now()
        tally = self._finished(callers, None)
        result = words.document(self._finished(work, None))
        found = {
            "exit_code": code, "seconds": round(ended - began, 1),
            "release_seconds": None if released_at is None else round(ended - released_at, 1),
            "traffic": words.document(tally), **words.facts(result),
        }  # fmt: skip
        if undecided:
            found["outcome"] = "inconclusive"
        if found.get("release"):
            found["report"] = self._report(name, str(found["release"]))
        self.say(words.told(name, found))
        return found

    def close(self) -> None:
        """Ends what runs: the pipeline first, then what it trains, then the rest. Nothing is left."""
        running = [child for child in self.children if child.code() is None]
        pipelines = [child for child in running if child.name.startswith(PIPELINE)]
        for child in pipelines:
            self._finished(child, signal.SIGINT)
        if any(child.name == "the job runner" for child in running):
            with contextlib.suppress(NoRunner, RunnerRefused):
                _cancel_jobs(Client(StateFolder(self.stage.jobs)))
        for child in reversed(list(self.children)):
            self._finished(child, signal.SIGTERM)

    def _finished(self, child: Child | None, number: signal.Signals | None) -> str:
        if child is None:
            return ""
        self.children.remove(child)
        return child.finish(number)

    def _ask(self, path: str) -> Any:
        host, port = split_address(self.addresses["admin"])
        return ask(host, port, path, None)

    def _release(self) -> dict[str, Any] | None:
        """Returns the model's release if one is in progress."""
        try:
            models = self._ask("/v1/releases")["models"]
        except AdminUnreachable as error:
            if clock.now() - self.answered_at > _PATIENCE_S:
                raise CannotStart(str(error)) from None
            return None
        self.answered_at = clock.now()
        for state in models:
            release = state.get("release")
            if state.get("model") == MODEL and release and release["progress"]["status"] in ("running", "paused"):
                return dict(release)
        return None

    def _give_up(self, release: dict[str, Any]) -> None:
        """Rolls back what cannot be told, so that the next run finds no release in progress."""
        name, detail = release["plan"]["id"], release["progress"]["detail"]
        self.say(f"{name} is paused ({detail}): the demo ends it")
        host, port = split_address(self.addresses["admin"])
        with contextlib.suppress(AdminUnreachable):
            body = {"actor": "train-demo", "reason": f"could not be told: {detail}"}
            ask(host, port, f"/v1/releases/{name}/rollback", None, body=body)

    def _standing(self, release: dict[str, Any]) -> str:
        plan, progress = release["plan"], release["progress"]
        share = plan["steps"][progress["step"]]["weight_bp"] / 100
        line = f"{plan['id']}: version {plan['arms'][0]['version']} has {share:g} %"
        try:
            live = self._ask(f"/v1/releases/{plan['id']}").get("live") or {}
        except AdminUnreachable:
            return line
        counts = ", ".join(f"{arm['name']} {arm['requests']}" for arm in live.get("arms", ()))
        waits = (live.get("decision") or {}).get("detail", "")
        return f"{line}; requests: {counts}; {waits}"

    def _report(self, name: str, release: str) -> str | None:
        path = self.stage.reports / f"{name}-{release}.html"
        try:
            host, port = split_address(self.addresses["admin"])
            path.write_text(_page(host, port, release), encoding="utf-8")
        except OSError:
            return None
        return str(path)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parsed = _parse(arguments)
    if parsed is None:
        return BAD_USAGE
    folder = Path(parsed.folder).absolute()
    own = not parsed.rest
    stage = Stage(folder, folder / "registry" if own else Path(parsed.registry).absolute())
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    demo = Demo(stage, parsed.rate, stop, {} if own else {"rest": parsed.rest, "admin": parsed.admin})
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder) as only:
        if not only:
            return _broken_off(demo, parsed, CANNOT_START, f"another one works in {folder}")
        try:
            found = _perform(demo, own=own, epochs=parsed.epochs)
        except Stopped:
            demo.say("stopping")
            demo.close()
            return _broken_off(demo, parsed, STOPPED, "stopped; the same command goes on")
        except (CannotStart, OSError, StoreError) as error:
            return _broken_off(demo, parsed, CANNOT_START, f"failed: {error}")
        finally:
            demo.close()
    print(json.dumps(found, indent=2) if parsed.json else words.end(found))
    return AS_PLANNED if found["as_planned"] else OTHERWISE


def _broken_off(demo: Demo, parsed: argparse.Namespace, code: int, why: str) -> int:
    demo.say(why)
    if parsed.json:
        print(json.dumps({"as_planned": False, "error": why}))
    return code


def _perform(demo: Demo, *, own: bool, epochs: int) -> dict[str, Any]:
    prepare(demo.stage, own=own, epochs=epochs, say=demo.say)
    demo.go_on()
    demo.up()
    number = run_number(demo.stage, epochs)
    found: dict[str, Any] = {}
    for name, wanted in EXPECTED.items():
        what = "a model" if name == GOOD else "a model with a planted defect, which its AUC does not show"
        demo.say(f"pipeline {name}: train {what}, quantize, publish, release")
        found[name] = demo.perform(name, str(number))
        if found[name].get("outcome") != wanted:
            break
    if all(run["exit_code"] in _ENDED for run in found.values()):
        run_number(demo.stage, epochs, ended=True)
    planned = {name: run.get("outcome") for name, run in found.items()} == EXPECTED
    return {"as_planned": planned, "seconds": round(clock.now() - demo.began, 1), "registry": str(demo.stage.registry),
            "runs": found}  # fmt: skip


def _parse(arguments: list[str] | None) -> argparse.Namespace | None:
    parser = argparse.ArgumentParser(prog="train-demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--folder", default=str(ROOT / ".cache" / "train-demo"), help="what the demo makes is kept here"
    )
    parser.add_argument("--rest", metavar="HOST:PORT", help="a gateway that runs; wants --admin and --registry too")
    parser.add_argument("--admin", metavar="HOST:PORT", help="its admin listener")
    parser.add_argument("--registry", metavar="FOLDER", help="the registry it serves: two versions are published there")
    parser.add_argument("--rate", type=float, default=150.0, help="requests a second at most (default 150)")
    parser.add_argument("--epochs", type=int, default=40, help="of either training at most (default 40)")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parsed = parser.parse_args(arguments)
    given = [bool(value) for value in (parsed.rest, parsed.admin, parsed.registry)]
    try:
        if any(given) and not all(given):
            raise ValueError("--rest, --admin and --registry go together")
        for address in (parsed.rest, parsed.admin) if parsed.rest else ():
            split_address(address)
        if not 1 <= parsed.rate <= 5000 or not 1 <= parsed.epochs <= 1000:
            raise ValueError("--rate must be 1 to 5000, --epochs 1 to 1000")
    except ValueError as error:
        print(f"train-demo: {error}", file=sys.stderr)
        return None
    return parsed


def _cancel_jobs(client: Client) -> None:
    """Cancels what runs or waits, and waits until no job is left. Checkpoints stay: the next run resumes there."""
    deadline = clock.now() + processes.STOP_S
    asked: set[int] = set()
    while clock.now() < deadline:
        left = client.call("GET", "/v1/jobs?state=running,queued")["jobs"]
        for job in left:
            if job["id"] not in asked:
                asked.add(job["id"])
                with contextlib.suppress(RunnerRefused):
                    client.call("POST", f"/v1/jobs/{job['id']}/cancel", {})
        if not left:
            return
        threading.Event().wait(_LOOK_S / 4)


def _page(host: str, port: int, release: str) -> str:
    """Returns the release's report as a page. Raises OSError."""
    import urllib.request

    url = f"http://{host}:{port}/v1/releases/{release}/report?format=html"
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


if __name__ == "__main__":
    sys.exit(main())
