"""`make loadtest` and `make loadtest-ui`: starts what is needed, runs locust, changes versions meanwhile, judges.

    python -m loadtests.run [--shape all|ramp|soak|spike|canary|swap] [--seconds 120] [--users 18] [--ui]

With LOADTEST_REST and LOADTEST_GRPC (host:port; or HOST=name for the default ports) a running gateway with the demo
models is tested and left alone: then no versions are changed. Exit codes: 0 passed, 1 failed, 2 bad usage or set-up,
4 invalid (locust was the limit).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
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
CANARY_SHARE = 20
"""Percent of the requests that the canary phase gives to the new version."""
_SHARE_SLACK = 5.0
_MOST_WAIT = 120.0
_LAST_SECONDS = 30.0


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
        # A session of its own: Ctrl-C is for this program, which stops the gateway last.
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the gateway did not start (status {self.process.wait()})")
        ready = json.loads(line)
        if ready.get("failed") or "rest" not in ready:
            self.stop()
            raise RuntimeError(f"the gateway does not serve the demo models: {ready.get('failed') or ready}")
        self.rest, self.grpc, self.admin = str(ready["rest"]), str(ready["grpc"]), str(ready["admin"])

    def release(self, action: str, *words: str) -> dict[str, Any]:
        """Runs `sluice releases ACTION` on this gateway's registry; returns what it said, empty where it refused."""
        command = [
            sys.executable, "-m", "gateway.cli", "releases", action, *words, "--registry", str(self.repository),
            "--admin", self.admin, "--actor", "loadtest", "--reason", "load test", "--json",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            print(f"loadtest: sluice releases {action}: {done.stderr or done.stdout}", file=sys.stderr, flush=True)
            return {}
        said: dict[str, Any] = json.loads(done.stdout)
        return said

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
        self._released = ""

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
        """Releases the second version to a share of the traffic for the phase; returns seconds it took."""
        share, began = CANARY_SHARE, time.perf_counter()
        found = self._gateway.release("start", versions.MODEL, *versions.RELEASE, "--steps", f"{share}%,100%")
        name = str(found.get("id", ""))
        path = f"/v2/models/{versions.MODEL}/versions/{versions.SECOND}/ready"
        ready = bool(name) and versions.wait_for(self._gateway.rest, path, lambda _: True, self.stop_now)
        self._note("canary: released, and ready beside the old version", ready, name or str(found))
        if not ready:
            return time.perf_counter() - began
        before = versions.answered(self._gateway.admin)
        self.stop_now.wait(max(2.0, phase.end - phase.start - (time.perf_counter() - began) - 2.0))
        after = versions.answered(self._gateway.admin)
        old, new = (after.get(number, 0) - before.get(number, 0) for number in (versions.FIRST, versions.SECOND))
        seen = 100 * new / max(1, old + new)
        near = abs(seen - share) <= _SHARE_SLACK
        self._note(
            f"canary: share of requests to the new version, {share} % asked", near, f"{seen:.1f} % of {old + new}"
        )
        self._released = name
        return time.perf_counter() - began

    def _swap(self, phase: Phase) -> float:
        """Makes the second version the one in use: promotes it where it was released; returns seconds it took."""
        if self._released:
            promoted = bool(self._gateway.release("promote", self._released, "--full"))
            self._note("swap: the release is promoted", promoted, self._released)
        else:
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
                with contextlib.suppress(KeyboardInterrupt):  # locust hears of it too
                    return subprocess.run(
                        [*command, "--web-host", "127.0.0.1"], env=environment, check=False
                    ).returncode
                return 0
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
        status, said, interrupted = run_locust(command, environment, parsed.seconds + _MOST_WAIT)
    finally:
        if changes is not None:
            changes.stop_now.set()
            changes.join()
    journal_path = folder / "journal.json"
    if not journal_path.exists():
        raise RuntimeError(f"locust did not run (status {status}):\n{said[-3000:]}")
    journal = json.loads(journal_path.read_text())
    events = changes.events if changes is not None else []
    judged = judge(journal, tomllib.loads(THRESHOLDS.read_text()), events, interrupted=interrupted)
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


def run_locust(command: list[str], environment: dict[str, str], seconds: float) -> tuple[int, str, bool]:
    """Runs locust to its end; returns its status, what it said, and whether Ctrl-C ended it early.

    Raises RuntimeError when it does not stop by itself.
    """
    # Locust reads keys from its standard input and would wait for them for ever. A session of its own: of a Ctrl-C it
    # shall hear once, from here, so that it writes its journal.
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    interrupted = False
    try:
        try:
            said, _ = process.communicate(timeout=seconds)
        except KeyboardInterrupt:
            interrupted = True
            print("interrupted: stopping locust …", file=sys.stderr, flush=True)
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=_LAST_SECONDS)
    except subprocess.TimeoutExpired:
        raise RuntimeError("locust did not stop by itself") from None
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_SECONDS)
            process.kill()
            process.wait()
    return process.returncode, said, interrupted


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
