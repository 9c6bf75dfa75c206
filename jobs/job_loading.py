"""Makes a `Job` from a job file (TOML, or JSON) or from a document.

Decides which settings of a job contradict each other; `documents` has what is wrong with a single one. Invariants: all
problems are found before anything is reported; nothing is ever half loaded. `to_document` is the inverse: what it
returns loads to an equal job.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jobs import documents
from jobs.documents import JobError
from jobs.job import Input, Job

_PLACEHOLDER = re.compile(r"\{(inputs\.[^{}]*)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = "SLUICE_"


def load(path: str | Path) -> Job:
    """Returns the job in the file at `path`, its `folder` made absolute. Raises JobError with every problem found."""
    path = Path(path)
    return from_document(documents.read(path), path.absolute().parent)


def from_document(document: object, base: Path | None = None) -> Job:
    """Returns the job that `document` (nested dicts and lists) describes.

    Relative `folder`s are relative to `base`; without a base (a document from elsewhere) it must be absolute.

    Raises:
        JobError: with every problem found.
    """
    problems: list[str] = []
    job: Job | None = documents.table(Job, document, "", problems)
    if job is None:
        raise JobError(problems)
    folder = Path(os.path.expanduser(job.folder))
    if base is not None:
        folder = base / folder
    elif not folder.is_absolute():
        problems.append("folder: must be an absolute path in a job that is no file")
    problems += _cross_check(job)
    if problems:
        raise JobError(problems)
    return dataclasses.replace(job, folder=str(folder))


def to_document(job: Job) -> dict[str, Any]:
    """Returns what differs from the defaults, as a document that JSON can carry."""
    return documents.plain(job)


# ---------------------------------------------------------------------- settings that contradict each other


def _cross_check(job: Job) -> Iterable[str]:
    if bool(job.command) == bool(job.function):
        yield "command, function: give one of them"
    if job.command and not job.command[0]:
        yield "command[0]: must not be empty"
    if job.function and job.arguments:
        yield "arguments: belong to command; a function takes parameters"
    if job.command and job.parameters:
        yield "parameters: belong to function; a command takes arguments"
    for table, names in (("parameters", job.parameters), ("environment", job.environment)):
        for name in names:
            if not _VARIABLE.fullmatch(name) or (table == "environment" and name.startswith(_RESERVED)):
                yield f"{table}.{name}: cannot be a name here"
    if bool(job.privacy.dataset) != (job.privacy.epsilon > 0):
        yield "privacy: dataset and an epsilon above 0 belong together"
    for index, name in enumerate(job.inherit_environment):
        if not _VARIABLE.fullmatch(name) or name.startswith(_RESERVED):
            yield f"inherit_environment[{index}]: '{name}' cannot be a variable's name"
    for index, pattern in enumerate(job.outputs):
        if not pattern or pattern.startswith("/") or ".." in Path(pattern).parts:
            yield f"outputs[{index}]: '{pattern}' must be a path below the output folder"
    seen: set[str] = set()
    for index, given in enumerate(job.inputs):
        yield from _check_input(index, given)
        for variable in (input_variable(given.name), version_variable(given.name) if given.table else ""):
            if variable in seen:
                yield f"inputs[{index}].name: two inputs would share the variable {variable}"
            seen.add(variable or f"[{index}]")
    known = {f"inputs.{given.name}" for given in job.inputs}
    for place in ("command", "arguments"):
        for index, argument in enumerate(getattr(job, place)):
            for name in set(_PLACEHOLDER.findall(argument)) - known:
                yield f"{place}[{index}]: there is no input for {{{name}}}"


def _check_input(index: int, given: Input) -> Iterable[str]:
    where = f"inputs[{index}]"
    if bool(given.path) == bool(given.table):
        yield f"{where}: give path or table"
    if given.path and given.version is not None:
        yield f"{where}.version: belongs to a table; a file is pinned by sha256"
    if given.path and given.schema:
        yield f"{where}.schema: belongs to a table"
    if given.table and given.sha256:
        yield f"{where}.sha256: belongs to a file; a table is pinned by version"


def input_variable(name: str) -> str:
    """Returns the environment variable that holds the path of the input called `name`."""
    return "SLUICE_INPUT_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


def version_variable(name: str) -> str:
    """Returns the environment variable that holds the version of the table called `name`."""
    return input_variable(name) + "_VERSION"
