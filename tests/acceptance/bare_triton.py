"""A Triton with nothing in front of it and an empty repository, for gateways in remote mode."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import urllib.error
from pathlib import Path

from gateway.backends.triton_environment import find_environment
from gateway.backends.triton_shim import remove_shared_memory
from tests.support.processes import TRITON_ENVIRONMENT, fetch, until


class BareTriton:
    """Not started at first; its ports stay the same however often it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ports = [_free_port() for _ in range(3)]
        self.http, self.grpc = f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"
        self._environment = find_environment(str(TRITON_ENVIRONMENT), folder)
        self._shm_prefix = f"bare_{os.getpid()}_{ports[0]}_"
        repository = folder / "models"
        repository.mkdir(parents=True, exist_ok=True)
        self._command = [
            str(self._environment.server),
            f"--model-repository={repository}",
            "--model-control-mode=explicit",
            "--exit-timeout-secs=2",
            f"--backend-directory={self._environment.backends}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            *(f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")),
            *(f"--{name}-port={port}" for name, port in zip(("http", "grpc", "metrics"), ports, strict=True)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it is ready."""
        with (self._folder / "bare.log").open("ab") as log:
            environment = self._environment.variables(os.environ)
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        until(self._ready, 60, "the bare Triton is ready")

    def _ready(self) -> bool:
        try:
            fetch(f"{self.http}/v2/health/ready")
        except (OSError, urllib.error.URLError):
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends it, and the models' processes that it started; again is harmless."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            remove_shared_memory(self._shm_prefix)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
