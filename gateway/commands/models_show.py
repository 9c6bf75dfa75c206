"""`sluice models show [MODEL [VERSION]]`: what the registry holds, whether a gateway runs or not."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gateway.cli import OK
from gateway.commands.registry_access import with_registry
from gateway.commands.table import table
from gateway.registry.overview import manifest_document, model_overview, registry_overview
from gateway.registry.store import Store
from gateway.registry.switching import NotInRegistry, check_who
from gateway.registry.verifying import models_in
from gateway.versions import ModelVersion

_HEAD = ("model", "version", "state", "MB", "targets", "gate", "published", "by", "why")


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when there is no such model or version."""
    return with_registry(parsed, lambda store: _show(store, parsed))


def _show(store: Store, parsed: argparse.Namespace) -> int:
    if parsed.model is None:
        found = registry_overview(store)
        print(json.dumps(found, indent=2) if parsed.json else _shown(found["models"]))
        return OK
    check_who(parsed.model, "-")
    if parsed.model not in models_in(store):
        raise NotInRegistry(f"{parsed.model} is not in the registry")
    if parsed.version is not None:
        manifest = manifest_document(store, ModelVersion(parsed.model, parsed.version))
        if manifest is None:
            raise NotInRegistry(f"{parsed.model}/{parsed.version} is not in the registry")
        print(json.dumps(manifest, indent=2))
        return OK
    model = model_overview(store, parsed.model)
    print(json.dumps(model, indent=2) if parsed.json else _shown([model]))
    return OK


def _shown(models: list[dict[str, Any]]) -> str:
    rows = [_row(model["name"], version) for model in models for version in model["versions"]]
    problems = [f"! {model['name']}: {model['problem']}" for model in models if "problem" in model]
    return "\n".join([table(_HEAD, rows) if rows else "no versions", *problems])


def _row(name: str, version: dict[str, Any]) -> list[str]:
    if "problem" in version:
        return [name, str(version["version"]), version["state"], "-", "-", "-", "-", "-", version["problem"]]
    origin = version["published"]
    return [
        name,
        str(version["version"]),
        version["state"],
        f"{version['bytes'] / 1e6:.1f}",
        ", ".join(map(str, version["targets"])),
        _gate(version["gate"]),
        str(origin.get("at", "-"))[:19],
        str(origin.get("by", "-")),
        str(origin.get("reason", "") or "-"),
    ]


def _gate(found: dict[str, Any] | None) -> str:
    """Returns the INT8 gate's verdict; FORCED cannot be overlooked."""
    if found is None:
        return "-"
    forced = found["forced"]
    if isinstance(forced, dict):
        return f"FORCED by {forced.get('by', '?')}: {forced.get('reason', '?')}"
    return str(found["verdict"])
