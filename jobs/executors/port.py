"""The port between the runner and the place where attempts run.

An executor starts one attempt, finds it again after the runner was restarted, tells it to stop, and says how it ended.
It keeps no state of its own: everything it needs to find an attempt again is the attempt's folder and token.

How others would fit. Kubernetes: `start` creates a Job named after the token (creating it twice is refused, which is
the claim), `find` looks it up by that name, `stop` deletes the pod with the grace period, `ended` watches the pod and
makes the exit record from its container status (OOMKilled, DeadlineExceeded, exit code, eviction). Slurm: `start` is
`sbatch --job-name=<token> --signal=B:TERM@<grace> --requeue=no`, `find` is `squeue --name`, `stop` is `scancel
--signal=TERM` and then `scancel`, `ended` reads `sacct` (OUT_OF_MEMORY, TIMEOUT, PREEMPTED, NODE_FAIL map one to one).
Both write logs into the attempt's folder, or bring their own reader. `ray` shows the shortest way: let the place run
our keeper on a shared folder, and ask the place only whether the attempt is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jobs.job import Job


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything an executor needs to start an attempt. `folder` is the attempt's own; it exists."""

    job: Job
    folder: Path
    token: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]


class Handle(Protocol):
    """One attempt that was started."""

    async def ended(self) -> Mapping[str, Any] | None:
        """Returns the exit record when the attempt and everything it started is gone; None if nobody knows."""

    def stop(self, why: str, grace_s: float, detail: str = "") -> None:
        """Gives notice now and kills after `grace_s`. A harder stop may follow a softer one. Raises OSError."""

    def close(self) -> None:
        """Lets go of the attempt without touching it."""


class Executor(Protocol):
    """A place where attempts run."""

    def start(self, launch: Launch) -> Handle:
        """Starts an attempt. Raises OSError if it cannot be; then nothing runs."""

    def find(self, folder: Path, token: str) -> Handle:
        """Returns the handle of an attempt started by an earlier runner, whether or not it still runs."""
