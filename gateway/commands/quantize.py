"""`sluice quantize …`: hands over to the package `quantize`, which is imported only here and only then."""

from __future__ import annotations

import argparse
import sys

from gateway.cli import BAD_USAGE
from gateway.commands.configuration import configuration, report
from gateway.config_loading import ConfigError


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code (`sluice quantize publish --help` lists them)."""
    try:
        from quantize.commands import run as run_action
    except ImportError as error:
        print(f"sluice: {error.name} is missing: pip install 'sluice[quantize]'", file=sys.stderr)
        return BAD_USAGE
    location = None
    if parsed.action == "publish":
        try:
            location = parsed.registry or configuration(parsed).registry.root
        except ConfigError as error:
            report(error)
            return BAD_USAGE
    return run_action(parsed, location)
