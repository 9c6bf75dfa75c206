"""Typed files: a document (TOML or JSON, nested dicts and lists) becomes an instance of a frozen dataclass.

Decides what is wrong with a document by its class: types, and the `Rule` of each setting (`jobs.job`). Invariants: all
problems are found before anything is reported; a problem names the setting by its dotted path; an unknown key is a
problem, with the likely spelling; nothing is ever half loaded.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jobs.job import Rule, default_of, rule_of

MAX_FILE_BYTES = 1 << 20
_HINTS: dict[type[Any], dict[str, Any]] = {}


class JobError(ValueError):
    """The file cannot be used; `problems` has one sentence for everything that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read(path: Path) -> object:
    """Returns the document in a file. Raises JobError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise JobError([f"{path}: cannot be read: {error.strerror}"]) from error
    if len(content) > MAX_FILE_BYTES:
        raise JobError([f"{path}: is larger than {MAX_FILE_BYTES} bytes"])
    try:
        text = content.decode("utf-8")
        return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except UnicodeDecodeError:
        raise JobError([f"{path}: is not UTF-8 text"]) from None
    except (ValueError, RecursionError) as error:
        raise JobError([f"{path}: {error}"]) from error


def plain(table: Any) -> dict[str, Any]:
    """Returns what differs from the defaults, as a document that JSON can carry."""
    found = {}
    for setting in dataclasses.fields(table):
        value = getattr(table, setting.name)
        if value == default_of(setting):
            continue
        if dataclasses.is_dataclass(value):
            value = plain(value)
        elif isinstance(value, tuple):
            value = [plain(entry) if dataclasses.is_dataclass(entry) else entry for entry in value]
        elif isinstance(value, Mapping):
            value = dict(value)
        found[setting.name] = value
    return found


def table(cls: type[Any], document: object, where: str, problems: list[str]) -> Any:
    """Returns an instance of `cls`, or None if a problem was added to `problems`; `where` is its dotted path."""
    if not isinstance(document, Mapping):
        problems.append(f"{where or 'the file'}: must be a table, not {shown(document)}")
        return None
    before = len(problems)
    hints = _hints(cls)
    settings = {setting.name: setting for setting in dataclasses.fields(cls)}
    values = {}
    for key, value in document.items():
        dotted = f"{where}.{key}" if where else str(key)
        if key not in settings:
            problems.append(f"{dotted}: unknown setting{suggest(str(key), settings)}")
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
        return table(typing.cast(type[Any], hint), value, where, problems)
    origin = typing.get_origin(hint) or hint
    if origin is tuple:
        if not isinstance(value, list):
            problems.append(f"{where}: must be a list, not {shown(value)}")
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
        problems.append(f"{where}: must be a table, not {shown(value)}")
        return {}
    for key, entry in value.items():
        if not isinstance(entry, str if item is str else (str, int, float, bool)):
            kind = "a string" if item is str else "a string, a number or a boolean"
            problems.append(f"{where}.{key}: must be {kind}, not {shown(entry)}")
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
    if {bool, int, float, str} <= set(kinds):
        if isinstance(value, str) and "\0" in value:
            return "must not contain a NUL character"
        known = isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
        return None if known else f"must be a string, a finite number or a boolean, not {shown(value)}"
    if float in kinds:
        return _number_problem(rule, value)
    if bool in kinds:
        return None if isinstance(value, bool) else f"must be true or false, not {shown(value)}"
    if int in kinds:
        if isinstance(value, bool) or not isinstance(value, int):
            also = "".join(f' or "{word}"' for word in literals)
            return f"must be an integer{also}, not {shown(value)}"
        if rule.minimum is not None and value < rule.minimum:
            return f"must be at least {rule.minimum}, not {value}"
        if rule.maximum is not None and value > rule.maximum:
            return f"must be at most {rule.maximum}, not {value}"
        return None
    if not isinstance(value, str):
        return f"must be a string, not {shown(value)}"
    if "\0" in value:
        return "must not contain a NUL character"
    if rule.choices and value not in rule.choices:
        return f"must be one of {', '.join(rule.choices)}, not {shown(value)}{suggest(value, rule.choices)}"
    if rule.pattern is not None and not re.fullmatch(rule.pattern, value):
        return f"{shown(value)} does not match {rule.pattern}"
    return None


def _number_problem(rule: Rule, value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"must be a finite number, not {shown(value)}"
    if rule.minimum is not None and value < rule.minimum:
        return f"must be at least {rule.minimum}, not {value}"
    if rule.maximum is not None and value > rule.maximum:
        return f"must be at most {rule.maximum}, not {value}"
    return None


def suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f" (known: {', '.join(known)})"


def shown(value: object) -> str:
    return repr(value)[:80]
