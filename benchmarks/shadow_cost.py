"""What live requests wait while all of them are copied to a candidate, over what they wait without a release.

Run: python -m benchmarks.shadow_cost --rate 2000 --pairs 8 --seconds 8. One gateway with one Triton; runs with and
without a shadow release at 100 % alternate, with a second run without one as the control; the open loop sends at the
same rate in all. Prints the p99 of each run, the ratios with a confidence interval (that of the control says what the
machine alone does), and what became of the copies.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks import intervals
from benchmarks.arms import Arms
from benchmarks.scenarios.registry import build
from gateway.registry.folder_store import FolderStore
from gateway.registry.publishing import PublishOptions, publish_version

MODEL = "small_net"
_ARMS = ("without", "with", "control")
ROOT = Path(__file__).resolve().parents[1]


class Gateway:
    """The gateway under load, and its admin port."""

    def __init__(self, folder: Path) -> None:
        registry = build(folder / "registry", [MODEL])
        copy = folder / "again"
        shutil.copytree(ROOT / "benchmarks" / "models" / MODEL / "1", copy)
        publish_version(FolderStore(registry), copy, MODEL, actor="benchmark", options=PublishOptions(serve=False))
        self.arms = Arms(folder, registry)
        self.admin = self.arms.ready["admin"]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://{self.admin}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=20) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def begin(self) -> str:
        """Starts a shadow release that nobody ends but `end`, and waits until the candidate is ready."""
        body = {"model": MODEL, "candidate": 2, "kind": "shadow", "judged": False, "retry": True, "actor": "benchmark"}
        release = str(self.post("/v1/releases", body)["id"])
        deadline = time.monotonic() + 30  # noqa: TID251
        while not any(
            version["version"] == 2 and version["state"] == "ready"
            for model in self.get("/v1/models")["models"]
            for version in model["versions"]
        ):
            if time.monotonic() > deadline:  # noqa: TID251
                raise RuntimeError("the candidate does not become ready")
            time.sleep(0.1)  # noqa: TID251
        time.sleep(1)  # noqa: TID251
        return release

    def end(self, release: str) -> dict[str, Any]:
        """Ends the release; returns what became of its copies."""
        live = self.get(f"/v1/releases/{release}")["live"]
        self.post(f"/v1/releases/{release}/rollback", {"actor": "benchmark", "reason": "measured"})
        time.sleep(2)  # noqa: TID251
        return {**live["configuration"], "compared": live["evidence"]["disagreement"]["total"]}

    def load(self, rate: int, seconds: float) -> dict[str, Any]:
        """Sends at `rate` and returns the report of `sluice bench`."""
        command = [
            sys.executable, "-m", "gateway.cli", "bench", "--model", MODEL, "--rate", str(rate), "--json",
            "--url", self.arms.ready["grpc"], "--seconds", str(seconds), "--warmup", "1",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        report: dict[str, Any] = json.loads(done.stdout)
        return report


def measure(rate: int, pairs: int, seconds: float) -> dict[str, Any]:
    """Returns the runs, the ratio of their p99 and the copies."""
    with tempfile.TemporaryDirectory() as place:
        gateway = Gateway(Path(place))
        p99: dict[str, list[float]] = {name: [] for name in _ARMS}
        copies: list[dict[str, Any]] = []
        reports: list[dict[str, Any]] = []
        try:
            gateway.load(rate, 2)
            for pair in range(pairs):
                turn = pair % len(_ARMS)
                for name in _ARMS[turn:] + _ARMS[:turn]:
                    release = gateway.begin() if name == "with" else ""
                    report = gateway.load(rate, seconds)
                    if release:
                        copies.append(gateway.end(release))
                    reports.append(report)
                    p99[name].append(_p99(report))
                last = ", ".join(f"{name} {p99[name][-1]}" for name in _ARMS)
                print(f"pair {pair + 1}: {last}", file=sys.stderr)
        finally:
            gateway.arms.stop()
    return {
        "rate": rate,
        "p99_ms": p99,
        "ratio": intervals.ratio(p99["with"], p99["without"]),
        "control": intervals.ratio(p99["control"], p99["without"]),
        "copies": copies,
        "valid": [report.get("valid") for report in reports],
    }


def _p99(report: dict[str, Any]) -> float:
    return float(report["latency_us"]["p99"]) / 1000


def main() -> None:
    """Prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    print(json.dumps(measure(given.rate, given.pairs, given.seconds), indent=1))


if __name__ == "__main__":
    main()
