"""`make loadtest` and `make loadtest-ui`: starts what is needed, runs locust, changes versions meanwhile, judges.

    python -m loadtests.run [--shape all|ramp|soak|spike|canary|swap] [--seconds 120] [--users 18] [--ui]

With LOADTEST_REST and LOADTEST_GRPC (host:port; or HOST=name for the default ports) a running gateway with the demo
models is tested and left alone: then no versions are changed. Exit codes: 0 passed, 1 failed, 2 bad usage or set-up,
4 invalid (locust was the limit).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from threading import Event, Thread
from typing import Any

from loadtests import versions
from loadtests.page import page
from loadtests.phases import CANARY, SHAPES, SWAP, Phase, phases
from loadtests.verdict import EXIT_CODES, judge

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / ".cache" / "loadtest"
THRESHOLDS = Path(__file__).with_name("thresholds.toml")
BAD_SETUP = 2
_CANARY_RATE = 20.0
_MOST_WAIT = 120.0


class Gateway:
    """A gateway of our own on a copy of the model repository."""

    def __init__(self, folder: Path) -> None:
        self.repository = versions.copy_repository(ROOT / "model_repo", folder / "registry")
        settings: dict[str, Any] = {
            "server.rest_port": 0, "server.grpc_port": 0, "server.admin_port": 0, "triton.http_port": 0,
            "triton.grpc_port": 0, "triton.metrics_port": 0, "triton.work_folder": str(folder / "triton"),
            "triton.environment": os.environ.get("SLUICE_TRITON_ENV", str(ROOT / ".venv-triton")),
            "registry.root": str(self.repository), "registry.poll_interval_ms": 500,
            "telemetry.access_log": str(folder / "access.log"), "telemetry.log_level": "warning",
        }  # fmt: skip
        command = [sys.executable, "-m", "gateway.cli", "serve", "--json"]
        for key, value in settings.items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the gateway did not start (status {self.process.wait()})")
        ready = json.loads(line)
        self.rest, self.grpc = str(ready["rest"]), str(ready["grpc"])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


class VersionChanges(Thread):
    """Does what the canary and the swap phase are about, when they come."""

    def __init__(self, gateway: Gateway, plan: list[Phase], started: Path) -> None:
        super().__init__(name="version-changes")
        self._gateway = gateway
        self._plan = {phase.name: phase for phase in plan}
        self._flag = started
        self.stop_now = Event()
        self.events: list[dict[str, Any]] = []

    def run(self) -> None:
        for _ in range(int(_MOST_WAIT / 0.1)):
            if self._flag.exists() or self.stop_now.wait(0.1):
                break
        at = 0.0
        for name, act in ((CANARY, self._canary), (SWAP, self._swap)):
            phase = self._plan.get(name)
            if phase is None or self.stop_now.wait(max(0.0, phase.start + 1.0 - at)):
                continue
            at = phase.start + 1.0 + act(phase)

    def _canary(self, phase: Phase) -> float:
        """Loads the second version beside the first and sends it requests of its own; returns seconds it took."""
        span = phase.end - phase.start
        versions.point(self._gateway.repository, versions.FIRST, [versions.SECOND])
        path = f"/v2/models/{versions.MODEL}/versions/{versions.SECOND}/ready"
        ready = versions.wait_for(self._gateway.rest, path, lambda _: True, self.stop_now)
        self._note("canary: new version ready beside the old one", ready, "ready" if ready else "not within 60 s")
        if not ready:
            return span / 2
        seconds = max(2.0, span / 3)
        command = [
            sys.executable, "-m", "gateway.cli", "bench", "--json", "--url", self._gateway.grpc, "--model",
            versions.MODEL, "--model-version", str(versions.SECOND), "--rate", str(_CANARY_RATE), "--seconds",
            str(seconds), "--warmup", "0", "--slo-ms", "5000", "--patience", "60",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        outcomes = json.loads(done.stdout)["outcomes"] if done.stdout else {"none": 1, "ok": 0}
        right = outcomes["ok"] == sum(outcomes.values()) > 0
        self._note("canary: requests to the new version answered rightly", right, f"{outcomes['ok']} right")
        return seconds + 2.0

    def _swap(self, phase: Phase) -> float:
        """Makes the second version the one in use; returns seconds it took."""
        versions.point(self._gateway.repository, versions.SECOND, [])

        def only_second(document: dict[str, Any]) -> bool:
            return bool(document.get("versions") == [str(versions.SECOND)])

        done = versions.wait_for(self._gateway.rest, f"/v2/models/{versions.MODEL}", only_second, self.stop_now)
        self._note("swap: new version serves, old one is gone", done, "done" if done else "not within 60 s")
        return 0.0

    def _note(self, what: str, ok: bool, detail: str) -> None:
        self.events.append({"what": what, "ok": ok, "detail": detail})


def main() -> int:
    """Runs the load test and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description=__doc__)
    parser.add_argument("--shape", choices=("all", *SHAPES), default="all")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--users", type=int, default=18, help="steady number; the spike has three times as many")
    parser.add_argument("--ui", action="store_true", help="open locust's own web page on loopback instead")
    parser.add_argument("--out", type=Path, default=REPORT, help="folder of report.html and journal.json")
    parsed = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the gateway is stopped too
    if parsed.seconds < 5 or parsed.users < 3:
        parser.error("at least 5 seconds and 3 users")
    locust = locust_program()
    if locust is None:
        print("loadtest: locust is not installed; run `make loadtest`, which sets it up", file=sys.stderr)
        return BAD_SETUP
    with tempfile.TemporaryDirectory(prefix="sluice-loadtest-") as name:
        folder = Path(name)
        rest, grpc = given_addresses()
        gateway = None
        try:
            if rest is None:
                print("starting the gateway with the demo models …", file=sys.stderr, flush=True)
                gateway = Gateway(folder)
                rest, grpc = gateway.rest, gateway.grpc
            environment = os.environ | {
                "LOADTEST_REST": rest, "LOADTEST_GRPC": str(grpc), "LOADTEST_SHAPE": parsed.shape,
                "LOADTEST_SECONDS": str(parsed.seconds), "LOADTEST_USERS": str(parsed.users),
                "LOADTEST_JOURNAL": str(folder / "journal.json"), "LOADTEST_STARTED": str(folder / "started"),
                "PYTHONPATH": str(ROOT),
            }  # fmt: skip
            command = [str(locust), "-f", str(ROOT / "loadtests" / "locustfile.py"), "--skip-log-setup"]
            if parsed.ui:
                print("locust's page: http://127.0.0.1:8089 (Ctrl-C ends it)", file=sys.stderr, flush=True)
                return subprocess.run([*command, "--web-host", "127.0.0.1"], env=environment, check=False).returncode
            return headless(parsed, [*command, "--headless", "--only-summary"], environment, gateway, folder)
        except RuntimeError as error:
            print(f"loadtest: {error}", file=sys.stderr)
            return BAD_SETUP
        finally:
            if gateway is not None:
                gateway.stop()


def headless(
    parsed: argparse.Namespace, command: list[str], environment: dict[str, str], gateway: Gateway | None, folder: Path
) -> int:
    """Runs locust to its end, writes the report, prints the verdict and returns the exit code."""
    plan = phases(parsed.shape, parsed.seconds)
    changes = VersionChanges(gateway, plan, folder / "started") if gateway is not None else None
    if changes is not None:
        changes.start()
    print(f"load for {parsed.seconds:g} s: {', '.join(phase.name for phase in plan)} …", file=sys.stderr, flush=True)
    try:
        # Locust reads keys from its standard input and would wait for them for ever.
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=parsed.seconds + _MOST_WAIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError("locust did not stop by itself") from None
    finally:
        if changes is not None:
            changes.stop_now.set()
            changes.join()
    journal_path = folder / "journal.json"
    if not journal_path.exists():
        raise RuntimeError(f"locust did not run (status {done.returncode}):\n{(done.stdout + done.stderr)[-3000:]}")
    journal = json.loads(journal_path.read_text())
    judged = judge(journal, tomllib.loads(THRESHOLDS.read_text()), changes.events if changes is not None else [])
    parsed.out.mkdir(parents=True, exist_ok=True)
    shutil.copy(journal_path, parsed.out / "journal.json")
    lines = [
        f"{parsed.users} users (REST, tritonclient, lean gRPC), {parsed.seconds:g} s, shape {parsed.shape}",
        f"gateway at {environment['LOADTEST_REST']} and {environment['LOADTEST_GRPC']}"
        + (", started for this run with its own Triton" if gateway is not None else ""),
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.platform()}",
    ]
    report = parsed.out / "report.html"
    report.write_text(page(journal, judged, {"title": "Sluice load test", "lines": lines}), encoding="utf-8")
    for check in judged["checks"]:
        print(f"{'ok' if check['ok'] else 'NOT OK':7s} {check['what']:52s} {check['found']}   {check['limit']}")
    for error, times in list(journal["errors"].items())[:5]:
        print(f"        {times} x {error}")
    print(f"\n{judged['verdict'].upper()}   report: {report}")
    return EXIT_CODES[judged["verdict"]]


def locust_program() -> Path | None:
    """Returns locust: of $LOADTEST_ENV, else of .venv-load, else None."""
    for folder in (os.environ.get("LOADTEST_ENV"), ROOT / ".venv-load"):
        if folder is not None and (program := Path(folder) / "bin" / "locust").exists():
            return program
    return None


def given_addresses() -> tuple[str | None, str | None]:
    """Returns REST and gRPC address that the user named, or two None."""
    host = os.environ.get("HOST")
    rest = os.environ.get("LOADTEST_REST") or (f"{host}:8000" if host else None)
    grpc = os.environ.get("LOADTEST_GRPC") or (f"{host}:8001" if host else None)
    return (rest, grpc) if rest and grpc else (None, None)


if __name__ == "__main__":
    raise SystemExit(main())
