"""`sluice models history [MODEL]`: the registry's journal, newest first."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gateway.cli import OK
from gateway.commands.registry_access import with_registry
from gateway.commands.table import table
from gateway.registry.overview import history
from gateway.registry.store import Store

_HEAD = ("when", "who", "what", "model", "version", "generation", "why")


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code."""
    return with_registry(parsed, lambda store: _history(store, parsed))


def _history(store: Store, parsed: argparse.Namespace) -> int:
    entries = history(store, parsed.model, parsed.limit)
    if parsed.json:
        print(json.dumps({"entries": entries}))
    else:
        print(table(_HEAD, [_row(entry) for entry in entries]) if entries else "nothing was changed yet")
    return OK


def _row(entry: dict[str, Any]) -> list[str]:
    found = [entry.get(key) for key in ("at", "actor", "action", "model", "version", "generation", "reason")]
    return ["-" if value is None or value == "" else str(value) for value in found]
