"""Shows a `Config`: as TOML that could be loaded again, and as plain data for JSON. Secrets are withheld."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from gateway.config import SECTIONS, Config, ModelConfig
from gateway.config_rules import rule_of

WITHHELD = "(withheld)"


def effective(config: Config) -> str:
    """Returns the configuration as TOML; every value that is not the default is marked with what the default is."""
    lines: list[str] = []
    for section in SECTIONS:
        lines += [f"[{section}]", *_section(getattr(config, section)), ""]
    for name, model in config.models.items():
        lines += [f"[models.{json.dumps(name)}]", *_section(model), ""]
    return "\n".join(lines)


def as_dict(config: Config) -> dict[str, Any]:
    """Returns the configuration as nested dicts, lists and scalars; models show only what they set themselves."""
    shown = {section: _plain(getattr(config, section)) for section in SECTIONS}
    shown["models"] = {name: _plain(model) for name, model in config.models.items()}
    return shown


def changed(config: Config) -> list[str]:
    """Returns the dotted names of the settings that differ from their defaults."""
    names = []
    for section in SECTIONS:
        body = getattr(config, section)
        names += [f"{section}.{s.name}" for s in dataclasses.fields(body) if getattr(body, s.name) != s.default]
    for name, model in config.models.items():
        names += [f"models.{name}.{s.name}" for s in dataclasses.fields(model) if getattr(model, s.name) is not None]
    return names


def literal(value: object) -> str:
    """Returns a setting's value as it is written in TOML."""
    if isinstance(value, tuple):
        return "[" + ", ".join(literal(entry) for entry in value) + "]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, except that JSON leaves DEL alone and TOML does not.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _section(body: Any) -> Iterator[str]:
    for setting in dataclasses.fields(body):
        value = getattr(body, setting.name)
        if rule_of(setting).secret:
            yield f"# {setting.name}: {'set, ' + WITHHELD if value else 'not set'}"
        elif value is None:
            continue
        elif value == setting.default:
            yield f"{setting.name} = {literal(value)}"
        elif isinstance(body, ModelConfig):
            yield f"{setting.name} = {literal(value)}  # this model's own"
        else:
            yield f"{setting.name} = {literal(value)}  # changed; the default is {literal(setting.default)}"


def _plain(body: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for setting in dataclasses.fields(body):
        value = getattr(body, setting.name)
        if rule_of(setting).secret:
            shown[setting.name] = WITHHELD if value else ""
        elif value is not None:
            shown[setting.name] = list(value) if isinstance(value, tuple) else value
    return shown
