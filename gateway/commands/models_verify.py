"""`sluice models verify [MODEL [VERSION]]`: checks every byte of the registry against the manifests."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from gateway.cli import NO, OK
from gateway.commands.progress import Bar
from gateway.commands.registry_access import with_registry
from gateway.registry.store import Store
from gateway.registry.switching import NotInRegistry
from gateway.registry.verifying import Finding, models_in, verify_model


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when anything is not as it was published."""
    return with_registry(parsed, lambda store: _verify(store, parsed))


def _verify(store: Store, parsed: argparse.Namespace) -> int:
    models = models_in(store)
    if parsed.model is not None:
        if parsed.model not in models:
            raise NotInRegistry(f"{parsed.model} is not in the registry")
        models = [parsed.model]
    findings: list[Finding] = []
    bar = Bar()
    try:
        for model in models:
            findings += verify_model(store, model, parsed.version, bar)
    finally:
        bar.clear()
    if parsed.json:
        print(json.dumps({"models": models, "findings": [asdict(finding) for finding in findings]}))
    else:
        print(
            "\n".join(map(str, findings))
            if findings
            else f"{', '.join(models) or 'no model'}: all files are as published"
        )
    return NO if findings else OK
