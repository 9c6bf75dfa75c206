"""`sluice models gc`: removes retired versions and what crashed publishers left in the registry."""

from __future__ import annotations

import argparse
import json

from gateway.cli import OK
from gateway.commands.registry_access import actor_of, with_registry
from gateway.registry.collecting import Ages, collect
from gateway.registry.store import Store


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code."""
    return with_registry(parsed, lambda store: _collect(store, parsed))


def _collect(store: Store, parsed: argparse.Namespace) -> int:
    ages = Ages(retired_s=parsed.retired_hours * 3600, unfinished_s=parsed.unfinished_hours * 3600)
    found = collect(store, actor=actor_of(parsed), reason=parsed.reason, ages=ages, remove=not parsed.dry_run)
    if parsed.json:
        facts = {
            "removed": not parsed.dry_run,
            "versions": [str(version) for version in found.versions],
            "leftovers": list(found.leftovers),
            "journal_entries_recovered": found.recovered,
        }
        print(json.dumps(facts))
        return OK
    verb = "would remove" if parsed.dry_run else "removed"
    lines = [f"{verb} {version} (retired)" for version in found.versions]
    lines += [f"{verb} {leftover}" for leftover in found.leftovers]
    if found.recovered:
        lines.append(f"wrote {found.recovered} journal entries that a publisher which died could not write")
    print("\n".join(lines) if lines else "nothing to remove")
    return OK
