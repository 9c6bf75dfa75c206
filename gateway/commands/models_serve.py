"""`sluice models serve MODEL VERSION`: says in the registry which version is served; running gateways follow."""

from __future__ import annotations

import argparse
import json

from gateway.cli import OK
from gateway.commands.registry_access import actor_of, with_registry
from gateway.registry.store import Store
from gateway.registry.switching import serve_version
from gateway.versions import ModelVersion


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when that version cannot be served."""
    return with_registry(parsed, lambda store: _serve(store, parsed))


def _serve(store: Store, parsed: argparse.Namespace) -> int:
    version = ModelVersion(parsed.model, parsed.version)
    also = tuple(dict.fromkeys(n for n in parsed.also if n != parsed.version)) if parsed.also is not None else None
    pointer = serve_version(
        store, version, actor=actor_of(parsed), reason=parsed.reason, also=also,
        allow_breaking=parsed.allow_breaking, retry=parsed.retry,
    )  # fmt: skip
    if parsed.json:
        facts = {
            "model": parsed.model,
            "stable": pointer.stable,
            "also": pointer.also,
            "generation": pointer.generation,
        }
        print(json.dumps(facts))
    else:
        beside = f", {', '.join(map(str, pointer.also))} loaded beside it" if pointer.also else ""
        print(f"{version} is the one to serve (generation {pointer.generation}){beside}")
    return OK
