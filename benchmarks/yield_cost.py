"""What live requests wait beside a training job that yields to the gateway, over what they wait alone.

Run (with `.venv-jobs`, which has torch): .venv-jobs/bin/python -m benchmarks.yield_cost --rate 1000 --pairs 4

One gateway with one Triton, one runner of jobs. Runs alone, beside a job with `yield_to = "gateway"` and beside the
same job without alternate; the open loop sends at the same rate in all. The job trains the text classifier of
`jobs.trainers.text_head` on 15,000 reviews, on two threads, and is at work before anything is sent. `steady`: without a
break. `pulses`: a second of requests after three of silence, in which the job has gone on; the requests of the first
tenth of a second, before the runner has looked, count like all others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import intervals
from benchmarks.arms import Arms
from benchmarks.scenarios.registry import build

MODEL = "small_net"
ROOT = Path(__file__).resolve().parents[1]
GATEWAY_PYTHON = ROOT / ".venv" / "bin" / "python"
ALONE, YIELDING, PUSHING = "alone", "yielding", "not yielding"
PULSES, PULSE_S, SILENCE_S = 5, 1.0, 3.0
_CLI = (sys.executable, "-m", "gateway.cli")
_ENCODER = ROOT / "model_repo" / "minilm" / "1"


class Machine:
    """The gateway under load, and the runner beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arms = Arms(folder, build(folder / "registry", [MODEL]))
        environ = os.environ | {"SLUICE_GATEWAY_ADMIN": f"http://{self.arms.ready['admin']}"}
        self.runner = subprocess.Popen(
            [*_CLI, "jobs", "serve", "--port", "0", "--state-folder", str(folder / "jobs")], cwd=ROOT, env=environ,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._serial = 0
        subprocess.run(
            [sys.executable, "-m", "tools.models.reviews_table", str(folder / "reviews")], cwd=ROOT, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def stop(self) -> None:
        self.runner.terminate()
        self.runner.wait(30)
        self.arms.stop()

    def _jobs(self, *arguments: str) -> str:
        command = [
            sys.executable,
            "-m",
            "gateway.cli",
            "jobs",
            arguments[0],
            "--state-folder",
            str(self.folder / "jobs"),
        ]
        done = subprocess.run([*command, *arguments[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout

    def begin(self, name: str) -> str:
        """Starts the job and waits until it computes; returns its number, "" for no job."""
        if name == ALONE:
            return ""
        self._serial += 1
        file = self.folder / f"job-{self._serial}.toml"
        file.write_text(
            f'name = "reviews-{self._serial}"\nfunction = "jobs.trainers.text_head:main"\n'
            'parameters = { embedding = "461", most = 15000 }\n'
            + ('yield_to = "gateway"\n' if name == YIELDING else "")
            + f'inputs = [{{ name = "texts", table = "{self.folder}/reviews" }},\n'
            f'  {{ name = "encoder", path = "{_ENCODER}/artifacts/onnx/model.onnx" }},\n'
            f'  {{ name = "vocabulary", path = "{_ENCODER}/vocab.txt" }}]\n'
            "[resources]\ncpus = 2\nmemory_mib = 0\n"
        )
        job = str(json.loads(self._jobs("submit", str(file), "--json"))["id"])
        deadline = time.monotonic() + 90  # noqa: TID251
        while "texts encoded" not in self._jobs("logs", job):
            if time.monotonic() > deadline:  # noqa: TID251
                raise RuntimeError(f"job {job} does not begin: {self._jobs('logs', job)[-500:]}")
            time.sleep(0.2)  # noqa: TID251
        return job

    def end(self, job: str) -> None:
        """Cancels the job; raises RuntimeError if it had ended by itself, so that nothing was measured beside it."""
        if not job:
            return
        state = json.loads(self._jobs("show", job, "--json"))["state"]
        self._jobs("cancel", job)
        time.sleep(2)  # noqa: TID251
        if state not in ("running", "paused"):
            raise RuntimeError(f"job {job} was {state} before the requests were over")

    def load(self, rate: int, seconds: float, warmup: float) -> float:
        """Sends at `rate`; returns the p99 in milliseconds."""
        command = [
            str(GATEWAY_PYTHON), "-m", "gateway.cli", "bench", "--model", MODEL, "--rate", str(rate), "--json",
            "--url", self.arms.ready["grpc"], "--seconds", str(seconds), "--warmup", str(warmup),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        return float(json.loads(done.stdout)["latency_us"]["p99"]) / 1000

    def pulses(self, rate: int) -> float:
        """Sends for a second after each silence; returns the mean of their p99 in milliseconds."""
        found = []
        for _ in range(PULSES):
            time.sleep(SILENCE_S)  # noqa: TID251
            found.append(self.load(rate, PULSE_S, 0))
        return statistics.mean(found)


def measure(rate: int, pairs: int, seconds: float) -> dict[str, Any]:
    """Returns every p99, and the ratios to being alone."""
    names = (ALONE, YIELDING, PUSHING)
    p99: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in names} for kind in ("steady", "pulses")}
    with tempfile.TemporaryDirectory() as place:
        machine = Machine(Path(place))
        try:
            machine.load(rate, 2, 0)
            for pair in range(pairs):
                for name in names if pair % 2 == 0 else names[::-1]:
                    job = machine.begin(name)
                    p99["steady"][name].append(machine.load(rate, seconds, 1))
                    p99["pulses"][name].append(machine.pulses(rate))
                    machine.end(job)
                    print(f"pair {pair + 1}, {name}: {p99['steady'][name][-1]:.2f} ms steady, "
                          f"{p99['pulses'][name][-1]:.2f} ms in pulses", file=sys.stderr, flush=True)  # fmt: skip
        finally:
            machine.stop()
    ratios = {
        kind: {name: intervals.ratio(of[name], of[ALONE]) for name in (YIELDING, PUSHING)} for kind, of in p99.items()
    }
    return {"rate": rate, "p99_ms": p99, "ratio_to_alone": ratios}


def main() -> None:
    """Prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6.0)
    given = parser.parse_args()
    print(json.dumps(measure(given.rate, given.pairs, given.seconds), indent=1))


if __name__ == "__main__":
    main()
