"""What a job's own program knows of its runner, and the preemption contract in four calls.

    job = JobContext.current()
    checkpoints = job.checkpoints()
    …
        job.metrics.report(step, total, loss=loss)
        if job.checkpoint_due():
            checkpoints.save(step, {…})
            job.saved()
        if job.notice:                 # SIGTERM, or the notice file
            job.requeue()              # exits with the code that means "start me again"

Decides when a checkpoint is due: the interval is over, or there was notice and it is not saved yet. Works without a
runner too: then folders are below the current one and there is never a notice but SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from jobs import contract, files
from jobs.checkpoint import Checkpoints
from jobs.clock import now
from jobs.job_loading import input_variable, version_variable
from jobs.metrics import Metrics

_DEFAULT_INTERVAL_S = 60.0


class JobContext:
    """One attempt, seen from inside. `current` also listens for SIGTERM."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.job = environ.get(contract.JOB)
        self.attempt = int(environ.get(contract.ATTEMPT, "1"))
        self.seed = int(environ.get(contract.SEED, "0"))
        self.output_folder = Path(environ.get(contract.OUTPUT_FOLDER, "outputs"))
        self.checkpoint_folder = Path(environ.get(contract.CHECKPOINT_FOLDER, "checkpoints"))
        self.interval_s = float(environ.get(contract.CHECKPOINT_INTERVAL, _DEFAULT_INTERVAL_S))
        # Of several ranks the first one reports.
        self.metrics = Metrics(environ.get(contract.METRICS_FILE) if environ.get("RANK", "0") == "0" else None)
        self._lineage_file = environ.get(contract.LINEAGE_FILE)
        self._environ = environ
        self.epsilon = float(environ.get(contract.EPSILON, "0"))
        self.delta = float(environ.get(contract.DELTA, "0"))
        self._keep = int(environ.get(contract.CHECKPOINT_KEEP, "3"))
        self._notice_file = environ.get(contract.NOTICE_FILE)
        self._told = False
        self._saved_at = now()
        self._saved_since_notice = False

    @classmethod
    def current(cls) -> JobContext:
        """Returns the context of this process; from here on SIGTERM is a notice and does not end it."""
        context = cls(os.environ)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, context._tell)
        return context

    def _tell(self, *_: object) -> None:
        self._told = True

    @property
    def notice(self) -> bool:
        """Whether the program has been told to stop."""
        if not self._told and self._notice_file is not None:
            self._told = os.path.exists(self._notice_file)
        return self._told

    def lineage(self) -> dict[str, Any]:
        """Returns where what this job makes comes from: code, data versions, seed, environment, parameters."""
        return (files.read_json(self._lineage_file) if self._lineage_file else None) or {}

    def table(self, name: str) -> Any:
        """Returns the pinned version of the input table as a pyarrow Table (extra `jobs`). Raises KeyError."""
        from jobs.tables import read

        version = self._environ.get(version_variable(name))
        return read(self._environ[input_variable(name)], None if version is None else int(version))

    def file(self, name: str) -> Path:
        """Returns where the input file is. Raises KeyError."""
        return Path(self._environ[input_variable(name)])

    def checkpoints(self) -> Checkpoints:
        """Returns this job's checkpoints."""
        return Checkpoints(self.checkpoint_folder, self._keep)

    def checkpoint_due(self) -> bool:
        """Returns whether to save now."""
        if self.notice and not self._saved_since_notice:
            return True
        return now() - self._saved_at >= self.interval_s

    def saved(self) -> None:
        """Says that a checkpoint was saved just now."""
        self._saved_at = now()
        self._saved_since_notice = self._told

    def requeue(self) -> NoReturn:
        """Ends the program with the code that means "start me again"."""
        sys.exit(contract.EXIT_REQUEUE)
