"""`sluice models fetch`: gets the artifacts that the registry describes and does not carry."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateway.cli import BAD_USAGE, NO, OK
from gateway.commands.configuration import configuration, report
from gateway.config_loading import ConfigError
from gateway.registry.directory import DirectorySource
from gateway.registry.fetching import FetchError, fetch, missing

CACHE = Path(".cache") / "wheels"


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when something could not be fetched."""
    try:
        root = Path(configuration(parsed).registry.root)
    except ConfigError as error:
        report(error)
        return BAD_USAGE
    if not root.is_dir():
        print(f"sluice: registry.root: {root} is not a folder", file=sys.stderr)
        return BAD_USAGE
    try:
        wanted = missing(DirectorySource(root))
        count = fetch(wanted, CACHE, lambda text: print(text, flush=True)) if wanted else 0
    except (FetchError, OSError) as error:
        print(f"sluice: {error}", file=sys.stderr)
        return NO
    print(f"{count} file{'s' if count != 1 else ''} fetched into {root}" if count else f"{root}: nothing is missing")
    return OK
