"""Finds and loads the configuration that a command was given, and says what is wrong with it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from gateway.config import Config
from gateway.config_loading import ConfigError, load

DEFAULT_FILE = "gateway.toml"


def configuration(parsed: argparse.Namespace) -> Config:
    """Returns the configuration from --config (else ./gateway.toml if it exists), the environment and --set.

    Raises:
        ConfigError: with every problem found.
    """
    return load(config_file(parsed), os.environ, parsed.overrides)


def config_file(parsed: argparse.Namespace) -> str | None:
    """Returns the file that is read, or None if there is none."""
    if parsed.config is not None:
        chosen: str = parsed.config
        return chosen
    return DEFAULT_FILE if Path(DEFAULT_FILE).exists() else None


def report(error: ConfigError) -> None:
    """Prints every problem on standard error."""
    count = len(error.problems)
    print(f"sluice: the configuration has {count} problem{'s' if count != 1 else ''}:", file=sys.stderr)
    for problem in error.problems:
        print(f"  - {problem}", file=sys.stderr)
