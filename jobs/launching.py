"""How a job becomes a command line and an environment.

Decides what a job's program sees. Invariant: of the runner's own environment only a few harmless names are handed on,
and those that the job file lists; everything else is the job's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs import contract, documents, inputs, lineage
from jobs.executors.port import Launch
from jobs.job import Job
from jobs.job_loading import input_variable, version_variable
from jobs.state_folder import StateFolder
from jobs.store import Attempt, JobRecord

_HANDED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|TERM|LD_LIBRARY_PATH|VIRTUAL_ENV|PYTHONPATH|"
    r"SSL_CERT_FILE|SSL_CERT_DIR|CUDA_HOME|CUDA_PATH"
)
# What a job whose table lies in a bucket needs to reach it.
_STORE = re.compile(r"AWS_\w+|GOOGLE_\w+|AZURE_\w+")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_CALL = Path(__file__).with_name("call.py")
_CHECK = Path(__file__).with_name("checking.py")
_TORCHRUN = Path(__file__).with_name("torchrun.py")
_PLACEHOLDER = re.compile(r"\{(output_folder|checkpoint_folder|seed|inputs\.[^{}]*)\}")
_GIT_TIMEOUT_S = 5


def prepared(record: JobRecord, attempt: Attempt, state: StateFolder) -> Launch:
    """Makes the attempt's folders and returns what an executor starts. Raises OSError."""
    job, number = record.job, record.id
    folder = state.attempt(number, attempt.number)
    folder.mkdir(mode=0o700, parents=True)
    state.outputs(number).mkdir(mode=0o700, exist_ok=True)
    state.checkpoints(number, job).mkdir(mode=0o700, parents=True, exist_ok=True)
    lineage.keep(record, state)
    command = argv(job, number, state)
    if (gate := _gate(job)) is not None:
        command = (job.python or sys.executable, str(_CHECK), json.dumps(gate), str(folder), *command)
    if job.yield_to:
        # The kernel's own "only when nobody else wants it"; what the job starts inherits it.
        idle = shutil.which("chrt")
        command = ((idle, "--idle", "0") if idle else ("nice", "-n", "19")) + command
    return Launch(job, folder, attempt.token, command, environment(job, attempt, state, os.environ))


def _gate(job: Job) -> dict[str, Any] | None:
    """Returns what `jobs.checking` has to check before the program starts, None if nothing."""
    tables = [
        [given.name, inputs.located(job, given), given.version, given.schema] for given in job.inputs if given.schema
    ]
    privacy = documents.plain(job.privacy) | {"delta": job.privacy.delta} if job.privacy.dataset else None
    if privacy is not None:
        where = job.privacy.registry
        privacy["registry"] = where if "://" in where else str(Path(job.folder) / os.path.expanduser(where))
    return {"tables": tables, "privacy": privacy} if tables or privacy else None


def argv(job: Job, number: int, state: StateFolder) -> tuple[str, ...]:
    """Returns the command line."""
    python = job.python or sys.executable
    ranks = (python, str(_TORCHRUN), str(job.ranks)) if job.ranks else ()
    if job.function:
        return (*ranks, python, str(_CALL), job.function, json.dumps(dict(job.parameters)))
    known = {
        "output_folder": str(state.outputs(number)),
        "checkpoint_folder": str(state.checkpoints(number, job)),
        "seed": str(job.seed),
        **{f"inputs.{given.name}": inputs.located(job, given) for given in job.inputs},
    }
    own = (_PLACEHOLDER.sub(lambda m: known[m[1]], part) for part in (*job.command, *job.arguments))
    return (*ranks, *own)


def environment(job: Job, attempt: Attempt, state: StateFolder, own: Mapping[str, str]) -> dict[str, str]:
    """Returns the whole environment; `own` is the runner's."""
    number = attempt.job
    found = {name: value for name, value in own.items() if _HANDED_ON.fullmatch(name)}
    # `python` in a job is the runner's Python unless the job's own PATH says otherwise.
    found["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), found.get("PATH", os.defpath)])
    found |= {name: own[name] for name in job.inherit_environment if name in own}
    found |= dict.fromkeys(_THREADS, str(max(job.resources.cpus // max(job.ranks, 1), 1)))
    found |= {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": str(job.seed)}
    found["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, attempt.gpus))
    found |= job.environment
    found |= {input_variable(given.name): inputs.located(job, given) for given in job.inputs}
    found |= {version_variable(given.name): str(given.version) for given in job.inputs if given.table}
    if any("://" in given.table for given in job.inputs) or "://" in job.privacy.registry:
        found |= {name: value for name, value in own.items() if _STORE.fullmatch(name) and name not in found}
    if job.privacy.dataset:
        found |= {contract.EPSILON: str(job.privacy.epsilon), contract.DELTA: str(job.privacy.delta)}
    return found | {
        contract.JOB: str(number),
        contract.ATTEMPT: str(attempt.number),
        contract.TOKEN: attempt.token,
        contract.SEED: str(job.seed),
        contract.OUTPUT_FOLDER: str(state.outputs(number)),
        contract.CHECKPOINT_FOLDER: str(state.checkpoints(number, job)),
        contract.CHECKPOINT_INTERVAL: str(job.checkpoint.interval_s),
        contract.CHECKPOINT_KEEP: str(job.checkpoint.keep),
        contract.NOTICE_FILE: str(state.attempt(number, attempt.number) / contract.NOTICE),
        contract.METRICS_FILE: str(state.metrics(number)),
        contract.LINEAGE_FILE: str(lineage.path(state, number)),
    }


def code_version(folder: Path) -> str | None:
    """Returns the git commit of the code in `folder` ("+changes" if it is not all committed), None if there is none."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=_GIT_TIMEOUT_S
        )
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
