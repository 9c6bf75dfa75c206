"""`sluice models retire MODEL [VERSION]`: retires a version that is not served, or stops serving a model."""

from __future__ import annotations

import argparse
import json

from gateway.cli import OK
from gateway.commands.registry_access import actor_of, with_registry
from gateway.registry.store import Store
from gateway.registry.switching import retire_version, stop_serving
from gateway.versions import ModelVersion


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when it is not there or gets traffic."""
    return with_registry(parsed, lambda store: _retire(store, parsed))


def _retire(store: Store, parsed: argparse.Namespace) -> int:
    actor = actor_of(parsed)
    if parsed.version is None:
        pointer = stop_serving(store, parsed.model, actor=actor, reason=parsed.reason)
        text = f"{parsed.model} is not to be served any more (generation {pointer.generation}); its versions are kept"
    else:
        version = ModelVersion(parsed.model, parsed.version)
        retired = retire_version(store, version, actor=actor, reason=parsed.reason)
        assert retired is not None
        pointer = retired
        text = f"{version} is retired: it can not be served again, and `sluice models gc` removes it later"
    facts = {
        "model": parsed.model,
        "version": parsed.version,
        "stable": pointer.stable,
        "generation": pointer.generation,
    }
    print(json.dumps(facts) if parsed.json else text)
    return OK
