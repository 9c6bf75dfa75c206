"""`sluice releases history [MODEL]`: what was done to releases, newest first."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gateway.cli import OK
from gateway.commands.registry_access import with_registry
from gateway.commands.table import table
from gateway.registry.release_history import release_entries
from gateway.registry.store import Store

_HEAD = ("when", "release", "what", "version", "status", "step", "who", "why")


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code."""
    return with_registry(parsed, lambda store: _history(store, parsed))


def _history(store: Store, parsed: argparse.Namespace) -> int:
    entries = release_entries(store, parsed.model, max(1, parsed.limit))
    if parsed.json:
        print(json.dumps({"entries": entries}))
    else:
        print(table(_HEAD, [_row(entry) for entry in entries]) if entries else "there was no release yet")
    return OK


def _row(entry: dict[str, Any]) -> list[str]:
    weight = entry.get("weight_bp")
    step = "-" if weight is None else f"{weight / 100:g} %" if weight else "shadow"
    what = str(entry.get("action", "")).removeprefix("release ")
    found = [entry.get("at"), entry.get("release"), what, entry.get("version"), entry.get("status"), step,
             entry.get("actor"), entry.get("reason")]  # fmt: skip
    return ["-" if value is None or value == "" else str(value) for value in found]
