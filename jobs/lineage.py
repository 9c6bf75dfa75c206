"""Where what a job makes comes from, for the manifests of what is published from it.

Decides what is recorded: code commit, pinned inputs, seed, parameters, and the environment: the hash of the Python's
version and of every installed distribution with its version, so that two equal hashes mean equal packages.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from jobs import documents, files
from jobs.job import Job
from jobs.state_folder import StateFolder
from jobs.store import JobRecord

_TIMEOUT_S = 20
_PROGRAM = (
    "import sys, importlib.metadata as m; print(sys.version.split()[0]); "
    "print(*sorted({f\"{d.metadata['Name']}=={d.version}\" for d in m.distributions()}), sep='\\n')"
)


def path(state: StateFolder, number: int) -> Path:
    """Returns the file that holds it for a job."""
    return state.of_job(number) / "lineage.json"


def keep(record: JobRecord, state: StateFolder) -> None:
    """Writes the file when the job is first started; what was recorded then stays. Raises OSError."""
    where = path(state, record.id)
    if not where.exists():
        files.replace(where, json.dumps(of(record), indent=2).encode())


def of(record: JobRecord) -> dict[str, Any]:
    """Returns the lineage."""
    job = record.job
    what = {"function": job.function} if job.function else {"command": [*job.command, *job.arguments]}
    return {
        "uid": secrets.token_hex(16),
        "job": record.id,
        "name": job.name,
        "owner": record.owner,
        **what,
        "parameters": dict(job.parameters),
        "seed": job.seed,
        "code": record.code,
        "inputs": [documents.plain(given) for given in job.inputs],
        "environment_sha256": _environment(job),
    }


def _environment(job: Job) -> str | None:
    """Returns the hash of the Python that the job names (the runner's own if none), None if it cannot be asked."""
    python = job.python or sys.executable
    # Of one Python the packages can change while the runner runs; the folder's time tells.
    library = Path(python).absolute().parent.parent / "lib"
    newest = max((found.stat().st_mtime_ns for found in library.glob("python*/site-packages")), default=0)
    return _hash(python, newest)


@lru_cache(maxsize=64)
def _hash(python: str, _: int) -> str | None:
    try:
        done = subprocess.run(
            [python, "-c", _PROGRAM], capture_output=True, check=True, timeout=_TIMEOUT_S, env={"PATH": os.defpath}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return hashlib.sha256(done.stdout).hexdigest()
