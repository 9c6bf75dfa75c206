"""Real processes for acceptance tests: the gateway with its Triton, and client workers. Ended by process id."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TRITON_ENVIRONMENT = Path(os.environ.get("SLUICE_TRITON_ENV", ROOT / ".venv-triton"))
START_SECONDS = 120
WORKER = ROOT / "tests" / "acceptance" / "client_worker.py"


def read_line(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Returns the next line of the process's output; fails after `seconds` or when the process ends."""
    assert process.stdout is not None
    deadline = time.monotonic() + seconds  # noqa: TID251
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()  # noqa: TID251
        ready, _, _ = select.select([process.stdout], [], [], max(0, left))
        if not ready:
            raise AssertionError(f"no line within {seconds} s; got {line!r}")
        byte = os.read(process.stdout.fileno(), 1)
        if not byte:
            raise AssertionError(f"the process ended with {process.wait()} after {line!r}")
        line += byte
    return line.decode().rstrip("\n")


class Gateway:
    """A `sluice serve` process on free ports, with its own embedded Triton unless told otherwise."""

    def __init__(self, folder: Path, registry: Path | None, settings: dict[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        everything: dict[str, Any] = {
            "server.rest_port": 0,
            "server.grpc_port": 0,
            "server.admin_port": 0,
            "triton.http_port": 0,
            "triton.grpc_port": 0,
            "triton.metrics_port": 0,
            "triton.environment": str(TRITON_ENVIRONMENT),
            "triton.work_folder": str(folder / "triton"),
            "telemetry.access_log": str(folder / "access.log"),
            **({"registry.root": str(registry)} if registry is not None else {}),
            **(settings or {}),
        }
        arguments = [sys.executable, "-m", "gateway.cli", "serve", "--json"]
        for key, value in everything.items():
            arguments += ["--set", f"{key}={json.dumps(value)}"]
        self.error_path = folder / "gateway.stderr"
        with self.error_path.open("wb") as errors:
            self.process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
        try:
            self.ready: dict[str, Any] = json.loads(read_line(self.process, START_SECONDS))
        except BaseException as error:
            self.stop()
            raise AssertionError(
                f"the gateway did not start: {error}\n{self.error_path.read_text()[-4000:]}"
            ) from error
        self.rest: str = self.ready["rest"]
        self.grpc: str = self.ready["grpc"]
        self.admin: str = self.ready["admin"]

    def stop(self, seconds: float = 60) -> int:
        """Ends the gateway with SIGTERM and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()


class ClientWorker:
    """One tritonclient process that answers calls, one line each."""

    def __init__(self) -> None:
        python = TRITON_ENVIRONMENT / "bin" / "python"
        assert python.exists(), f"no Triton environment at {TRITON_ENVIRONMENT}: run `make setup`"
        self.process = subprocess.Popen(
            [str(python), "-W", "ignore", str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def call(self, seconds: float = 60, **call: Any) -> dict[str, Any]:
        """Sends one call and returns the answer line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(call).encode() + b"\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(read_line(self.process, seconds))
        return answer

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
