"""The processes that `make train-demo` owns: gateway, job runner, traffic, and the pipeline under way.

Invariants: each has a session of its own, so Ctrl-C reaches the demo alone, which ends them in order; each is killed by
the kernel if the demo is.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from jobs import clock, processes
from tools.models.wheels import ROOT
from tools.train_demo_stage import MODEL, Stage

PIPELINE = "the pipeline"
START_S, STOP_S = 120.0, 30.0
_LOOK_S = 0.2
_SLUICE = (sys.executable, "-m", "gateway.cli")
_GATEWAY = ROOT / ".venv" / "bin" / "python"  # what `make demo` runs


class CannotStart(Exception):
    """A process did not say that it is up; the message has its last words."""


class Child:
    """One process. Its messages go to `log`, or to the terminal without one."""

    def __init__(
        self, name: str, command: tuple[str, ...], log: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self._log = name, log
        errors: IO[bytes] | None = None if log is None else log.open("wb")
        try:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
                preexec_fn=processes.die_with_parent,
            )  # fmt: skip
        finally:
            if errors is not None:
                errors.close()
        self._said = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def code(self) -> int | None:
        """Returns the exit code, None while it runs."""
        self._listen(0.0)
        return self._process.poll()

    def line(self, seconds: float = START_S) -> str:
        """Returns the first line of its output. Raises CannotStart."""
        deadline = clock.now() + seconds
        while b"\n" not in self._said:
            if not self._listen(_LOOK_S) or clock.now() > deadline:
                raise CannotStart(f"{self.name} did not start within {seconds:.0f} s, or ended: {self.last_words()}")
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def last_words(self) -> str:
        """Returns the end of its log."""
        return "" if self._log is None else self._log.read_text(errors="replace")[-1500:].strip()

    def finish(self, number: signal.Signals | None = signal.SIGTERM, seconds: float = STOP_S) -> str:
        """Ends it: closes its input, sends the signal, if any, and after `seconds` SIGKILL. Returns its output."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        if number is not None and self._process.poll() is None:
            self._process.send_signal(number)
        deadline = clock.now() + seconds
        while self._process.poll() is None and clock.now() < deadline and self._listen(_LOOK_S):
            pass
        try:
            self._process.wait(max(0.1, deadline - clock.now()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # What it wrote last; a process that it left may still have the pipe, so the end is not waited for.
        known = -1
        while known < len(self._said):
            known = len(self._said)
            self._listen(0.0)
        self._process.stdout.close()
        return self._said.decode(errors="replace")

    def _listen(self, seconds: float) -> bool:
        """Takes up what it wrote; returns False when its output has ended."""
        assert self._process.stdout is not None
        if self._process.stdout.closed:
            return False
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        if not ready:
            return True
        piece = os.read(self._process.stdout.fileno(), 1 << 16)
        self._said += piece
        return bool(piece)


def gateway(stage: Stage) -> tuple[Child, dict[str, str]]:
    """Starts a gateway with a Triton of its own on free ports; returns it with its addresses."""
    settings: dict[str, Any] = {
        "server.host": "127.0.0.1", "server.rest_port": 0, "server.grpc_port": 0, "server.admin_port": 0,
        "triton.http_port": 0, "triton.grpc_port": 0, "triton.metrics_port": 0,
        "triton.work_folder": str(stage.root / "triton"), "telemetry.access_log": str(stage.root / "access.log"),
        "registry.root": str(stage.registry),
    }  # fmt: skip
    python = str(_GATEWAY) if _GATEWAY.exists() else sys.executable
    command = [python, "-m", "gateway.cli", "serve", "--json"]
    for key, value in settings.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    child = Child("the gateway", tuple(command), stage.root / "gateway.log")
    try:
        ready = json.loads(child.line())
    except BaseException:
        child.finish()
        raise
    return child, {name: str(ready[name]) for name in ("rest", "admin")}


def runner(stage: Stage) -> Child:
    """Starts the job runner; a demo that is stopped can so cancel what trains."""
    command = (*_SLUICE, "jobs", "serve", "--port", "0", "--json", "--state-folder", str(stage.jobs))
    child = Child("the job runner", command, stage.root / "runner.log")
    try:
        child.line()
    except BaseException:
        child.finish()
        raise
    return child


def traffic(stage: Stage, addresses: Mapping[str, str], rate: float, seed: int) -> Child:
    """Starts the callers."""
    call = {**addresses, "model": MODEL, "rows": str(stage.rows), "rate": rate, "seed": seed}
    command = (sys.executable, "-m", "tools.train_demo_traffic", json.dumps(call))
    child = Child("the traffic", command, stage.root / "traffic.log")
    try:
        child.line()
    except BaseException:
        child.finish()
        raise
    return child


def pipeline(stage: Stage, name: str, key: str, admin: str) -> Child:
    """Starts `sluice jobs pipeline`; what it says goes to the terminal."""
    host, _, port = admin.rpartition(":")
    where = ("--key", key, "--json", "--state-folder", str(stage.jobs))
    command = (*_SLUICE, "jobs", "pipeline", str(stage.pipeline(name)), *where)
    return Child(
        f"{PIPELINE} {name}", command,
        environment={"SLUICE__SERVER__ADMIN_HOST": host.strip("[]"), "SLUICE__SERVER__ADMIN_PORT": port},
    )  # fmt: skip
