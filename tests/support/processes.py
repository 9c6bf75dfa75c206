"""Real processes for acceptance tests: the gateway with its Triton, and client workers. Ended by process id."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TRITON_ENVIRONMENT = Path(os.environ.get("SLUICE_TRITON_ENV", ROOT / ".venv-triton"))
START_SECONDS = 120
WORKER = ROOT / "tests" / "acceptance" / "client_worker.py"
LOAD_CLIENT = ROOT / "tests" / "acceptance" / "load_client.py"
_POLL_SECONDS = 0.02


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


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Asks `condition` until it returns something true, and returns that; fails after `seconds` saying `what`."""
    deadline = time.monotonic() + seconds  # noqa: TID251
    never = threading.Event()
    while not (found := condition()):
        if time.monotonic() > deadline:  # noqa: TID251
            raise AssertionError(f"not within {seconds} s: {what}")
        never.wait(_POLL_SECONDS)
    return found


def fetch(url: str, body: bytes | None = None, seconds: float = 10) -> bytes:
    """Returns the body of a GET (or of a POST of `body`) that must be answered with success."""
    with urllib.request.urlopen(f"http://{url}", body, timeout=seconds) as answer:
        content: bytes = answer.read()
        return content


def triton_statistics(address: str) -> dict[str, dict[str, Any]]:
    """Returns by name what a Triton, at its HTTP address, counted of each model that is loaded there.

    Triton lists the models and then asks each of them: 503 if one goes between, so that it must be asked again.
    """

    def ask() -> bytes | None:
        try:
            return fetch(f"{address}/v2/models/stats")
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 503:
                    raise
            return None

    found = json.loads(until(ask, 10, f"{address} counts its models"))["model_stats"]
    return {model["name"]: model["inference_stats"] for model in found}


def alive(pid: int) -> bool:
    """Returns whether a process runs under this id (one that has ended and is not yet reaped does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def descendants(pid: int) -> list[int]:
    """Returns the ids of all processes below `pid`."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


class Gateway:
    """A `sluice serve` process on free ports, with its own embedded Triton unless told otherwise."""

    def __init__(
        self,
        folder: Path,
        registry: Path | None,
        settings: dict[str, Any] | None = None,
        *,
        wait: bool = True,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Without `wait` it is up only after `wait_ready`. `environment` is added to this process's."""
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
            self.process = subprocess.Popen(
                arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **(environment or {})}
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> Gateway:
        """Returns when the gateway has announced itself; its addresses are known from then on."""
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
        return self

    def metrics(self) -> dict[str, float]:
        """Returns what /metrics says, by name with labels as it stands there."""
        lines = fetch(f"{self.admin}/metrics").decode().splitlines()
        pairs = [line.rpartition(" ") for line in lines if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in pairs}

    def triton_count(self, model: str, version: int = 1) -> int:
        """Returns how many rows Triton itself has counted for that version."""
        answer = json.loads(fetch(f"{self.ready['triton_http']}/v2/models/{model}.v{version}/stats"))
        return int(answer["model_stats"][0]["inference_count"])

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


class LoadClient:
    """A process of many concurrent clients that compare every answer; see `load_client.py`."""

    def __init__(self, gateway: Gateway, **settings: Any) -> None:
        """Sends without end unless told a number of `requests`; returns when every client had an answer."""
        call = {"rest": gateway.rest, "grpc": gateway.grpc, **settings}
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, str(LOAD_CLIENT), json.dumps(call)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        try:
            assert read_line(self.process, 30) == "under way"
        except BaseException:
            self.end()
            raise

    def report(self, seconds: float = 60) -> dict[str, Any]:
        """Waits for the end (asked for by `finish`, or by itself) and returns the tally."""
        try:
            tally: dict[str, Any] = json.loads(read_line(self.process, seconds))
            assert self.process.wait(10) == 0
            return tally
        finally:
            self.end()

    def finish(self) -> dict[str, Any]:
        """Lets every client finish its request and stop; returns the tally."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.report()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
