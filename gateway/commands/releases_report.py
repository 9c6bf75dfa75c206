"""`sluice releases report ID`: every decision of a release with its evidence, as text, JSON or an HTML page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from gateway.cli import NO, OK
from gateway.commands.registry_access import with_registry
from gateway.registry.bundle_document import render_bundle
from gateway.registry.release_document import render_release
from gateway.registry.release_history import bundles_of, release_of
from gateway.registry.store import Store
from gateway.reports.page import page_of
from gateway.reports.text import report_text


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when there is no such release."""
    return with_registry(parsed, lambda store: _report(store, parsed))


def _report(store: Store, parsed: argparse.Namespace) -> int:
    release, bundles = release_of(store, parsed.id), bundles_of(store, parsed.id)
    if parsed.html is not None:
        page = page_of(release, bundles)
        if parsed.html == "-":
            print(page, end="")
            return OK
        try:
            Path(parsed.html).write_text(page, encoding="utf-8")
        except OSError as error:
            print(f"sluice: {parsed.html} cannot be written: {error.strerror}", file=sys.stderr)
            return NO
    if parsed.json:
        document = render_release(release) | {"bundles": [json.loads(render_bundle(bundle)) for bundle in bundles]}
        print(json.dumps(document, indent=1))
    elif parsed.html is not None:
        print(f"{parsed.html} has the report")
    else:
        print(report_text(release, bundles))
    return OK
