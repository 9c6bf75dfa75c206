"""`sluice models publish DIR|FILE.onnx --name N`: a new version in the registry, with --serve the one to serve."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from gateway import __version__
from gateway.cli import OK
from gateway.commands.progress import Bar
from gateway.commands.registry_access import actor_of, with_registry
from gateway.registry.describing import DescribeOptions
from gateway.registry.publishing import PublishOptions, described, publish_version
from gateway.registry.store import Store


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when the source cannot be published."""
    return with_registry(parsed, lambda store: _publish(store, parsed))


def _publish(store: Store, parsed: argparse.Namespace) -> int:
    source = Path(parsed.source)
    describe = DescribeOptions(max_batch_size=parsed.max_batch_size, description=parsed.description)
    if parsed.dry_run:
        found = described(source, describe)
        print(json.dumps({**found.document, "files": sorted(found.files), "notes": list(found.notes)}, indent=2))
        return OK
    bar = Bar()
    try:
        published = publish_version(
            store, source, parsed.name, actor=actor_of(parsed), reason=parsed.reason,
            options=PublishOptions(
                serve=parsed.serve, describe=describe, tool=f"sluice {__version__}", progress=bar
            ),
        )  # fmt: skip
    finally:
        bar.clear()
    if parsed.json:
        print(json.dumps(asdict(published)))
        return OK
    serving = f", served from generation {published.generation} on" if published.generation is not None else ""
    print(f"{published.version} published ({published.size / 1e6:.1f} MB){serving}")
    for note in published.notes:
        print(f"  {note}")
    if published.generation is None:
        print(f"  not served yet: sluice models serve {published.version.model_name} {published.version.number}")
    return OK
