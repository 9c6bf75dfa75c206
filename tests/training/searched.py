"""A trial that takes no time when it does well, and waits to be ended when it does badly."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from jobs.context import JobContext

STEPS = 4


def main(x: float, kind: str, ledger: str, fail: bool = False, wait_s: float = 0.0, extra: int = 0) -> int:
    job = JobContext.current()
    with Path(ledger).open("a") as file:
        file.write(json.dumps({"job": job.job, "x": x, "kind": kind, "extra": extra}) + "\n")
    if fail:
        return 3
    final = -((x - 1.0) ** 2) - (0.5 if kind == "b" else 0.0)
    for step in range(1, STEPS + 1):
        job.metrics.report(step, STEPS, score=final - (STEPS - step))
        signal.sigtimedwait([signal.SIGRTMAX], wait_s)
        if x < -1.5 and step == 2:
            while not job.notice:
                signal.sigtimedwait([signal.SIGRTMAX], 0.05)
            return 1
    (job.output_folder / "model.json").write_text(json.dumps({"x": x}))
    return 0
