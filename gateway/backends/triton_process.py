"""The embedded Triton as a child process: started, watched, restarted with back-off, stopped without leaving anything.

Between the gateway and tritonserver stands `triton_shim`, which ends the server and its stubs when either side is gone.

Invariants: at most one server at a time; the ports stay the same over restarts; every wait has a bound; `stop` leaves
no process; only processes that were started here are signalled, by id.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gateway.backends import triton_leftovers as leftovers
from gateway.backends import triton_shim
from gateway.backends.triton_environment import TritonEnvironment
from gateway.backends.triton_ports import TritonStartError, answers, choose_ports
from gateway.backends.triton_pulse import Pulse
from gateway.ports import Clock

__all__ = ["ProcessState", "TritonProcess", "TritonProcessConfig", "TritonStartError"]

_log = logging.getLogger("sluice.triton")

_POLL_S = 0.05
_FIRST_BACKOFF_S = 0.5
_LAST_BACKOFF_S = 30.0
_HEALTHY_AFTER_NS = 60 * 1_000_000_000
_TAIL_BYTES = 4096
_SHIM_MARGIN_S = 10.0


class ProcessState(enum.Enum):
    """STOPPED -> STARTING -> READY -> STOPPING; BACKING_OFF between a death and the next start."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing_off"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonProcessConfig:
    """How the embedded Triton runs. A port of 0 means any free one.

    `work` holds the log, the state file and the laid-out backends, and belongs to one gateway at a time. `repository`
    is the model repository (explicit control mode: nothing in it is loaded unasked). The log is rotated at a start once
    it is larger than `log_bytes`.
    """

    work: Path
    repository: Path
    host: str = "127.0.0.1"
    http_port: int = 18000
    grpc_port: int = 18001
    metrics_port: int = 18002
    ready_timeout_s: float = 60.0
    stop_grace_s: float = 10.0
    hang_timeout_s: float = 30.0
    log_bytes: int = 8 * 1024 * 1024
    extra_arguments: tuple[str, ...] = ()


class TritonProcess:
    """Owns the embedded Triton.

    `spawn(coroutine, name)` starts an owned background task, `sleep(seconds)` suspends. `on_ready` is awaited after
    every start that became ready (first start included), before the state is READY; if it raises, the server is ended
    and, after a back-off, started again (the first start raises instead). `on_exit` is called with a sentence when a
    ready server died.
    """

    def __init__(
        self,
        environment: TritonEnvironment,
        config: TritonProcessConfig,
        *,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, Any], str], object],
        sleep: Callable[[float], Awaitable[None]],
        on_ready: Callable[[], Awaitable[None]] | None = None,
        on_exit: Callable[[str], None] | None = None,
    ) -> None:
        self._environment = environment
        self._config = config
        self._clock = clock
        self._spawn = spawn
        self._sleep = sleep
        self._on_ready = on_ready
        self._on_exit = on_exit
        self._child: asyncio.subprocess.Process | None = None
        self._ready_at = 0
        self._stopping = False
        self.shm_prefix = f"sluice_{os.getpid()}_{id(self):x}_"
        self.http_port = config.http_port
        self.grpc_port = config.grpc_port
        self.metrics_port = config.metrics_port
        self.state = ProcessState.STOPPED
        self.restarts = 0

    @property
    def host(self) -> str:
        return self._config.host

    @property
    def log_path(self) -> Path:
        return self._config.work / "triton.log"

    @property
    def state_path(self) -> Path:
        return self._config.work / "triton.state.json"

    @property
    def server_pid(self) -> int | None:
        """The process id of tritonserver itself, or None while it does not run."""
        state = leftovers.read_state(self.state_path)
        child = self._child
        return state.server.pid if state and child and state.shim.pid == child.pid and state.server.alive else None

    async def start(self) -> None:
        """Starts the server and returns when it is ready; from then on it is watched and restarted.

        Raises:
            TritonStartError: a port is taken, another gateway uses the work folder, or the server did not become ready.
        """
        if self.state is not ProcessState.STOPPED:
            raise RuntimeError("the embedded Triton was started already")
        self._stopping = False
        self._config.work.mkdir(parents=True, exist_ok=True)
        self._config.repository.mkdir(parents=True, exist_ok=True)
        await self._clean_up()
        wanted = [(f"triton.{key}", getattr(self._config, key)) for key in ("http_port", "grpc_port", "metrics_port")]
        self.http_port, self.grpc_port, self.metrics_port = choose_ports(self._config.host, wanted)
        try:
            await self._launch()
        except BaseException:
            await self._end_child()
            self.state = ProcessState.STOPPED
            raise
        self._spawn(self._watch(), "triton-watch")
        self._spawn(self._feel_pulse(), "triton-pulse")

    async def stop(self) -> None:
        """Stops the server (SIGTERM, grace, SIGKILL); returns when nothing of it is left. Again is harmless."""
        self._stopping = True
        self.state = ProcessState.STOPPING
        await self._end_child()
        self.state = ProcessState.STOPPED

    async def _clean_up(self) -> None:
        """Removes what a dead gateway left in the work folder; refuses a folder that a living one uses."""
        state = leftovers.read_state(self.state_path)
        if state is not None and state.owner.alive and state.shim.alive:
            raise TritonStartError(
                f"another gateway (pid {state.owner.pid}) runs its Triton in {self._config.work}: stop it, or "
                "give this one its own folder (triton.work_folder)"
            )
        killed = leftovers.kill_leftovers(self.state_path)
        if killed and state is not None:
            _log.warning("ended %d leftover processes of an earlier run", killed)
            for _ in range(200):
                if not (state.shim.alive or state.server.alive):
                    break
                await self._sleep(0.01)

    def _command(self) -> list[str]:
        environment, config = self._environment, self._config
        return [
            str(environment.server),
            f"--model-repository={config.repository.absolute()}",
            "--model-control-mode=explicit",
            # Configurations are complete; completing them would start every model one more time.
            "--disable-auto-complete-config",
            f"--backend-directory={environment.backends}",
            f"--backend-config=python,shm-region-prefix-name={self.shm_prefix}",
            f"--http-address={config.host}",
            f"--grpc-address={config.host}",
            f"--metrics-address={config.host}",
            f"--http-port={self.http_port}",
            f"--grpc-port={self.grpc_port}",
            f"--metrics-port={self.metrics_port}",
            f"--exit-timeout-secs={max(1, int(config.stop_grace_s) - 1)}",
            *config.extra_arguments,
        ]

    async def _launch(self) -> None:
        """Starts one server and waits until it is ready."""
        self.state = ProcessState.STARTING
        arguments = [
            sys.executable, "-I", "-S", triton_shim.__file__,
            str(self.state_path), str(os.getpid()), str(self._config.stop_grace_s), self.shm_prefix,
        ]  # fmt: skip
        with self._open_log() as log:
            self._child = await asyncio.create_subprocess_exec(
                *arguments,
                *self._command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment.variables(os.environ),
            )
        await self._wait_ready(self._child)
        self._ready_at = self._clock.now()
        if self._on_ready is not None:
            await self._on_ready()
        self.state = ProcessState.READY

    def _open_log(self) -> BinaryIO:
        """Returns the log open for appending; a large one is moved aside first, replacing the one before."""
        if self.log_path.exists() and self.log_path.stat().st_size > self._config.log_bytes:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        return open(self.log_path, "ab")

    async def _wait_ready(self, child: asyncio.subprocess.Process) -> None:
        deadline = self._clock.now() + int(self._config.ready_timeout_s * 1e9)
        while not await answers(self._config.host, self.http_port, "ready"):
            if child.returncode is not None:
                raise TritonStartError(
                    f"tritonserver ended with status {child.returncode} before it was ready{self._log_hint()}"
                )
            if self._clock.now() > deadline:
                raise TritonStartError(
                    f"tritonserver was not ready after {self._config.ready_timeout_s:g} s{self._log_hint()}"
                )
            await self._sleep(_POLL_S)

    def _log_hint(self) -> str:
        """Returns the last error line of the log and where the log is."""
        try:
            with open(self.log_path, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            lines = []
        errors = [line for line in lines if line.startswith("E") or "rror" in line]
        last = (errors or lines or [""])[-1].strip()
        return f": {last} (log: {self.log_path})" if last else f" (log: {self.log_path})"

    async def _watch(self) -> None:
        """Restarts the server whenever it dies, until `stop`."""
        backoff = _FIRST_BACKOFF_S
        while True:
            child = self._child
            assert child is not None
            code = await child.wait()
            if self._stopping:
                return
            was_ready, self.state = self.state is ProcessState.READY, ProcessState.BACKING_OFF
            if was_ready:
                reason = f"tritonserver ended with status {code}"
                _log.error("%s; restarting (log: %s)", reason, self.log_path)
                if self._on_exit is not None:
                    self._on_exit(reason)
                if self._clock.now() - self._ready_at > _HEALTHY_AFTER_NS:
                    backoff = _FIRST_BACKOFF_S
            await self._sleep(backoff)
            backoff = min(backoff * 2, _LAST_BACKOFF_S)
            if self._stopping:
                return
            self.restarts += 1
            try:
                await self._launch()
            except Exception as error:
                _log.error("restart of Triton failed: %s", error)
                await self._end_child()
            if self._stopping:
                await self._end_child()
                return

    async def _feel_pulse(self) -> None:
        """Kills a ready server that hangs; that it died is noticed like any other death."""

        async def ask(seconds: float) -> bool:
            return await answers(self._config.host, self.http_port, "live", seconds)

        pulse = Pulse(ask, self._clock, self._sleep, int(self._config.hang_timeout_s * 1e9))
        while not self._stopping:
            hangs = await pulse.hangs()
            if self.state is not ProcessState.READY:
                pulse.restart()
            elif hangs and (server := self.server_pid) is not None:
                _log.error("tritonserver has given no sign of life for %g s; killing it", self._config.hang_timeout_s)
                pulse.restart()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(server, signal.SIGKILL)

    async def _end_child(self) -> None:
        """Ends the current shim and with it everything below it."""
        child = self._child
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), self._config.stop_grace_s + _SHIM_MARGIN_S)
        except TimeoutError:
            below = triton_shim.descendants(child.pid)
            for pid in [child.pid, *below]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await child.wait()
