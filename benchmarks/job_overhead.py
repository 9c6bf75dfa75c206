"""What the job runner costs: seconds a short job takes of its slot, and whether the runner's memory stays flat.

Run: python -m benchmarks.job_overhead --jobs 200 --rounds 2. A real `sluice jobs serve` on a folder of its own with
two slots gets that many jobs (`true`) at once and is left alone until they have ended; then again. Prints for each
round the milliseconds a job and slot (the first submission to the last end, times slots, over jobs), how the jobs
ended, and the runner's resident memory after the round. Exits with 1 if a job is unaccounted for.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from jobs import processes
from jobs.client import Client
from jobs.state_folder import StateFolder
from jobs.states import JobState

SLOTS, PATIENCE_S, LOOK_S = 2, 120.0, 0.25
ROOT = Path(__file__).resolve().parents[1]
FINAL = [state for state in JobState if state.final]


def one_round(client: Client, runner: int, jobs: int, name: str) -> dict[str, Any]:
    """Submits the jobs, waits until none is left, and returns what it took. Raises TimeoutError."""
    began = time.perf_counter()
    numbers = set()
    for index in range(jobs):
        job = {"name": name, "command": ["true"], "folder": str(ROOT)}
        numbers.add(client.call("POST", "/v1/jobs", {"job": job, "key": f"{name}-{index}"})["id"])
    submitted = time.perf_counter() - began
    while (health := client.call("GET", "/v1/health"))["queued"] + health["running"]:
        if time.perf_counter() - began > PATIENCE_S:
            raise TimeoutError(f"{health['queued']} jobs wait and {health['running']} run after {PATIENCE_S} s")
        time.sleep(LOOK_S)  # noqa: TID251
    found = [client.call("GET", f"/v1/jobs/{number}") for number in sorted(numbers)]
    seconds = max(job["ended_at"] for job in found) - min(job["submitted_at"] for job in found)
    resident = known.rss if (known := processes.stat(runner)) else 0
    return {
        "jobs": jobs,
        "accounted_for": sum(job["state"] in FINAL for job in found),
        "ended": dict(Counter(f"{job['state']} ({job['reason']})" for job in found)),
        "attempts": sum(job["attempts"] for job in found),
        "submitting_s": round(submitted, 2),
        "ms_a_job_and_slot": round(seconds * SLOTS / jobs * 1000, 1),
        "runner_mib": round(resident / (1 << 20), 1),
    }


def measure(jobs: int, rounds: int) -> dict[str, Any]:
    """Returns the rounds, and the machine's load before them."""
    with tempfile.TemporaryDirectory() as place:
        command = [
            sys.executable, "-m", "gateway.cli", "jobs", "serve", "--port", "0", "--json", "--cpus", str(SLOTS),
            "--state-folder", place,
        ]  # fmt: skip
        load = os.getloadavg()[0]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError("the runner did not start; its message is above")
            client = Client(StateFolder(Path(place)))
            done = [one_round(client, process.pid, jobs, f"round-{number}") for number in range(1, rounds + 1)]
        finally:
            process.terminate()
            process.wait(20)
    return {"slots": SLOTS, "program": shutil.which("true"), "load_before": round(load, 2), "rounds": done}


def main() -> int:
    """Prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    found = measure(given.jobs, given.rounds)
    print(json.dumps(found, indent=1))
    return 0 if all(one["accounted_for"] == one["jobs"] == one["attempts"] for one in found["rounds"]) else 1


if __name__ == "__main__":
    sys.exit(main())
