"""The JSON Schema of the job file, generated from `jobs.job`; `job.schema.json` is the shipped copy.

Decides how a rule is said in JSON Schema (draft 2020-12). Invariant: whatever the schema refuses, `job_loading` refuses
too; what only the combination of settings shows (command or function) is said with `oneOf` where JSON Schema can.
Run `python -m jobs.job_schema` after a change of `jobs.job`.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.job import Input, Job, Rule, default_of, rule_of

SHIPPED = Path(__file__).with_name("job.schema.json")
_SCALARS = {int: "integer", str: "string", bool: "boolean", float: "number"}


def schema() -> dict[str, Any]:
    """Returns the schema."""
    job = _object(Job)
    job["oneOf"] = [{"required": ["command"]}, {"required": ["function"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Sluice job", **job}


def text() -> str:
    """Returns the schema as it is shipped."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _object(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    properties: dict[str, Any] = {}
    required = []
    for setting in dataclasses.fields(cls):
        rule = rule_of(setting)
        properties[setting.name] = {"description": rule.doc, **_type(hints[setting.name], rule)}
        if default_of(setting) is dataclasses.MISSING:
            required.append(setting.name)
        elif isinstance(setting.default, str | int | float | bool):
            properties[setting.name]["default"] = setting.default
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        found["required"] = required
    if cls is Input:
        found["oneOf"] = [{"required": ["path"]}, {"required": ["table"]}]
    return found


def _type(hint: Any, rule: Rule) -> dict[str, Any]:
    origin = typing.get_origin(hint) or hint
    if dataclasses.is_dataclass(hint):
        return _object(typing.cast(type[Any], hint))
    if origin is tuple:
        return {"type": "array", "items": _type(typing.get_args(hint)[0], rule)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        item = typing.get_args(hint)[1]
        kinds = [_SCALARS[kind] for kind in (typing.get_args(item) or (item,))]
        return {"type": "object", "additionalProperties": {"type": kinds if len(kinds) > 1 else kinds[0]}}
    if origin in (typing.Union, types.UnionType):
        kinds_ = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return {"anyOf": [_type(kind, rule) for kind in kinds_]}
    if origin is typing.Literal:
        return {"enum": list(typing.get_args(hint))}
    found: dict[str, Any] = {"type": _SCALARS[hint]}
    if hint in (int, float):
        bounds = {"minimum": rule.minimum, "maximum": rule.maximum}
        found |= {word: bound for word, bound in bounds.items() if bound is not None}
    elif hint is str and rule.choices:
        found["enum"] = list(rule.choices)
    elif hint is str and rule.pattern:
        found["pattern"] = f"^({rule.pattern})$"
    return found


if __name__ == "__main__":
    SHIPPED.write_text(text(), encoding="utf-8")
