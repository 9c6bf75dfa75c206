"""Pinned inputs: what was left open is resolved at submit, and every attempt checks that nothing has changed since.

Decides what a version is: of a file its sha256; of a Delta table the number of the newest commit in its log (delta-rs
asks the object store of one that is no folder).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from jobs.documents import JobError
from jobs.job import Input, Job

_COMMIT = re.compile(r"(\d{20})\.(?:json|checkpoint\.parquet|checkpoint\.\d+\.\d+\.parquet)")
_REMOTE_S = 60


class InputChanged(Exception):
    """An input is not what was pinned; the message names it."""


def located(job: Job, given: Input) -> str:
    """Returns where the input is: a path, or the address of a table."""
    if given.table and "://" in given.table:
        return given.table
    return str(Path(job.folder) / os.path.expanduser(given.path or given.table))


def resolve(job: Job) -> Job:
    """Returns the job with every input pinned. Raises JobError with every input that cannot be."""
    problems: list[str] = []
    pinned = []
    for index, given in enumerate(job.inputs):
        where = f"inputs[{index}]"
        try:
            if given.path:
                digest = _digest(Path(located(job, given)))
                if given.sha256 and given.sha256 != digest:
                    problems.append(f"{where}.sha256: {given.path} has {digest}")
                given = dataclasses.replace(given, sha256=digest)
            else:
                newest = _newest_version(located(job, given))
                version = newest if given.version in (None, "latest") else given.version
                if not isinstance(version, int) or version > newest:
                    problems.append(f"{where}.version: {given.table} has versions up to {newest}")
                given = dataclasses.replace(given, version=version)
        except OSError as error:
            problems.append(f"{where}: cannot read {located(job, given)}: {error.strerror or error}")
        pinned.append(given)
    if not Path(job.folder).is_dir():
        problems.append(f"folder: {job.folder} is not a folder")
    if problems:
        raise JobError(problems)
    return dataclasses.replace(job, inputs=tuple(pinned))


def verify(job: Job) -> None:
    """Returns if every input is what was pinned. Raises InputChanged."""
    for given in job.inputs:
        try:
            if given.path:
                if _digest(Path(located(job, given))) != given.sha256:
                    raise InputChanged(f"input {given.name}: {given.path} is not what it was at submit")
            elif isinstance(given.version, int) and _newest_version(located(job, given)) < given.version:
                raise InputChanged(f"input {given.name}: {given.table} has no version {given.version} any more")
        except OSError as error:
            raise InputChanged(f"input {given.name}: cannot be read: {error.strerror or error}") from error


def missing_outputs(job: Job, folder: Path) -> list[str]:
    """Returns the promised outputs that are not below `folder`."""
    return [pattern for pattern in job.outputs if not _matches(folder, pattern)]


def _matches(folder: Path, pattern: str) -> bool:
    if any(c in pattern for c in "*?["):
        return any(found.is_file() for found in folder.glob(pattern))
    return (folder / pattern).exists()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _newest_version(table: str) -> int:
    if "://" in table:
        return _newest_remote_version(table)
    names = os.listdir(Path(table) / "_delta_log")
    versions = [int(match[1]) for name in names if (match := _COMMIT.fullmatch(name))]
    if not versions:
        raise FileNotFoundError(2, "no Delta table (its log is empty)")
    return max(versions)


def _newest_remote_version(table: str) -> int:
    # In a process of its own: the object store's client brings threads and 100 MB, which would stay with the runner.
    code = "import sys; from deltalake import DeltaTable; print(DeltaTable(sys.argv[1]).version())"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, table], capture_output=True, text=True, timeout=_REMOTE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise OSError(110, f"no answer within {_REMOTE_S} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it failed"])[-1][:300]
        missing = "ModuleNotFoundError" in last
        raise OSError(2, "delta-rs is not installed: pip install 'sluice[jobs]'" if missing else last)
    return int(done.stdout)
