"""Publishers in processes of their own, which can be killed at a step.

A `Nursery` is one process that has imported everything and forks a publisher for each call, so that a kill costs no
interpreter's start. Run as a program: `LOCATION SOURCE ROUNDS ACTOR` publishes and prints a JSON line for each version.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from gateway.registry.folder_store import FolderStore
from gateway.registry.object_store import ObjectStore
from gateway.registry.publishing import PublishOptions, publish_version
from gateway.registry.store import Store
from tests.support.processes import ROOT, read_line


class Nursery:
    """The process that forks publishers; `environment` is added to this one's."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.publishers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
            env={**os.environ, **(environment or {}), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def publish(self, location: object, source: Path, kill_at: int) -> tuple[int, list[str]]:
        """Publishes version after version from `source` in a new process, which kills itself at its `kill_at`-th step.

        Returns the exit status (negative: the signal) and the steps that it went through.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(location), str(source), kill_at]).encode() + b"\n")
        self._process.stdin.flush()
        status, steps = json.loads(read_line(self._process, 60))
        return status, steps

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def publisher(
    location: object, source: Path, rounds: int, actor: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Starts a publisher of `rounds` versions that runs beside others."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.publishers", str(location), str(source), str(rounds), actor],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, **(environment or {}), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def _open(location: str, step: Any) -> Store:
    return ObjectStore(location, step) if "://" in location else FolderStore(Path(location), step)


def _publish(location: str, source: str, kill_at: int, pipe: int) -> None:
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        os.write(pipe, name.encode() + b"\n")
        if len(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    options = PublishOptions(serve=True, step=step)
    publish_version(_open(location, step), Path(source), "m", actor="p", options=options)


def _nursery() -> None:
    for line in sys.stdin:
        location, source, kill_at = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reading)
                _publish(location, source, kill_at, writing)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(writing)
        with open(reading) as steps:
            told = steps.read().splitlines()
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), told]), flush=True)


def _rounds(location: str, source: str, rounds: str, actor: str) -> None:
    store = _open(location, lambda name: None)
    for number in range(int(rounds)):
        published = publish_version(
            store, Path(source), "m", actor=actor, reason=f"round {number}", options=PublishOptions(serve=True)
        )
        print(json.dumps([published.version.number, published.generation]), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _rounds(*sys.argv[1:])
    else:
        _nursery()
