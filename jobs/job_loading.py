"""Makes a `Job` from a job file (TOML, or JSON) or from a document.

Decides what is wrong with a document. Invariants: all problems are found before anything is reported; a problem names
the setting by its dotted path; an unknown key is a problem, with the likely spelling; nothing is ever half loaded.
`to_document` is the inverse: what it returns loads to an equal job.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jobs.job import Input, Job, Rule, default_of, rule_of

MAX_FILE_BYTES = 1 << 20
_PLACEHOLDER = re.compile(r"\{(inputs\.[^{}]*)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = "SLUICE_"
_HINTS: dict[type[Any], dict[str, Any]] = {}


class JobError(ValueError):
    """The job cannot be used; `problems` has one sentence for everything that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(path: str | Path) -> Job:
    """Returns the job in the file at `path`, its `folder` made absolute. Raises JobError with every problem found."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise JobError([f"{path}: cannot be read: {error.strerror}"]) from error
    if len(content) > MAX_FILE_BYTES:
        raise JobError([f"{path}: is larger than {MAX_FILE_BYTES} bytes"])
    try:
        text = content.decode("utf-8")
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except UnicodeDecodeError:
        raise JobError([f"{path}: is not UTF-8 text"]) from None
    except (ValueError, RecursionError) as error:
        raise JobError([f"{path}: {error}"]) from error
    return from_document(document, path.absolute().parent)


def from_document(document: object, base: Path | None = None) -> Job:
    """Returns the job that `document` (nested dicts and lists) describes.

    Relative `folder`s are relative to `base`; without a base (a document from elsewhere) it must be absolute.

    Raises:
        JobError: with every problem found.
    """
    problems: list[str] = []
    job: Job | None = _table(Job, document, "", problems)
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
    return _plain(job)


def _plain(table: Any) -> dict[str, Any]:
    found = {}
    for setting in dataclasses.fields(table):
        value = getattr(table, setting.name)
        if value == default_of(setting):
            continue
        if dataclasses.is_dataclass(value):
            value = _plain(value)
        elif isinstance(value, tuple):
            value = [_plain(entry) if dataclasses.is_dataclass(entry) else entry for entry in value]
        elif isinstance(value, Mapping):
            value = dict(value)
        found[setting.name] = value
    return found


# ---------------------------------------------------------------------- one table


def _table(cls: type[Any], document: object, where: str, problems: list[str]) -> Any:
    """Returns an instance of `cls`, or None if a problem was added."""
    if not isinstance(document, Mapping):
        problems.append(f"{where or 'the job'}: must be a table, not {_shown(document)}")
        return None
    before = len(problems)
    hints = _hints(cls)
    settings = {setting.name: setting for setting in dataclasses.fields(cls)}
    values = {}
    for key, value in document.items():
        dotted = f"{where}.{key}" if where else str(key)
        if key not in settings:
            problems.append(f"{dotted}: unknown setting{_suggest(str(key), settings)}")
            continue
        values[key] = _value(hints[key], rule_of(settings[key]), value, dotted, problems)
    for name, setting in settings.items():
        if default_of(setting) is dataclasses.MISSING and name not in document:
            problems.append(f"{where + '.' if where else ''}{name}: is required")
    return cls(**values) if len(problems) == before else None


def _hints(cls: type[Any]) -> dict[str, Any]:
    # Reading the state makes a job of every row: working the types out each time would be most of the cost.
    if cls not in _HINTS:
        _HINTS[cls] = typing.get_type_hints(cls)
    return _HINTS[cls]


def _value(hint: Any, rule: Rule, value: object, where: str, problems: list[str]) -> Any:
    """Returns the value as the setting's type; adds a problem if it cannot be."""
    if dataclasses.is_dataclass(hint):
        return _table(typing.cast(type[Any], hint), value, where, problems)
    origin = typing.get_origin(hint) or hint
    if origin is tuple:
        if not isinstance(value, list):
            problems.append(f"{where}: must be a list, not {_shown(value)}")
            return ()
        item = typing.get_args(hint)[0]
        return tuple(_value(item, rule, entry, f"{where}[{i}]", problems) for i, entry in enumerate(value))
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return _mapping(typing.get_args(hint)[1], value, where, problems)
    problem = _scalar_problem(hint, rule, value)
    if problem is not None:
        problems.append(f"{where}: {problem}")
    return value


def _mapping(item: Any, value: object, where: str, problems: list[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        problems.append(f"{where}: must be a table, not {_shown(value)}")
        return {}
    for key, entry in value.items():
        if not isinstance(entry, str if item is str else (str, int, float, bool)):
            kind = "a string" if item is str else "a string, a number or a boolean"
            problems.append(f"{where}.{key}: must be {kind}, not {_shown(entry)}")
        elif isinstance(entry, str) and "\0" in entry:
            problems.append(f"{where}.{key}: must not contain a NUL character")
        elif isinstance(entry, float) and not math.isfinite(entry):
            problems.append(f"{where}.{key}: must be a finite number")
    return MappingProxyType({str(key): entry for key, entry in value.items()})


def _scalar_problem(hint: Any, rule: Rule, value: object) -> str | None:
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    literals = [word for kind in kinds if typing.get_origin(kind) is typing.Literal for word in typing.get_args(kind)]
    if value in literals:
        return None
    if bool in kinds:
        return None if isinstance(value, bool) else f"must be true or false, not {_shown(value)}"
    if int in kinds:
        if isinstance(value, bool) or not isinstance(value, int):
            also = "".join(f' or "{word}"' for word in literals)
            return f"must be an integer{also}, not {_shown(value)}"
        if rule.minimum is not None and value < rule.minimum:
            return f"must be at least {rule.minimum}, not {value}"
        if rule.maximum is not None and value > rule.maximum:
            return f"must be at most {rule.maximum}, not {value}"
        return None
    if not isinstance(value, str):
        return f"must be a string, not {_shown(value)}"
    if "\0" in value:
        return "must not contain a NUL character"
    if rule.choices and value not in rule.choices:
        return f"must be one of {', '.join(rule.choices)}, not {_shown(value)}{_suggest(value, rule.choices)}"
    if rule.pattern is not None and not re.fullmatch(rule.pattern, value):
        return f"{_shown(value)} does not match {rule.pattern}"
    return None


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
    for index, name in enumerate(job.inherit_environment):
        if not _VARIABLE.fullmatch(name) or name.startswith(_RESERVED):
            yield f"inherit_environment[{index}]: '{name}' cannot be a variable's name"
    for index, pattern in enumerate(job.outputs):
        if not pattern or pattern.startswith("/") or ".." in Path(pattern).parts:
            yield f"outputs[{index}]: '{pattern}' must be a path below the output folder"
    seen: set[str] = set()
    for index, given in enumerate(job.inputs):
        yield from _check_input(index, given)
        if (variable := input_variable(given.name)) in seen:
            yield f"inputs[{index}].name: two inputs would share the variable {variable}"
        seen.add(variable)
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
    if given.table and given.sha256:
        yield f"{where}.sha256: belongs to a file; a table is pinned by version"


def input_variable(name: str) -> str:
    """Returns the environment variable that holds the path of the input called `name`."""
    return "SLUICE_INPUT_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


def _suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f" (known: {', '.join(known)})"


def _shown(value: object) -> str:
    return repr(value)[:80]
